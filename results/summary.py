"""Prints the tables of both README.md and best_runs.sh from the files beside it, or a difference.

    python results/summary.py
    python results/summary.py test.severity_hard rpcl ccps --benchmark=ecf --encoder=fine_tuned

The second is the mean difference, in points, of a column of the runs' CSV files between two
objectives over the settings of both benchmarks or of one, with the 95 % interval and the p-value of
the paired t test over seeds.
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
FLAGS = {  # of each setting, beside its config
    "frozen_transformer": "",
    "frozen_hilo": "--config.model.backbone=hilo --config.model.scorer_layers=2",
    "frozen_two_step": "--config.model.backbone=two_step --config.model.fusion_layers=2",
    "frozen_graph": "--config.model.backbone=graph",
    "minilm": "--config.model.fusion_layers=2 --config.model.scorer_layers=1",
    "minilm_cut": "--config.model.fusion_layers=0 --config.model.scorer_layers=3",
}
LAYERS = {"minilm": "2 + 1 layers", "minilm_cut": "0 + 3 layers"}  # before and after h

COMPARED = {
    "frozen": "frozen/tables/table6_significance.csv",
    "fine_tuned": "fine_tuned/tables/table6_significance.csv",
}
OVER_BASE = "over `base`"

Row = dict[str, str]  # of a CSV file
# Rows of the runs by benchmark and setting, and by objective.
Runs = dict[tuple[str, str], dict[str, list[Row]]]


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("column", nargs="?", help="such as test.pair_f1")
    parser.add_argument("objectives", nargs="*", help="two, such as rpcl base")
    parser.add_argument("--benchmark", choices=["ecf", "reccon"])
    parser.add_argument("--encoder", choices=["frozen", "fine_tuned"], default="frozen")
    given = parser.parse_args()
    if given.column is None and (given.benchmark, given.encoder) == (None, "frozen"):
        print(*tables(), best_runs(), sep="\n", end="")
    elif len(given.objectives) == 2:
        one, other = given.objectives
        try:
            print(difference(given.column, one, other, given.benchmark, given.encoder))
        except KeyError as error:
            parser.error(f"{error} is neither a column nor an objective of {given.encoder}/*.csv")
        except ValueError:
            parser.error(f"{given.column} holds text, not numbers")
    else:
        parser.error("give a column and two objectives, or nothing")


def tables() -> list[str]:
    """Returns the tables of the report, and last the one of the repository's README.md."""
    frozen, fine_tuned = runs_of("frozen"), runs_of("fine_tuned")
    return [
        frozen_table(frozen),
        fine_tuned_table(fine_tuned),
        entailment_table(frozen | fine_tuned),
        short_table(frozen | fine_tuned),
    ]


def runs_of(encoder: str) -> Runs:
    """Returns the runs with the encoder "frozen" or "fine_tuned"."""
    return {
        (benchmark, setting): _by_objective(_read(f"{encoder}/{benchmark}_{setting}.csv"))
        for benchmark in ("ecf", "reccon")
        for setting in FLAGS
        if (setting in LAYERS) == (encoder == "fine_tuned")
    }


def frozen_table(runs: Runs) -> str:
    """Returns each objective's difference from base in the mean of all, and RPCL's in each."""
    compared = _read(COMPARED["frozen"])
    rows: list[list[Value]] = []
    for objective in OBJECTIVES:
        if any(row["objective"] == objective and not row["grid"] for row in compared):
            row: list[Value] = [f"**mean of all {len(runs)}**", f"`{objective}`"]
            for name in NAMES.values():
                row += ["", *_over_base(compared, name, "", objective)]
            rows.append(row)
    for (benchmark, setting), of in runs.items():
        row = [_label(benchmark, setting), "`rpcl`"]
        for metric, name in NAMES.items():
            row.append(_mean(of["base"], metric))
            row += _over_base(compared, name, f"{benchmark}_{setting}", "rpcl")
        rows.append(row)
    header = [part for name in NAMES.values() for part in (f"{name} of base", "over it", "p")]
    return markdown(Table("", ["", "objective", *header], rows))


