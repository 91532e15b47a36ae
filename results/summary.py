"""Prints the tables of these pages and best_runs.sh from the files beside it, and draws means.png.

    python results/summary.py
    python results/summary.py test.severity_hard rpcl ccps --benchmark=ecf --study=fine_tuned

The second is the mean difference, in points, of a column of the runs' CSV files between two
objectives over the settings of both benchmarks or of one, with the 95 % interval and the p-value of
the paired t test over seeds.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.evaluation.significance import paired_t
from rpcl_jax.reporting.experiments import interval_text, p_text
from rpcl_jax.reporting.tables import NAMES, PUBLISHED_ENTAILMENT, Table, Value, markdown
from rpcl_jax.run.base_config import OBJECTIVES

HERE = Path(__file__).parent
_DROPOUT = "--config.model.dropout=0.3"
STUDIES = {  # a folder each: its settings, and the flags of each beside its config
    "frozen": {
        "frozen_transformer": "",
        "frozen_hilo": "--config.model.backbone=hilo --config.model.scorer_layers=2",
        "frozen_two_step": "--config.model.backbone=two_step --config.model.fusion_layers=2",
        "frozen_graph": "--config.model.backbone=graph",
    },
    "fine_tuned": {
        "minilm": f"--config.model.fusion_layers=2 --config.model.scorer_layers=1 {_DROPOUT}",
        "minilm_cut": f"--config.model.fusion_layers=0 --config.model.scorer_layers=3 {_DROPOUT}",
    },
    "lower_dropout": {"minilm": ""},
}
LABELS = {  # layers before and after h
    ("fine_tuned", "minilm"): "2 + 1 layers",
    ("fine_tuned", "minilm_cut"): "0 + 3 layers",
    ("lower_dropout", "minilm"): "dropout 0.15",
}


class Setting(NamedTuple):
    """Whose runs are in STUDY/BENCHMARK_NAME.csv."""

    study: str
    benchmark: str
    name: str


Row = dict[str, str]  # of a CSV file
Runs = dict[Setting, dict[str, list[Row]]]  # by objective


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("column", nargs="?", help="such as test.pair_f1")
    parser.add_argument("objectives", nargs="*", help="two, such as rpcl base")
    parser.add_argument("--benchmark", choices=["ecf", "reccon"])
    parser.add_argument("--study", choices=STUDIES, default="frozen")
    given = parser.parse_args()
    if given.column is None and (given.benchmark, given.study) == (None, "frozen"):
        print(*tables(), best_runs(), sep="\n", end="")
        draw_means(HERE / "means.png")
    elif len(given.objectives) == 2:
        one, other = given.objectives
        try:
            print(difference(given.column, one, other, given.benchmark, given.study))
        except KeyError as error:
            parser.error(f"{error} is neither a column nor an objective of {given.study}/*.csv")
        except ValueError:
            parser.error(f"{given.column} holds text, not numbers")
    else:
        parser.error("give a column and two objectives, or nothing")


def tables() -> list[str]:
    """Returns the tables of the report, and last the one of the repository's README.md."""
    frozen, fine_tuned, lower_dropout = map(runs_of, STUDIES)
    return [
        study_table(frozen, in_each=["rpcl"]),
        study_table(fine_tuned),
        study_table(lower_dropout),
        entailment_table(frozen | fine_tuned | lower_dropout),
        short_table(frozen | lower_dropout),
    ]


def runs_of(study: str) -> Runs:
    """Returns the runs of one of STUDIES."""
    return {
        Setting(study, benchmark, name): _by_objective(_read(f"{study}/{benchmark}_{name}.csv"))
        for benchmark in ("ecf", "reccon")
        for name in STUDIES[study]
    }


def study_table(runs: Runs, in_each: Sequence[str] = OBJECTIVES) -> str:
    """Returns base's scores and what objectives change, with p-values, in the mean and by setting.

    Every objective has a row for the mean of all settings, those of `in_each` one for each setting.
    """
    objectives = [o for o in OBJECTIVES if o != "base" and all(o in of for of in runs.values())]
    mean = f"**mean of {'both' if len(runs) == 2 else f'all {len(runs)}'}**"
    groups = [(mean, list(runs), objectives)]
    groups += [(_label(s), [s], [o for o in objectives if o in in_each]) for s in runs]
    rows: list[list[Value]] = []
    for label, settings, compared in groups:
        study, benchmark, setting = settings[0]
        differences = _read(f"{study}/tables/table6_significance.csv")
        grid = f"{benchmark}_{setting}" if len(settings) == 1 else ""
        of = [runs[setting] for setting in settings]
        rows.append([label, "`base`", *(_mean(of, "base", metric) for metric in NAMES)])
        for objective in compared:
            changes = (_over_base(differences, name, grid, objective) for name in NAMES.values())
            rows.append(["", f"`{objective}`", *(f"{text}, p {p}" for text, p in changes)])
    return markdown(Table("", ["", "objective", *NAMES.values()], rows))


def short_table(runs: Runs) -> str:
    """Returns the Pair F1 of base and RPCL with our own backbone, as the configs have it."""
    rows: list[list[Value]] = []
    for encoder, study, name in (
        ("frozen", "frozen", "frozen_transformer"),
        ("fine-tuned", "lower_dropout", "minilm"),
    ):
        differences = _read(f"{study}/tables/table6_significance.csv")
        for benchmark in ("ecf", "reccon"):
            of = [runs[Setting(study, benchmark, name)]]
            means = (_mean(of, objective, "pair_f1") for objective in ("base", "rpcl"))
            change, _ = _over_base(differences, "Pair F1", f"{benchmark}_{name}", "rpcl")
            rows.append([f"{benchmark.upper()}, {encoder}", *means, change])
    return markdown(Table("", ["setting", "base", "RPCL", "difference in Pair F1"], rows))


