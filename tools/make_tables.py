"""Writes the paper's five tables for our runs and two of our own, as Markdown, CSV and LaTeX.

python tools/make_tables.py runs/ecf_minilm_grid --out=results/tables

RESULTS are grids (tools/run_grid.py) or single runs, of any benchmarks and modalities. Every
difference comes with a 95 % interval, from a paired bootstrap over test dialogues and seeds
(rpcl_jax/evaluation/bootstrap.py). Those whose interval contains 0 are marked; those, gains or
losses, whose interval excludes it are bold. F1 is given at the threshold chosen on validation and
at 0.5. Table 6 has a paired t test over seeds for every objective against base and, for each
metric, Holm's correction over all settings, so the choice of RESULTS decides what is one family;
its last rows are means over the settings. Table 7 is Causal Emotion Entailment, for RECCON.
"""

import argparse
from pathlib import Path

from rpcl_jax.run.command_line import run_tool


def main() -> None:
    """Reads the command line and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="grids or runs")
    parser.add_argument("--out", required=True, type=Path, help="folder of the tables")
    run_tool("make_tables", parser, _make_tables)


def _make_tables(arguments: argparse.Namespace) -> None:
    from rpcl_jax.reporting.experiments import read_experiments
    from rpcl_jax.reporting.tables import write_tables

    for path in write_tables(read_experiments(arguments.results), arguments.out):
        print(path.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
