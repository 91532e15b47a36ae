"""The paper's five tables for our runs and two of our own, as Markdown, CSV and LaTeX."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.corpus_statistics import split_statistics
from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.evaluation.significance import holm, paired_t
from rpcl_jax.files import write_csv, write_text
from rpcl_jax.reporting.experiments import Experiment, interval_text, mean_over_settings, p_text

_LOG = logging.getLogger(__name__)
CONTROLS = ("fixed_margin", "utterance_dropout", "pair_weight")
ABLATIONS = (
    *("cdmr", "ccps"),
    *("no_alignment", "no_corrupted_ce", "no_adaptive_margin", "no_top_k"),
)
# Pair F1 on the official test splits, in percent, with the best modalities of each system.
PUBLISHED = (
    ("ECF", "MECPE-2steps", "T+A", 53.48),
    ("ECF", "HiLo", "T+A+V", 55.45),
    ("ECF", "BridgeProt", "T+A", 54.55),
    ("MECAD", "SHARK", "T", 45.74),
    ("MECAD", "M3HG", "T", 50.27),
    ("MECAD", "BridgeProt", "T+A", 57.89),
    ("MEC4", "MECPE-2steps", "T+A", 28.82),
    ("MEC4", "HiLo", "T+A+V", 35.11),
    ("MEC4", "M3F", "T+A+V", 44.79),
    ("MEC4", "BridgeProt", "T+A+V", 42.65),
)
# F1 of causes, F1 of others and macro F1 of Causal Emotion Entailment, as Papers with Code lists
# them; the emotions are part of the input there.
PUBLISHED_ENTAILMENT = (("RECCON", "RoBERTa-base", 64.28, 88.74, 76.51),)
STATISTICS_COLUMNS = (
    *("benchmark", "split", "conversations", "utterances", "emotional utterances", "pairs"),
    "mean pair distance",
)
COLUMNS = ("benchmark", "modalities", "text encoder", "grid", "seeds", "objective")
NAMES = {"pair_f1": "Pair F1", "pair_f1_at_half": "F1 at 0.5", "pair_auprc": "AUPRC"}
# What an F1 is made of, shown beside it.
PARTS = {
    metric: {
        metric.replace("f1", kind): f"{NAMES[metric]}: {kind}" for kind in ("precision", "recall")
    }
    for metric in ("pair_f1", "pair_f1_at_half")
}


class PValue(float):
    """A p-value, which is never printed as 0."""


Value = str | int | float | np.ndarray | Interval | None


class Table(NamedTuple):
    """A table; every row is as long as `columns`.

    A cell is text, a number, a metric's values over seeds (an array), a difference (an Interval)
    or empty (None).
    """

    name: str
    columns: list[str]
    rows: list[list[Value]]


def format_value(value: Value) -> tuple[str, bool]:
    """Returns the text of a cell, with metrics in points, and whether it is bold.

    A difference, gain or loss, of several seeds is bold if its interval, uncorrected, excludes 0.
    """
    match value:
        case None:
            return "", False
        case Interval():
            certain = value.seeds > 1 and not value.contains_zero
            return " ".join(interval_text(value)).strip(), certain
        case np.ndarray():
            text = f"{100 * value.mean():.2f}"
            return (f"{text} ± {100 * value.std(ddof=1):.2f}" if len(value) > 1 else text), False
        case PValue():
            return p_text(value), False
        case float():
            return f"{value:.3f}", False
        case _:
            return str(value), False


def statistics_table(experiments: Sequence[Experiment]) -> Table:
    """Returns Table 1, a row for each split of each benchmark."""
    rows: list[list[Value]] = []
    for experiment in {e.config.data.to_json(): e for e in experiments}.values():
        counted = statistics_rows(experiment.benchmark, experiment.splits)
        rows += [row for row in counted if row not in rows]
    return Table("table1_statistics", list(STATISTICS_COLUMNS), rows)


def statistics_rows(benchmark: str, splits: Mapping[str, Sequence[Dialogue]]) -> list[list[Value]]:
    """Returns the rows of Table 1 for the splits of a benchmark."""
    return [[benchmark, name, *split_statistics(split)] for name, split in splits.items()]


def _scores_table(
    experiments: Sequence[Experiment], name: str, between: Sequence[str], over_it: bool = False
) -> Table:
    """Returns rows of base, the objectives `between`, and rpcl.

    An experiment is shown if it has one of `between`, or of rpcl if there are none. A row is over
    the seeds that its objective shares with base and with rpcl, if they were run. `over_it` adds
    how much better rpcl is than each objective.
    """
    columns = list(COLUMNS)
    for metric, label in NAMES.items():
        columns += [label, *PARTS.get(metric, {}).values(), f"{label}, over base"]
        columns += [f"{label}, rpcl over it"] * over_it
    rows: list[list[Value]] = []
    for e in experiments:
        ends = [end for end in ("base", "rpcl") if end in e.runs]
        shown = not e.runs.keys().isdisjoint(between or ["rpcl"])
        for objective in ("base", *between, "rpcl") if shown else ():
            seeds = e.common_seeds(objective, *ends)
            row = _setting(e, seeds, objective)
            for metric in NAMES if seeds else ():
                row += [e.values(objective, m, seeds) for m in (metric, *PARTS.get(metric, ()))]
                for system, base in [(objective, "base"), ("rpcl", objective)][: 1 + over_it]:
                    exists = system != base and {system, base} <= e.runs.keys()
                    row.append(e.delta(system, metric, seeds, base) if exists else None)
            if seeds:
                rows.append(row)
    return Table(name, columns, rows)


main_table = partial(_scores_table, name="table2_main", between=())
controls_table = partial(_scores_table, name="table3_controls", between=CONTROLS, over_it=True)
ablations_table = partial(_scores_table, name="table5_ablations", between=ABLATIONS)


def significance_table(experiments: Sequence[Experiment]) -> Table:
    """Returns Table 6: each objective's difference from base, with bootstrap and t intervals.

    An objective needs two seeds in common with base. Of each metric, the rows of all settings
    together are one family for Holm's correction. Then come means over settings, another family.
    """
    columns = [*COLUMNS, "metric", "over base", "by paired t", "p", "p (Holm)"]
    rows: list[list[Value]] = []
    for compare in (_of_each_setting, _of_all_settings):
        for metric, label in NAMES.items():
            family: list[list[Value]] = []
            p_values: list[float] = []
            for setting, delta, (interval, p) in compare(experiments, metric):
                family.append([*setting, label, delta, interval, PValue(p)])
                p_values.append(p)
            rows += [[*row, PValue(p)] for row, p in zip(family, holm(p_values), strict=True)]
    return Table("table6_significance", columns, rows)


# What a row is of, and the difference by the bootstrap and by the t test, with its p-value.
_Compared = tuple[list[Value], Interval, tuple[Interval, float]]


def _of_each_setting(experiments: Sequence[Experiment], metric: str) -> Iterator[_Compared]:
    for e in experiments:
        for objective in e.runs:
            seeds = e.common_seeds("base", objective)
            if objective != "base" and len(seeds) > 1:
                tested = paired_t(*(e.values(o, metric, seeds) for o in (objective, "base")))
                yield _setting(e, seeds, objective), e.delta(objective, metric, seeds), tested


def _of_all_settings(experiments: Sequence[Experiment], metric: str) -> Iterator[_Compared]:
    """Yields the mean over the settings that compare an objective with base, if there are two."""
    for objective in dict.fromkeys(o for e in experiments for o in e.runs if o != "base"):
        if mean := mean_over_settings(experiments, objective, metric):
            name = f"mean of {mean.settings} settings"
            setting: list[Value] = [name, None, None, None, _list(mean.seeds), objective]
            yield setting, mean.delta, paired_t(mean.values, mean.of_base)


def published_table(experiments: Sequence[Experiment]) -> Table:
    """Returns Table 4: published systems beside ours, which differ in more than the objective."""
    shown: dict[str, str] = {}
    for metric, parts in PARTS.items():
        shown |= {metric: NAMES[metric]} | parts
    rows: list[list[Value]] = []
    for benchmark in dict.fromkeys(e.benchmark for e in experiments):
        published = [row for row in PUBLISHED if row[0] == benchmark]
        for _, system, modalities, f1 in published:
            # An array of one value, so that it is printed in points like ours.
            empty = [None] * (len(shown) - 1)
            rows.append([benchmark, system, modalities, np.array([f1 / 100]), *empty, "published"])
        for e in experiments:
            for objective in ("base", "rpcl"):
                if published and e.benchmark == benchmark and objective in e.runs:
                    seeds = e.common_seeds(objective)
                    source = f"ours, {e.encoder}, {e.grid}, seeds {_list(seeds)}"
                    values = [e.values(objective, metric, seeds) for metric in shown]
                    rows.append([benchmark, objective, e.modalities, *values, source])
    columns = ["benchmark", "system", "modalities", *shown.values(), "source"]
    return Table("table4_published", columns, rows)


def entailment_table(experiments: Sequence[Experiment]) -> Table:
    """Returns Table 7: Causal Emotion Entailment on its benchmark, beside published systems."""
    metrics = ("cee_positive_f1", "cee_negative_f1", "cee_macro_f1")
    columns = [*COLUMNS, "F1 of causes", "F1 of others", "macro F1"]
    rows: list[list[Value]] = []
    for benchmark, system, *scores in PUBLISHED_ENTAILMENT:
        ours = [e for e in experiments if e.benchmark == benchmark]
        if ours:
            # Arrays of one value, so that they are printed in points like ours.
            points = [np.array([score / 100]) for score in scores]
            rows.append([benchmark, "T", system, "published", None, None, *points])
        for e in ours:
            for objective in e.runs:
                seeds = e.common_seeds(objective)
                values = [e.values(objective, metric, seeds) for metric in metrics]
                rows.append([*_setting(e, seeds, objective), *values])
    return Table("table7_entailment", columns, rows)


def _lines(
    table: Table, escape: Callable[[str], str], bold: Callable[[str], str]
) -> list[list[str]]:
    """Returns the texts of the columns' names and of the rows."""
    lines = [[escape(column) for column in table.columns]]
    for row in table.rows:
        cells = [format_value(value) for value in row]
        lines.append([bold(escape(t)) if is_bold else escape(t) for t, is_bold in cells])
    return lines


