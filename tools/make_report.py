"""Makes one HTML page about one or two runs: numbers, curves, and every test conversation.

python tools/make_report.py RUN [OTHER_RUN] --out=report.html

Two runs, for example base and rpcl, must have the same test conversations. The page needs no
network and no other file. It contains the texts of the test split, so keep it only where the
corpus may be kept.
"""

import argparse
from pathlib import Path

from rpcl_jax.files import write_text
from rpcl_jax.run.command_line import run_tool


def main() -> None:
    """Reads the command line and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument(
        "other", nargs="?", type=Path, metavar="RUN", help="another one, to stand beside it"
    )
    parser.add_argument("--out", required=True, type=Path, help="the HTML file")
    run_tool("make_report", parser, _make_report)


def _make_report(arguments: argparse.Namespace) -> None:
    from rpcl_jax.reporting.experiments import read_run
    from rpcl_jax.reporting.report import make_page, report_data

    folders = [folder for folder in (arguments.run, arguments.other) if folder]
    page = make_page(report_data([read_run(folder) for folder in folders]))
    write_text(arguments.out, page)
    print(f"{arguments.out}: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
