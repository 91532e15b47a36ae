"""Makes one HTML page about one or two runs, or about a file of predictions.

python tools/make_report.py RUN [OTHER_RUN] --out=report.html
python tools/make_report.py PAIRS.json [--clips=DIR] --out=pairs.html

Of runs, it shows numbers, curves, and every test conversation. Two runs, for example base and rpcl,
must have the same test conversations. The page needs no network and no other file. It contains the
texts of the test split, so keep it only where the corpus may be kept.

Of a JSON file that --mode=predict wrote, it shows every conversation, with a slider for the
threshold. With --clips, the clip of an utterance plays when it is chosen, as long as page and
clips keep their places.
"""

import argparse
from pathlib import Path

from rpcl_jax.errors import InputError
from rpcl_jax.files import write_text
from rpcl_jax.run.command_line import is_page, run_tool


def main() -> None:
    """Reads the command line and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a finished run, or a JSON file of predictions"
    )
    parser.add_argument(
        "other", nargs="?", type=Path, metavar="RUN", help="another one, to stand beside it"
    )
    parser.add_argument("--out", required=True, type=_page, help="the HTML file")
    parser.add_argument("--clips", type=Path, help="folder of the clips of a file of predictions")
    run_tool("make_report", parser, _make_report)


def _page(name: str) -> Path:
    if not is_page(name):
        raise argparse.ArgumentTypeError(f"{name!r} is not the name of a page; end it in .html")
    return Path(name)


def _make_report(arguments: argparse.Namespace) -> None:
    given = [path for path in (arguments.run, arguments.other) if path]
    for path in given:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        if path.is_file() and len(given) > 1:
            raise InputError(f"{path}: is a file; give it alone, or two runs")
    if arguments.run.is_file():
        from rpcl_jax.reporting.pairs_page import write_page

        write_page(arguments.run, arguments.out, arguments.clips)
        print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")
        return
    if arguments.clips:
        raise InputError(f"--clips: is for a file of predictions, and {arguments.run} is none")
    from rpcl_jax.reporting.experiments import read_run
    from rpcl_jax.reporting.report import make_page, report_data

    page = make_page(report_data([read_run(folder) for folder in given]))
    write_text(arguments.out, page)
    print(f"{arguments.out}: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
