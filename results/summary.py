"""Prints the tables of README.md and best_runs.sh from the files beside it, or another difference.

    python results/summary.py
    python results/summary.py test.severity_hard rpcl ccps --benchmark=ecf

The second is the mean difference, in points, of a column of frozen/*_frozen_*.csv between two
objectives over the settings of both benchmarks or of one, with the p-value of the paired t test
over seeds.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.evaluation.significance import paired_t
from rpcl_jax.reporting.experiments import interval_text, p_text
from rpcl_jax.reporting.tables import (
    NAMES,
    PARTS,
    PUBLISHED_ENTAILMENT,
    Table,
    Value,
    format_value,
    markdown,
)
from rpcl_jax.run.base_config import OBJECTIVES

HERE = Path(__file__).parent
FLAGS = {  # of each backbone with the encoder frozen
    "transformer": "",
    "hilo": "--config.model.backbone=hilo --config.model.scorer_layers=2",
    "two_step": "--config.model.backbone=two_step --config.model.fusion_layers=2",
    "graph": "--config.model.backbone=graph",
}

OVER_BASE = "over `base`"

Row = dict[str, str]  # of a CSV file
# Rows of the runs by (benchmark, backbone) and objective; fine-tuned ones have no backbone's name.
Runs = dict[tuple[str, str], dict[str, list[Row]]]


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("column", nargs="?", help="such as test.pair_f1")
    parser.add_argument("objectives", nargs="*", help="two, such as rpcl base")
    parser.add_argument("--benchmark", choices=["ecf", "reccon"])
    given = parser.parse_args()
    if given.column is None:
        print(*tables(), best_runs(), sep="\n", end="")
    elif len(given.objectives) == 2:
        one, other = given.objectives
        try:
            print(difference(given.column, one, other, given.benchmark))
        except KeyError as error:
            parser.error(f"{error} is neither a column nor an objective of frozen/*_frozen_*.csv")
        except ValueError:
            parser.error(f"{given.column} holds text, not numbers")
    else:
        parser.error("give a column and two objectives, or nothing")


def tables() -> list[str]:
    """Returns the tables of the page in Markdown."""
    frozen, fine_tuned = frozen_runs(), fine_tuned_runs()
    return [
        frozen_table(frozen),
        fine_tuned_table(fine_tuned),
        entailment_table(frozen | fine_tuned),
    ]


def frozen_runs() -> Runs:
    """Returns the runs with the encoder frozen."""
    return {
        (benchmark, backbone): _by_objective(_read(f"frozen/{benchmark}_frozen_{backbone}.csv"))
        for benchmark in ("ecf", "reccon")
        for backbone in FLAGS
    }


def fine_tuned_runs() -> Runs:
    """Returns the runs with the encoder fine-tuned; those on a GPU are of other settings too."""
    rows = [row for row in _read("fine_tuned.csv") if row["device"] == "1 x cpu"]
    return {
        (benchmark, ""): _by_objective([row for row in rows if row["benchmark"] == benchmark])
        for benchmark in ("ecf", "reccon")
    }


def frozen_table(runs: Runs) -> str:
    """Returns each objective's difference from base in the mean of all, and RPCL's in each."""
    compared = _read("frozen/tables/table6_significance.csv")
    rows: list[list[Value]] = []
    for objective in OBJECTIVES:
        if any(row["objective"] == objective and not row["grid"] for row in compared):
            row: list[Value] = [f"**mean of all {len(runs)}**", f"`{objective}`"]
            for name in NAMES.values():
                row += ["", *_over_base(compared, name, "", objective)]
            rows.append(row)
    for (benchmark, backbone), of in runs.items():
        row = [f"{benchmark.upper()}, {backbone}", "`rpcl`"]
        for metric, name in NAMES.items():
            row.append(_mean(of["base"], metric))
            row += _over_base(compared, name, f"{benchmark}_frozen_{backbone}", "rpcl")
        rows.append(row)
    header = [part for name in NAMES.values() for part in (f"{name} of base", "over it", "p")]
    return markdown(Table("", ["", "objective", *header], rows))


def fine_tuned_table(runs: Runs) -> str:
    """Returns the scores with the encoder fine-tuned, and the differences from base."""
    compared = _read("fine_tuned/table6_significance.csv")

    def differences(grid: str, objective: str) -> list[str]:
        return [", p ".join(_over_base(compared, n, grid, objective)) for n in NAMES.values()]

    rows: list[list[Value]] = []
    for (benchmark, _), of in runs.items():
        for objective, found in of.items():
            seeds = ", ".join(row["seed"] for row in found)
            row: list[Value] = [f"{benchmark.upper()}, seeds {seeds}", f"`{objective}`"]
            for metric in NAMES:
                text, _ = format_value(_values(found, f"test.{metric}"))
                parts = ", ".join(_mean(found, part) for part in PARTS.get(metric, ()))
                row.append(text + f" ({parts})" * bool(parts))
            rows.append(row)
            if objective != "base":
                rows.append(["", OVER_BASE, *differences(f"{benchmark}_minilm", objective)])
    for objective in dict.fromkeys(row["objective"] for row in compared):
        rows.append([f"mean of both, `{objective}`", OVER_BASE, *differences("", objective)])
    scores = [name + " (precision, recall)" * (metric in PARTS) for metric, name in NAMES.items()]
    return markdown(Table("", ["", "objective", *scores], rows))


def entailment_table(runs: Runs) -> str:
    """Returns Causal Emotion Entailment on RECCON of base and rpcl beside published scores."""
    rows: list[list[Value]] = [
        [f"{system}, fine-tuned, published", *(f"{score:.2f}" for score in scores)]
        for _, system, *scores in PUBLISHED_ENTAILMENT
    ]
    for (benchmark, backbone), of in runs.items():
        name = f"`{backbone}`" if backbone else "`transformer`, fine-tuned"
        for objective in ("base", "rpcl") if benchmark == "reccon" else ():
            scores = (
                _values(of[objective], f"test.cee_{s}_f1")
                for s in ("positive", "negative", "macro")
            )
            rows.append([f"ours, {name}, `{objective}`", *scores])
    return markdown(Table("", ["system", "F1 of causes", "F1 of others", "macro F1"], rows))


def best_runs() -> str:
    """Returns the commands of best_runs.sh."""
    lines = ["# The run with the best validation Pair F1 of each setting and objective."]
    for (benchmark, backbone), of in (frozen_runs() | fine_tuned_runs()).items():
        config = f"configs/{benchmark}_{'frozen' if backbone else 'minilm'}.py"
        for objective, found in of.items():
            seed = max(found, key=lambda row: float(row["dev.pair_f1"]))["seed"]
            command = f"python -m rpcl_jax.main --config={config}:{objective} --config.seed={seed}"
            # A run's number of threads changes its last bits.
            lines.append(" ".join(filter(None, ["NPROC=1", command, FLAGS.get(backbone)])))
    return "\n".join(lines) + "\n"


def difference(column: str, one: str, other: str, benchmark: str | None = None) -> str:
    """Returns the difference of means over the frozen settings, and its p-value over seeds."""
    settings = [of for (b, _), of in frozen_runs().items() if benchmark in (None, b)]
    means = (
        np.mean([_values(of[objective], column) for of in settings], axis=0)
        for objective in (one, other)
    )
    interval, p = paired_t(*means)
    return f"{100 * interval.difference:+.2f}, p {p_text(p)}".replace("-", "−")


def _read(file: str) -> list[Row]:
    with (HERE / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _by_objective(rows: list[Row]) -> dict[str, list[Row]]:
    """Returns the rows of each objective, in the order of their seeds."""
    rows = sorted(rows, key=lambda row: int(row["seed"]))
    found = {o: [row for row in rows if row["objective"] == o] for o in OBJECTIVES}
    return {objective: of for objective, of in found.items() if of}


def _values(rows: list[Row], column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in rows])


def _mean(rows: list[Row], metric: str) -> str:
    return f"{100 * _values(rows, f'test.{metric}').mean():.2f}"


def _over_base(compared: list[Row], metric: str, grid: str, objective: str) -> tuple[str, str]:
    """Returns a difference of Table 6 and its p-values: alone and, where this tells more, by Holm.

    The difference is bold if its interval excludes 0 and the corrected p is below 0.05.
    """
    (row,) = (
        row
        for row in compared
        if (row["metric"], row["grid"], row["objective"]) == (metric, grid, objective)
    )
    value, low, high = (float(row[f"over base ({part})"]) for part in ("difference", "low", "high"))
    interval = Interval(value, low, high, int(row["over base (seeds)"]))
    text, _ = interval_text(interval)
    p, corrected = p_text(float(row["p"])), p_text(float(row["p (Holm)"]))
    bold = not interval.contains_zero and float(row["p (Holm)"]) < 0.05
    return f"**{text}**" if bold else text, p if corrected in (p, "1.000") else f"{p}, {corrected}"


if __name__ == "__main__":
    main()
