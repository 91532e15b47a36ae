"""Writes the paper's five tables for our runs and two of our own, as Markdown, CSV and LaTeX.

rpcl tables runs/ecf_minilm_grid --out=results/tables

RESULTS are grids (`rpcl grid`) or single runs, of any benchmarks and modalities. Every
difference comes with a 95 % interval, from a paired bootstrap over test dialogues and seeds
(rpcl_jax/evaluation/bootstrap.py). Those whose interval contains 0 are marked; those, gains or
losses, whose interval excludes it are bold. F1 is given at the threshold chosen on validation and
at 0.5. Table 6 has a paired t test over seeds for every objective against base and, for each
metric, Holm's correction over all settings, so the choice of RESULTS decides what is one family;
its last rows are means over the settings. Table 7 is Causal Emotion Entailment, for RECCON.
"""

from pathlib import Path

from absl import flags

from rpcl_jax.run.command_line import require, run_command

_OUT = flags.DEFINE_string("out", "", "Folder of the tables.")


def _make_tables(*results: str) -> None:
    from rpcl_jax.reporting.experiments import read_experiments
    from rpcl_jax.reporting.tables import write_tables

    for path in write_tables(read_experiments([Path(path) for path in results]), Path(_OUT.value)):
        print(path.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_command("tables", _make_tables, lambda *_: require(_OUT), takes="RESULTS…")
