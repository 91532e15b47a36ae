"""The paper's Figures 2 and 3 for our runs, and two of our own, as PNG and SVG.

Whiskers of differences are 95 % intervals of the paired bootstrap; whiskers of bars are standard
deviations over seeds. A difference of one seed, or whose interval contains 0, is drawn hollow.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot is imported; needs no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.evaluation.metrics import f1_curve
from rpcl_jax.files import atomic_write
from rpcl_jax.reporting.experiments import Experiment, interval_text, mean_over_settings

_LOG = logging.getLogger(__name__)
# Okabe and Ito's colours, which colour-blind readers can tell apart. The greys and the dark red are
# not theirs.
COLOURS = {
    "base": "#0072B2",
    "rpcl": "#D55E00",
    "fixed_margin": "#E69F00",
    "utterance_dropout": "#CC79A7",
    "pair_weight": "#882255",
    "cdmr": "#56B4E9",
    "ccps": "#009E73",
    "no_alignment": "#000000",
    "no_corrupted_ce": "#666666",
    "no_adaptive_margin": "#999999",
    "no_top_k": "#F0E442",
}
OTHER_COLOUR = "#7B3294"  # of an objective that has none of its own
MODALITIES = ("T", "T+A", "T+V", "T+A+V")
STYLE = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.hashsalt": "rpcl_jax",  # makes the files reproducible
}


def diagnostics_figure(experiments: Sequence[Experiment]) -> Figure | None:
    """Returns Figure 2: gaps, operating points, and changes in the direction RPCL wants."""
    experiments = [e for e in experiments if e.common_seeds("base", "rpcl")]
    if not experiments:
        return None
    figure, axes = plt.subplots(
        len(experiments),
        4,
        figsize=(13, 3.2 * len(experiments)),
        width_ratios=[3, 3, 2, 2],
        squeeze=False,
    )
    for row, experiment in zip(axes, experiments, strict=True):
        _draw_gaps(row[0], experiment)
        _draw_operating_points(row[1], experiment)
        # Severities are far smaller than confidences and would vanish on a common axis.
        _draw_changes(row[2], experiment, ["gold_confidence"], "gold confidence")
        _draw_changes(row[3], experiment, ["severity_hard", "severity_all"], "violation severity")
        row[0].set_ylabel(experiment.title, fontsize=8)
    # Patches above all panels, where a dot would look like data.
    patches = [Patch(color=COLOURS[objective], label=objective) for objective in ("base", "rpcl")]
    figure.legend(handles=patches, loc="outside upper center", ncols=2)
    return figure


def _draw_gaps(axes: Axes, experiment: Experiment) -> None:
    seeds = experiment.common_seeds("base", "rpcl")
    for place, metric in enumerate(("gap_hard", "gap_all")):
        for shift, objective in ((-0.2, "base"), (0.2, "rpcl")):
            values = 100 * experiment.values(objective, metric, seeds)
            axes.bar(
                *(place + shift, values.mean(), 0.38),
                yerr=values.std(ddof=1) if len(values) > 1 else None,
                color=COLOURS[objective],
                capsize=3,
            )
        axes.annotate(
            "\n".join(filter(None, interval_text(experiment.delta("rpcl", metric, seeds)))),
            (place, 1),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    axes.set_xticks([0, 1], ["hard negatives", "all negatives"])
    spread = ", ± sd over seeds" if len(seeds) > 1 else ""
    axes.set_title(f"gold-negative gap (points{spread})", pad=24)


def _draw_operating_points(axes: Axes, experiment: Experiment) -> None:
    seeds = experiment.common_seeds("base", "rpcl")
    for objective in ("base", "rpcl"):
        recall, precision = (
            100 * experiment.values(objective, f"pair_{name}", seeds)
            for name in ("recall", "precision")
        )
        axes.scatter(recall, precision, s=14, alpha=0.5, color=COLOURS[objective], lw=0)
        means = recall.mean(), precision.mean()
        axes.scatter(*means, s=60, color=COLOURS[objective], zorder=3)
    axes.margins(0.3)
    _draw_f1_lines(axes)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    large = ", means large" if len(seeds) > 1 else ""
    axes.set_title(f"operating points{large} (lines: equal F1)", pad=24)


def _draw_f1_lines(axes: Axes) -> None:
    """Draws lines of equal F1 without changing the limits of the axes."""
    left, right, bottom, top = axes.axis()
    recall = np.linspace(max(left, 1), right, 200)
    grid = recall, np.linspace(max(bottom, 1), top, 200)
    x, y = np.meshgrid(*grid)
    f1 = 2 * x * y / (x + y)
    lines = axes.contour(x, y, f1, levels=8, colors="#bbbbbb", linewidths=0.6)
    axes.clabel(lines, fontsize=6, fmt="%.1f")
    axes.axis((left, right, bottom, top))


def _draw_changes(axes: Axes, experiment: Experiment, metrics: Sequence[str], title: str) -> None:
    """Draws rpcl − base, signed so that up is what RPCL wants: more confidence, less severity."""
    seeds = experiment.common_seeds("base", "rpcl")
    for place, metric in enumerate(metrics):
        delta = experiment.delta("rpcl", metric, seeds)
        _draw_interval(axes, place, delta, -1 if metric.startswith("severity") else 1)
    names = {"gold_confidence": "gold pairs", "severity_hard": "hard", "severity_all": "all"}
    axes.set_xticks(range(len(metrics)), [names[metric] for metric in metrics])
    axes.set_xlim(-0.6, len(metrics) - 0.4)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_ylabel("points, desired direction up")
    axes.set_title(f"change of {title}", pad=24)


def _draw_interval(
    axes: Axes,
    place: float,
    delta: Interval,
    sign: int = 1,
    *,
    colour: str = COLOURS["rpcl"],
    label: str | None = None,
    across: bool = False,
) -> None:
    """Draws a difference in points with its interval; hollow if of one seed or if 0 is in it."""
    value = 100 * sign * delta.difference
    ends = sorted(100 * sign * end for end in (delta.low, delta.high))
    # A percentile interval may exclude the difference itself; error bars must not be negative.
    error = [[max(value - ends[0], 0)], [max(ends[1] - value, 0)]]
    axes.errorbar(
        *((value, place) if across else (place, value)),
        xerr=error if across else None,
        yerr=None if across else error,
        fmt="o",
        color=colour,
        mfc="white" if delta.contains_zero or delta.seeds == 1 else colour,
        capsize=3,
        label=label,
    )


def modalities_figure(experiments: Sequence[Experiment]) -> Figure | None:
    """Returns Figure 3: rpcl − base in every modality setting that was run, a series per setup."""
    experiments = [e for e in experiments if e.common_seeds("base", "rpcl")]
    setups = list(dict.fromkeys(e.setup for e in experiments))
    if not experiments:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True)
    names = {"pair_f1": "Pair F1", "pair_auprc": "AUPRC"}
    modalities = [m for m in MODALITIES if any(e.modalities == m for e in experiments)]
    for panel, (metric, name) in zip(axes, names.items(), strict=True):
        for number, setup in enumerate(setups):
            label: str | None = setup
            for e in (e for e in experiments if e.setup == setup):
                delta = e.delta("rpcl", metric, e.common_seeds("base", "rpcl"))
                shift = 0.6 * ((number + 0.5) / len(setups) - 0.5)
                place = modalities.index(e.modalities) + shift
                colour = plt.get_cmap("tab10")(number)
                _draw_interval(panel, place, delta, colour=colour, label=label)
                label = None
        panel.axhline(0, color="black", lw=0.8)
        panel.set_xticks(range(len(modalities)), modalities)
        panel.set_xlim(-0.5, len(modalities) - 0.5)
        panel.set_ylabel("rpcl − base (points)")
        panel.set_title(name)
    legend = axes[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", fontsize=7)
    return figure


def objectives_figure(experiments: Sequence[Experiment]) -> Figure | None:
    """Returns a forest plot of every objective's difference from base, and of the means of all."""
    names = {"pair_f1": "Pair F1", "pair_f1_at_half": "Pair F1 at 0.5", "pair_auprc": "AUPRC"}
    lines: list[tuple[str, str, list[Interval]]] = []  # label, objective, differences by metric
    for objective in dict.fromkeys(o for e in experiments for o in e.runs if o != "base"):
        means = [m for name in names if (m := mean_over_settings(experiments, objective, name))]
        if means:
            label = f"mean of {means[0].settings} settings: {objective}"
            lines.append((label, objective, [mean.delta for mean in means]))
    for e, title in zip(experiments, _distinguishing_titles(experiments), strict=True):
        for objective in e.runs:
            seeds = e.common_seeds("base", objective)
            if objective != "base" and seeds:
                deltas = [e.delta(objective, metric, seeds) for metric in names]
                lines.append((f"{title}: {objective}", objective, deltas))
    if not lines:
        return None
    figure, panels = plt.subplots(1, 3, figsize=(12, 1.2 + 0.22 * len(lines)), sharey=True)
    for column, (axes, name) in enumerate(zip(panels, names.values(), strict=True)):
        for place, (_, objective, deltas) in enumerate(lines):
            _draw_interval(
                axes,
                place,
                deltas[column],
                colour=COLOURS.get(objective, OTHER_COLOUR),
                across=True,
            )
        axes.axvline(0, color="black", lw=0.8)
        axes.set_title(f"{name}, over base (points)")
    panels[0].set_yticks(range(len(lines)), [label for label, *_ in lines], fontsize=7)
    panels[0].invert_yaxis()
    return figure


