"""Compares two settings, seed by seed, on the same test dialogues.

python tools/compare.py runs/one_grid:rpcl runs/other_grid:rpcl

Each is a grid (or a run) and one of its objectives. Prints the second over the first in every
metric, in points, with the 95 % interval of the paired bootstrap (rpcl_jax/evaluation/bootstrap.py).
"""

import sys
from pathlib import Path

if not __package__:  # a script: not tools/, whose statistics.py is not Python's, but the repository
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse

from rpcl_jax.errors import InputError
from rpcl_jax.reporting.experiments import METRICS, Experiment, paired_delta, read_experiments
from rpcl_jax.run.command_line import one_line


def read_setting(argument: str) -> tuple[Experiment, str]:
    """The experiment and the objective that `GRID:OBJECTIVE` names.

    Raises:
      InputError: there is no such grid, it holds several experiments, or not this objective.
    """
    folder, _, objective = argument.rpartition(":")
    if not folder:
        raise InputError(f"{argument}: must be GRID:OBJECTIVE, for example runs/grid:rpcl")
    experiments = read_experiments([Path(folder)])
    if len(experiments) > 1:
        titles = "; ".join(experiment.title for experiment in experiments)
        raise InputError(f"{folder}: holds several experiments ({titles}); give one of them")
    if objective not in experiments[0].runs:
        raise InputError(f"{folder}: has no {objective!r}; it has {', '.join(experiments[0].runs)}")
    return experiments[0], objective


def main() -> None:
    """Reads the command line and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", metavar="GRID:OBJECTIVE", help="what is compared with")
    parser.add_argument("system", metavar="GRID:OBJECTIVE", help="what may be better")
    arguments = parser.parse_args()
    with one_line("compare"):
        other, base = read_setting(arguments.base)
        system, objective = read_setting(arguments.system)
        if other.splits["test"] != system.splits["test"]:
            raise InputError(f"{arguments.system}: on other test dialogues than {arguments.base}")
        seeds = [seed for seed in other.runs[base] if seed in system.runs[objective]]
        if not seeds:
            raise InputError(f"{arguments.system}: no seed in common with {arguments.base}")
        print("seeds", *seeds)
        names = (arguments.base, arguments.system, "difference", "low", "high")
        print(f"{'test, in points':16s}", *(f"{name[-12:]:>12s}" for name in names))
        for metric in METRICS:
            delta = paired_delta(system, objective, other, base, metric, seeds)
            means = (
                experiment.values(name, metric, seeds).mean()
                for experiment, name in ((other, base), (system, objective))
            )
            numbers = (f"{100 * value:12.2f}" for value in (*means, *delta[:3]))
            note = "  contains 0" if delta.contains_zero else ""
            print(f"{metric:16s}", *numbers, note)


if __name__ == "__main__":
    main()
