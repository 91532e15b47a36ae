"""Draws the paper's Figures 2 and 3 for our runs, and two of our own, as PNG and SVG.

python tools/make_figures.py runs/ecf_minilm_grid --out=results/figures

RESULTS are grids (tools/run_grid.py) or single runs. Whiskers of differences are 95 % intervals of
the paired bootstrap (rpcl_jax/evaluation/bootstrap.py); whiskers of bars are standard deviations
over seeds. A difference whose interval contains 0 is drawn hollow.
"""

import argparse
import importlib.util
from pathlib import Path

from rpcl_jax.errors import InputError
from rpcl_jax.run.command_line import run_tool


def main() -> None:
    """Reads the command line and draws the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="grids or runs")
    parser.add_argument("--out", required=True, type=Path, help="folder of the figures")
    run_tool("make_figures", parser, _make_figures)


def _make_figures(arguments: argparse.Namespace) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("matplotlib is not installed; pip install -r requirements-tools.txt")
    from rpcl_jax.reporting.experiments import read_experiments
    from rpcl_jax.reporting.figures import write_figures

    for path in write_figures(read_experiments(arguments.results), arguments.out):
        print(path)


if __name__ == "__main__":
    main()
