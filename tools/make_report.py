"""Makes one HTML page about one or two runs: numbers, curves, and every test conversation.

python tools/make_report.py RUN [OTHER_RUN] --out=report.html

Two runs, for example base and rpcl, must have the same test conversations. The page needs no
network and no other file. It contains the texts of the test split, so keep it only where the
corpus may be kept.
"""

import argparse
from pathlib import Path

from rpcl_jax.files import write_text
from rpcl_jax.run.command_line import one_line, prepare


def main() -> None:
    """Reads the command line and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="one or two runs")
    parser.add_argument("--out", required=True, type=Path, help="the HTML file")
    arguments = parser.parse_args()
    if len(arguments.runs) > 2:
        parser.error("give one run or two")
    prepare()
    with one_line("make_report"):
        from rpcl_jax.reporting.experiments import read_run
        from rpcl_jax.reporting.report import make_page, report_data

        page = make_page(report_data([read_run(folder) for folder in arguments.runs]))
        write_text(arguments.out, page)
        print(f"{arguments.out}: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