def _distinguishing_titles(experiments: Sequence[Experiment]) -> list[str]:
    """Returns titles without what all experiments share; empty or equal ones name the grid."""
    words = [
        [e.benchmark, e.modalities, *e.encoder.split(", "), e.config.model.backbone]
        for e in experiments
    ]
    shared = set.intersection(*map(set, words)) if len(words) > 1 else set()
    titles = [", ".join(w for w in dict.fromkeys(of) if w not in shared) for of in words]
    return [
        title if titles.count(title) == 1 and title else f"{title or e.benchmark} ({e.grid})"
        for e, title in zip(experiments, titles, strict=True)
    ]


def thresholds_figure(experiments: Sequence[Experiment]) -> Figure:
    """Returns Pair F1 at every threshold: means and ranges over seeds.

    Dots are the seeds at their thresholds chosen on validation.
    """
    across = min(len(experiments), 2)
    down = -(-len(experiments) // across)
    figure, panels = plt.subplots(down, across, figsize=(4.8 * across, 4 * down), squeeze=False)
    for axes in panels.ravel()[len(experiments) :]:
        axes.remove()
    thresholds = np.linspace(0, 1, 201)
    titles = _distinguishing_titles(experiments)
    for axes, experiment, title in zip(panels.ravel(), experiments, titles, strict=False):
        highest = 0.0
        axes.axvline(0.5, color="#999999", lw=0.8, ls="--")
        for objective in [o for o in ("base", "rpcl") if o in experiment.runs]:
            colour, runs = COLOURS[objective], experiment.runs[objective].values()
            scores = [run.scores(experiment.splits["test"], "test") for run in runs]
            f1 = 100 * np.array([f1_curve(one, thresholds) for one in scores])
            as_chosen, at_half = (
                100
                * experiment.values(objective, metric, experiment.common_seeds(objective)).mean()
                for metric in ("pair_f1", "pair_f1_at_half")
            )
            seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
            label = f"{objective}, {seeds}: {as_chosen:.2f} as chosen, {at_half:.2f} at 0.5"
            axes.plot(thresholds, f1.mean(axis=0), color=colour, lw=1.2, label=label)
            axes.fill_between(thresholds, f1.min(axis=0), f1.max(axis=0), color=colour, alpha=0.15)
            highest = max(highest, f1.max())
            chosen = [run.result["test"] for run in runs]
            axes.plot(
                [min(result["threshold"], 1) for result in chosen],  # 2 predicts nothing
                [100 * result["pair_f1"] for result in chosen],
                "o",
                color=colour,
                mec="white",
                ms=5,
                zorder=3,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(highest / 2, 1.05 * highest)  # where one would choose a threshold
        axes.set_xlabel("threshold")
        axes.set_ylabel("Pair F1")
        axes.set_title(title)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=7)  # off the curves
    return figure


FIGURES = {
    "figure2_diagnostics": diagnostics_figure,
    "figure3_modalities": modalities_figure,
    "objectives": objectives_figure,
    "thresholds": thresholds_figure,
}


def write_figures(experiments: Sequence[Experiment], out: Path) -> list[Path]:
    """Writes every figure that has data, as .png and .svg, and returns their paths."""
    written = []
    experiments = [e for e in experiments if not e.runs.keys().isdisjoint(["base", "rpcl"])]
    for name, draw in FIGURES.items():
        with plt.rc_context(STYLE):
            figure = draw(experiments) if experiments else None
            if figure is None:
                for kind in (".png", ".svg"):  # from an earlier call, and now wrong
                    (out / f"{name}{kind}").unlink(missing_ok=True)
                _LOG.info(f"{name}: no runs for this figure")
                continue
            for kind, metadata in ((".png", {}), (".svg", {"Date": None})):
                path = out / f"{name}{kind}"
                with atomic_write(path) as file:
                    figure.savefig(file, format=kind[1:], metadata=metadata)
                written.append(path)
            plt.close(figure)
    return written