def entailment_table(runs: Runs) -> str:
    """Returns Causal Emotion Entailment on RECCON of base and rpcl beside published scores."""
    rows: list[list[Value]] = [
        [f"{system}, fine-tuned, published", *(f"{score:.2f}" for score in scores)]
        for _, system, *scores in PUBLISHED_ENTAILMENT
    ]
    for setting, of in runs.items():
        backbone = "fine-tuned, " * (setting.study != "frozen") + _own_label(setting)
        for objective in ("base", "rpcl") if setting.benchmark == "reccon" else ():
            scores = (
                _values(of[objective], f"test.cee_{s}_f1")
                for s in ("positive", "negative", "macro")
            )
            rows.append([f"ours, {backbone}, `{objective}`", *scores])
    return markdown(Table("", ["system", "F1 of causes", "F1 of others", "macro F1"], rows))


def draw_means(path: Path) -> None:
    """Draws the mean differences in Pair F1 with their intervals."""
    import matplotlib.pyplot as plt

    shown = {
        "RPCL, frozen, eight settings": ("frozen", "rpcl"),
        "RPCL, fine-tuned, two settings": ("lower_dropout", "rpcl"),
        "RPCL, at twice the dropout, four": ("fine_tuned", "rpcl"),
        "the pair loss 1.75 times, the same four": ("fine_tuned", "pair_weight"),
    }
    figure, axes = plt.subplots(figsize=(7, 2), layout="constrained")
    for row, (study, objective) in enumerate(shown.values()):
        compared = _read(f"{study}/tables/table6_significance.csv")
        value, low, high, _ = _interval(_comparison(compared, "Pair F1", "", objective))
        value, low, high = 100 * value, 100 * low, 100 * high
        axes.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color="#0b6fb8")
        axes.annotate(
            f"{value:+.2f}", (value, row), (0, 6), textcoords="offset points", ha="center"
        )
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set(yticks=range(len(shown)), yticklabels=shown, xlabel="difference in Pair F1, points")
    axes.invert_yaxis()
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def best_runs() -> str:
    """Returns the commands of best_runs.sh."""
    lines = ["# The run with the best validation Pair F1 of each setting and objective."]
    for study, names in STUDIES.items():
        for (_, benchmark, name), of in runs_of(study).items():
            config = f"configs/{benchmark}_{name.partition('_')[0]}.py"
            for objective, found in of.items():
                seed = max(found, key=lambda row: float(row["dev.pair_f1"]))["seed"]
                # A run's number of threads changes its last bits.
                command = f"NPROC=1 python -m rpcl_jax.main --config={config}:{objective}"
                workdir = f"runs/best/{study}/{benchmark}_{name}-{objective}"
                command += f" --config.seed={seed} --workdir={workdir} {names[name]}"
                lines.append(command.strip())
    return "\n".join(lines) + "\n"


def difference(
    column: str, one: str, other: str, benchmark: str | None = None, study: str = "frozen"
) -> str:
    """Returns a difference of means over the settings of a study, with its 95 % interval and p.

    Both are those of the paired t test over seeds.
    """
    settings = [of for s, of in runs_of(study).items() if benchmark in (None, s.benchmark)]
    means = (
        np.mean([_values(of[objective], column) for of in settings], axis=0)
        for objective in (one, other)
    )
    interval, p = paired_t(*means)
    return f"{interval_text(interval)[0]}, p {p_text(p)}"


def _label(setting: Setting) -> str:
    return f"{setting.benchmark.upper()}, {_own_label(setting)}"


def _own_label(setting: Setting) -> str:
    return LABELS.get((setting.study, setting.name), setting.name.removeprefix("frozen_"))


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


def _mean(settings: list[dict[str, list[Row]]], objective: str, metric: str) -> str:
    means = [_values(of[objective], f"test.{metric}").mean() for of in settings]
    return f"{100 * np.mean(means):.2f}"


def _comparison(compared: list[Row], metric: str, grid: str, objective: str) -> Row:
    """Returns a row of Table 6; `grid` is "" for the mean of all settings."""
    wanted = metric, grid, objective
    (row,) = (r for r in compared if (r["metric"], r["grid"], r["objective"]) == wanted)
    return row


def _interval(row: Row) -> Interval:
    value, low, high = (float(row[f"over base ({part})"]) for part in ("difference", "low", "high"))
    return Interval(value, low, high, int(row["over base (seeds)"]))


def _over_base(compared: list[Row], metric: str, grid: str, objective: str) -> tuple[str, str]:
    """Returns a difference of Table 6 and its p-values: alone and, where this tells more, by Holm.

    The difference is bold if its interval excludes 0 and the corrected p is below 0.05.
    """
    row = _comparison(compared, metric, grid, objective)
    interval = _interval(row)
    text, _ = interval_text(interval)
    p, corrected = p_text(float(row["p"])), p_text(float(row["p (Holm)"]))
    bold = not interval.contains_zero and float(row["p (Holm)"]) < 0.05
    return f"**{text}**" if bold else text, p if corrected in (p, "1.000") else f"{p}, {corrected}"


if __name__ == "__main__":
    main()
