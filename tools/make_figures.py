"""Draws the paper's Figures 2 and 3 for our runs, and two of our own, as PNG and SVG.

rpcl figures runs/ecf_minilm_grid --out=results/figures

RESULTS are grids (`rpcl grid`) or single runs. Whiskers of differences are 95 % intervals of
the paired bootstrap (rpcl_jax/evaluation/bootstrap.py); whiskers of bars are standard deviations
over seeds. A difference whose interval contains 0 is drawn hollow.
"""

import importlib.util
from pathlib import Path

from absl import flags

from rpcl_jax.errors import InputError
from rpcl_jax.run.command_line import require, run_command

_OUT = flags.DEFINE_string("out", "", "Folder of the figures.")


def _make_figures(*results: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError('matplotlib is not installed; pip install "rpcl_jax[figures]"')
    from rpcl_jax.reporting.experiments import read_experiments
    from rpcl_jax.reporting.figures import write_figures

    for path in write_figures(read_experiments([Path(path) for path in results]), Path(_OUT.value)):
        print(path)


if __name__ == "__main__":
    run_command("figures", _make_figures, lambda *_: require(_OUT), takes="RESULTS…")
