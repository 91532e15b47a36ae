"""Prints the tables of results/README.md from the files beside it, or another difference of means.

    python results/summary.py
    python results/summary.py test.severity_hard rpcl ccps --benchmark=ecf

The second is the mean difference, in points, of a column of frozen/*_frozen_*.csv between two
objectives over the settings of both benchmarks or of one, with the p-value of the paired t test
over seeds.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout need not be installed

from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.evaluation.significance import paired_t
from rpcl_jax.reporting.experiments import interval_text, p_text
from rpcl_jax.reporting.tables import PUBLISHED_ENTAILMENT

HERE = Path(__file__).parent
METRICS = {  # columns by name
    "Pair F1": "test.pair_f1",
    "F1 at 0.5": "test.pair_f1_at_half",
    "AUPRC": "test.pair_auprc",
}
ENTAILMENT = {
    "F1 of causes": "test.cee_positive_f1",
    "F1 of others": "test.cee_negative_f1",
    "macro F1": "test.cee_macro_f1",
}
FLAGS = {  # of each backbone with the encoder frozen
    "transformer": "",
    "hilo": "`--config.model.backbone=hilo --config.model.scorer_layers=2`",
    "two_step": "`--config.model.backbone=two_step --config.model.fusion_layers=2`",
    "graph": "`--config.model.backbone=graph`",
}

Row = dict[str, str]  # of a CSV file
# The runs of an objective in a setting, by (benchmark, backbone; "" if fine-tuned) and objective.
Runs = dict[tuple[str, str], dict[str, list[Row]]]


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("column", nargs="?", help="such as test.pair_f1; without it, all tables")
    parser.add_argument("objectives", nargs="*", help="two, such as rpcl base")
    parser.add_argument("--benchmark", choices=["ecf", "reccon"])
    given = parser.parse_args()
    if given.column is None:
        print("\n".join(tables()))
    elif len(given.objectives) == 2:
        one, other = given.objectives
        try:
            print(difference(given.column, one, other, given.benchmark))
        except KeyError as error:
            parser.error(f"{error} is neither a column nor an objective of frozen/*_frozen_*.csv")
    else:
        parser.error("give a column and two objectives, or nothing")


def tables() -> list[str]:
    """Returns the tables of the page in Markdown."""
    frozen, fine_tuned = frozen_runs(), fine_tuned_runs()
    return [
        frozen_table(frozen),
        fine_tuned_table(fine_tuned),
        entailment_table(frozen | fine_tuned),
        best_runs_table(frozen | fine_tuned),
    ]


def frozen_runs() -> Runs:
    """Returns the runs with the encoder frozen, in the order of FLAGS."""
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
    rows = []
    for objective in list(runs["ecf", "transformer"])[1:]:
        row = [f"**mean of all {len(runs)}**", f"`{objective}`"]
        for name in METRICS:
            row += ["", *_over_base(compared, name, "", objective)]
        rows.append(row)
    for (benchmark, backbone), of in runs.items():
        row = [f"{benchmark.upper()}, {backbone}", "`rpcl`"]
        for name, column in METRICS.items():
            row.append(f"{_values(of['base'], column).mean():.2f}")
            row += _over_base(compared, name, f"{benchmark}_frozen_{backbone}", "rpcl")
        rows.append(row)
    header = [part for name in METRICS for part in (f"{name} of base", "over it", "p")]
    return _markdown(["", "objective", *header], rows)


def fine_tuned_table(runs: Runs) -> str:
    """Returns the scores with the encoder fine-tuned, and the differences from base."""
    compared = _read("fine_tuned/table6_significance.csv")
    rows = []
    for (benchmark, _), of in runs.items():
        for objective, found in of.items():
            seeds = ", ".join(run["seed"] for run in found)
            row = [f"{benchmark.upper()}, seeds {seeds}", f"`{objective}`"]
            row += [_spread(found, column) + _parts(found, column) for column in METRICS.values()]
            rows.append(row)
            if objective != "base":
                rows.append(
                    ["", "difference", *_differences(compared, f"{benchmark}_minilm", objective)]
                )
    rows.append(["mean of both", "difference", *_differences(compared, "", "rpcl")])
    scores = [name + " (precision, recall)" * ("F1" in name) for name in METRICS]
    return _markdown(["", "objective", *scores], rows)


def entailment_table(runs: Runs) -> str:
    """Returns Causal Emotion Entailment on RECCON of base and rpcl beside published scores."""
    rows = [
        [f"{system}, fine-tuned, published", *(f"{score:.2f}" for score in scores)]
        for _, system, *scores in PUBLISHED_ENTAILMENT
    ]
    for (benchmark, backbone), of in runs.items():
        name = f"`{backbone}`" if backbone else "`transformer`, fine-tuned"
        for objective in ("base", "rpcl") if benchmark == "reccon" else ():
            scores = [_spread(of[objective], metric) for metric in ENTAILMENT.values()]
            rows.append([f"ours, {name}, `{objective}`", *scores])
    return _markdown(["system", *ENTAILMENT], rows)


def best_runs_table(runs: Runs) -> str:
    """Returns the seed with the best validation Pair F1 of each setting and objective."""
    objectives = list(dict.fromkeys(objective for of in runs.values() for objective in of))
    rows = []
    for (benchmark, backbone), of in runs.items():
        config = f"configs/{benchmark}_{'frozen' if backbone else 'minilm'}.py"
        best = {o: max(rows, key=lambda row: float(row["dev.pair_f1"])) for o, rows in of.items()}
        seeds = [best[o]["seed"] if o in best else "" for o in objectives]
        rows.append([config, FLAGS.get(backbone, "without `NPROC=1`"), *seeds])
    return _markdown(["`--config`", "flags", *(f"`{o}`" for o in objectives)], rows)


def difference(column: str, one: str, other: str, benchmark: str | None = None) -> str:
    """Returns the difference of means over the frozen settings, and its p-value over seeds."""
    settings = [of for (b, _), of in frozen_runs().items() if benchmark in (None, b)]
    means = (
        np.mean([_values(of[objective], column) for of in settings], axis=0)
        for objective in (one, other)
    )
    interval, p = paired_t(*means)
    return f"{interval.difference:+.2f}, p {p_text(p)}".replace("-", "−")


def _read(file: str) -> list[Row]:
    with (HERE / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _by_objective(rows: list[Row]) -> dict[str, list[Row]]:
    """Returns the runs of each objective, in the order of their seeds."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        found[row["objective"]].append(row)
    return dict(found)