def markdown(table: Table) -> str:
    """Returns the table in GitHub's Markdown."""
    lines = _lines(table, lambda text: text.replace("|", "\\|"), lambda text: f"**{text}**")
    lines.insert(1, ["---"] * len(table.columns))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Table) -> str:
    """Returns the table as a `tabular` with the rules of booktabs."""
    lines = _lines(table, escape_latex, lambda text: rf"\textbf{{{text}}}")
    header, *body = (" & ".join(line) + r" \\" for line in lines)
    begin = rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}"
    end = [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([begin, r"\toprule", header, r"\midrule", *body, *end])


def write_table_csv(table: Table, path: Path) -> None:
    """Writes the table's numbers as CSV.

    Values over seeds become two columns, mean and standard deviation; a difference becomes a column
    for each field of Interval.
    """
    parts = {np.ndarray: ("mean", "sd"), Interval: Interval._fields}
    columns = []
    for place, column in enumerate(table.columns):
        kinds = {type(row[place]) for row in table.rows} & parts.keys()
        columns.append([f"{column} ({part})" for kind in kinds for part in parts[kind]] or [column])
    rows = [[name for names in columns for name in names]]
    for row in table.rows:
        cells: list[Any] = []
        for value, names in zip(row, columns, strict=True):
            match value:
                case np.ndarray():
                    cells += [value.mean(), value.std(ddof=1) if len(value) > 1 else None]
                case Interval():
                    cells += value
                case _:
                    cells += [value] + [None] * (len(names) - 1)
        rows.append(cells)
    write_csv(path, rows)


def escape_latex(text: str) -> str:
    """Returns `text` with LaTeX's special characters escaped."""
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"±": r"$\pm$", "−": "$-$", "–": "--"}
    return "".join(special.get(character, character) for character in text)


def write_tables(experiments: Sequence[Experiment], out: Path) -> list[Path]:
    """Writes every table that has rows, as .md, .csv and .tex; returns the .csv paths."""
    written = []
    makers = (
        *(statistics_table, main_table, controls_table, published_table, ablations_table),
        *(significance_table, entailment_table),
    )
    for table in (make(experiments) for make in makers):
        path = out / f"{table.name}.csv"
        if not table.rows:
            for kind in (".csv", ".md", ".tex"):  # from an earlier call, and now wrong
                path.with_suffix(kind).unlink(missing_ok=True)
            _LOG.info(f"{table.name}: no runs for this table")
            continue
        write_table_csv(table, path)
        write_text(path.with_suffix(".md"), markdown(table))
        write_text(path.with_suffix(".tex"), latex(table))
        written.append(path)
    return written


def _setting(e: Experiment, seeds: Sequence[int], objective: str) -> list[Value]:
    return [e.benchmark, e.modalities, e.encoder, e.grid, _list(seeds), objective]


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