def fine_tuned_table(runs: Runs) -> str:
    """Returns the scores with the encoder fine-tuned, and the differences from base."""
    compared = _read(COMPARED["fine_tuned"])

    def differences(grid: str, objective: str) -> list[str]:
        return [", p ".join(_over_base(compared, n, grid, objective)) for n in NAMES.values()]

    rows: list[list[Value]] = []
    for (benchmark, setting), of in runs.items():
        for objective, found in of.items():
            row: list[Value] = [_label(benchmark, setting), f"`{objective}`"]
            for metric in NAMES:
                text, _ = format_value(_values(found, f"test.{metric}"))
                parts = ", ".join(_mean(found, part) for part in PARTS.get(metric, ()))
                row.append(text + f" ({parts})" * bool(parts))
            rows.append(row)
            if objective != "base":
                rows.append(["", OVER_BASE, *differences(f"{benchmark}_{setting}", objective)])
    for objective in dict.fromkeys(row["objective"] for row in compared):
        count = sum(objective in of for of in runs.values())
        row = [f"**mean of {'all ' * (count == len(runs))}{count}**, `{objective}`", OVER_BASE]
        rows.append([*row, *differences("", objective)])
    scores = [name + " (precision, recall)" * (metric in PARTS) for metric, name in NAMES.items()]
    return markdown(Table("", ["", "objective", *scores], rows))


def entailment_table(runs: Runs) -> str:
    """Returns Causal Emotion Entailment on RECCON of base and rpcl beside published scores."""
    rows: list[list[Value]] = [
        [f"{system}, fine-tuned, published", *(f"{score:.2f}" for score in scores)]
        for _, system, *scores in PUBLISHED_ENTAILMENT
    ]
    for (benchmark, setting), of in runs.items():
        backbone = "fine-tuned, " * (setting in LAYERS) + _label("", setting)
        for objective in ("base", "rpcl") if benchmark == "reccon" else ():
            scores = (
                _values(of[objective], f"test.cee_{s}_f1")
                for s in ("positive", "negative", "macro")
            )
            rows.append([f"ours, {backbone}, `{objective}`", *scores])
    return markdown(Table("", ["system", "F1 of causes", "F1 of others", "macro F1"], rows))


def short_table(runs: Runs) -> str:
    """Returns the scores of base and rpcl with our own backbone, as the configs have it."""
    rows: list[list[Value]] = []
    for encoder, grid in (
        ("frozen", "ecf_frozen_transformer"),
        ("frozen", "reccon_frozen_transformer"),
        ("fine_tuned", "ecf_minilm_cut"),
        ("fine_tuned", "reccon_minilm"),
    ):
        benchmark, _, setting = grid.partition("_")
        of, compared = runs[benchmark, setting], _read(COMPARED[encoder])
        row: list[Value] = [f"{benchmark.upper()}, {encoder.replace('_', '-')}"]
        for metric, name in NAMES.items():
            means = []
            for objective in ("base", "rpcl"):
                parts = ", ".join(_mean(of[objective], p) for p in PARTS.get(metric, ()))
                means.append(_mean(of[objective], metric) + f" ({parts})" * bool(parts))
            row += [" → ".join(means), _over_base(compared, name, grid, "rpcl")[0]]
        rows.append(row)
    header = [name + " (precision, recall)" * (metric in PARTS) for metric, name in NAMES.items()]
    header[0] += ": `base` → `rpcl`"
    return markdown(Table("", ["", *(c for name in header for c in (name, "difference"))], rows))


def best_runs() -> str:
    """Returns the commands of best_runs.sh."""
    lines = ["# The run with the best validation Pair F1 of each setting and objective."]
    for (benchmark, setting), of in (runs_of("frozen") | runs_of("fine_tuned")).items():
        config = f"configs/{benchmark}_{setting.partition('_')[0]}.py"
        for objective, found in of.items():
            seed = max(found, key=lambda row: float(row["dev.pair_f1"]))["seed"]
            command = f"python -m rpcl_jax.main --config={config}:{objective} --config.seed={seed}"
            command += f" --workdir=runs/best/{benchmark}_{setting}-{objective}"
            # A run's number of threads changes its last bits.
            lines.append(" ".join(filter(None, ["NPROC=1", command, FLAGS[setting]])))
    return "\n".join(lines) + "\n"


def difference(
    column: str, one: str, other: str, benchmark: str | None = None, encoder: str = "frozen"
) -> str:
    """Returns a difference of means over the encoder's settings, with its 95 % interval and p.

    Both are those of the paired t test over seeds.
    """
    settings = [of for (b, _), of in runs_of(encoder).items() if benchmark in (None, b)]
    means = (
        np.mean([_values(of[objective], column) for of in settings], axis=0)
        for objective in (one, other)
    )
    interval, p = paired_t(*means)
    return f"{interval_text(interval)[0]}, p {p_text(p)}"


def _label(benchmark: str, setting: str) -> str:
    name = LAYERS.get(setting, setting.removeprefix("frozen_"))
    return ", ".join(filter(None, [benchmark.upper(), name]))


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
