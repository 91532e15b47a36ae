"""Makes one HTML page about one or two runs, or about a file of predictions.

rpcl report RUN [OTHER_RUN] --out=report.html
rpcl report PAIRS.json [--clips=DIR] --out=pairs.html

Of runs, it shows numbers, curves, and every test conversation. Two runs, for example base and rpcl,
must have the same test conversations. The page needs no network and no other file. It contains the
texts of the test split, so keep it only where the corpus may be kept.

Of a JSON file that `rpcl predict` wrote, it shows every conversation, with a slider for the
threshold. With --clips, the clip of an utterance plays when it is chosen, as long as page and
clips keep their places.
"""

from pathlib import Path

from absl import flags

from rpcl_jax.errors import InputError
from rpcl_jax.files import write_text
from rpcl_jax.run.command_line import check_page, require, run_command

_OUT = flags.DEFINE_string("out", "", "The HTML file.")
_CLIPS = flags.DEFINE_string("clips", "", "Folder of the clips of a file of predictions.")


def _check_flags(*_: str) -> None:
    require(_OUT)
    check_page(_OUT)


def _make_report(*paths: str) -> None:
    given, out = [Path(path) for path in paths], Path(_OUT.value)
    clips = Path(_CLIPS.value) if _CLIPS.value else None
    for path in given:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        if path.is_file() and len(given) > 1:
            raise InputError(f"{path}: is a file; give it alone, or two runs")
    if given[0].is_file():
        from rpcl_jax.reporting.pairs_page import write_page

        write_page(given[0], out, clips)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
        return
    if clips:
        raise InputError(f"--clips: is for a file of predictions, and {given[0]} is none")
    from rpcl_jax.reporting.experiments import read_run
    from rpcl_jax.reporting.report import make_page, report_data

    page = make_page(report_data([read_run(folder) for folder in given]))
    write_text(out, page)
    print(f"{out}: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command("report", _make_report, _check_flags, takes="RUN [RUN]")