def _values(runs: list[Row], column: str) -> np.ndarray:
    """Returns a column of runs, in points."""
    return 100 * np.array([float(run[column]) for run in runs])


def _spread(runs: list[Row], column: str) -> str:
    values = _values(runs, column)
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def _over_base(compared: list[Row], metric: str, grid: str, objective: str) -> tuple[str, str]:
    """Returns a difference of Table 6, bold if it is a gain and excludes 0, and its p-values."""
    (row,) = (
        row
        for row in compared
        if (row["grid"], row["objective"], row["metric"]) == (grid, objective, metric)
    )
    value, low, high = (float(row[f"over base ({part})"]) for part in ("difference", "low", "high"))
    interval = Interval(value, low, high, int(row["over base (seeds)"]))
    text, _ = interval_text(interval)
    p, corrected = (float(row[name]) for name in ("p", "p (Holm)"))
    p_values = p_text(p) + f", {p_text(corrected)}" * (corrected < 1)
    return f"**{text}**" if interval.low > 0 else text, p_values


def _differences(compared: list[Row], grid: str, objective: str) -> list[str]:
    found = (_over_base(compared, name, grid, objective) for name in METRICS)
    return [f"{text}, p {p_values}" for text, p_values in found]


def _parts(runs: list[Row], column: str) -> str:
    """Returns the mean precision and recall of an F1; nothing for another column."""
    if "f1" not in column:
        return ""
    parts = (column.replace("f1", kind) for kind in ("precision", "recall"))
    return " ({})".format(", ".join(f"{_values(runs, part).mean():.2f}" for part in parts))


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
