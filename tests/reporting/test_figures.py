"""Figures show what was computed."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fake_runs import write_grid, write_run
from matplotlib.colors import same_color
from shared import ENVIRONMENT, ROOT, tiny_config

from rpcl_jax.reporting.experiments import interval_text, mean_over_settings, read_experiments
from rpcl_jax.reporting.figures import (
    COLOURS,
    FIGURES,
    diagnostics_figure,
    modalities_figure,
    objectives_figure,
    thresholds_figure,
)
from rpcl_jax.run.base_config import OBJECTIVES


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """All modalities, where rpcl is better, and text alone, where it equals base."""
    folder = tmp_path_factory.mktemp("grids")
    text = tiny_config()
    text.modalities = "t"
    write_grid(folder / "tav", {"base": 1.0, "rpcl": 2.5})
    write_grid(folder / "t", {"base": 1.0, "rpcl": 1.0}, config=text)
    return [folder / "tav", folder / "t"]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_every_figure_is_written_and_is_reproducible(grids, tmp_path):
    for out in ("one", "two"):
        subprocess.run(
            [sys.executable, "tools/make_figures.py", *map(str, grids), "--out", tmp_path / out],
            cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True,
        )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg"))
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes(), name
        assert len(content) > 10_000


def test_figure_2_shows_the_gaps_of_the_runs(grids):
    experiments = read_experiments(grids)
    figure = diagnostics_figure(experiments)
    axes = figure.axes
    (legend,) = figure.legends
    assert [patch.get_height() > 0 for patch in legend.get_patches()] == [True] * 2, "no dots"
    assert [text.get_text() for text in legend.get_texts()] == ["base", "rpcl"]
    assert not any(panel.get_legend() for panel in axes)
    heights = [bar.get_height() for bar in axes[0].patches]
    seeds = [1, 2, 3]
    assert heights == pytest.approx(
        [
            100 * experiments[0].values(objective, metric, seeds).mean()
            for metric in ("gap_hard", "gap_all")
            for objective in ("base", "rpcl")
        ]
    )
    title = axes[0].get_title()
    assert title == "gold-negative gap (points, ± sd over seeds)"
    text = [text.get_text() for text in axes[0].texts]
    intervals = [experiments[0].delta("rpcl", metric, seeds) for metric in ("gap_hard", "gap_all")]
    assert text == ["\n".join(filter(None, interval_text(interval))) for interval in intervals]
    # Gold confidence is larger and severities are smaller, so all three point upwards.
    lines = [line for panel in axes[2:4] for line in panel.lines]
    changes = [line.get_ydata()[0] for line in lines if line.get_marker() == "o"]
    expected = [
        sign * 100 * experiments[0].delta("rpcl", metric, seeds).difference
        for metric, sign in (("gold_confidence", 1), ("severity_hard", -1), ("severity_all", -1))
    ]
    assert changes == pytest.approx(expected)
    assert min(changes) > 0


def test_figure_3_fills_only_intervals_that_exclude_zero(grids):
    experiments = {e.modalities: e for e in read_experiments(grids)}
    panel = modalities_figure(list(experiments.values())).axes[0]
    points = {round(line.get_xdata()[0]): line for line in panel.lines if line.get_marker() == "o"}
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["T", "T+A+V"], "what was run"
    assert points.keys() == {0, 1}
    assert same_color(points[0].get_markerfacecolor(), "white")
    assert not same_color(points[1].get_markerfacecolor(), "white")
    delta = experiments["T+A+V"].delta("rpcl", "pair_f1", [1, 2, 3])
    assert points[1].get_ydata()[0] == pytest.approx(100 * delta.difference)


def test_every_objective_of_every_experiment_has_its_interval(grids):
    experiments = {e.modalities: e for e in read_experiments(grids)}
    figure = objectives_figure(list(experiments.values()))
    for panel, metric in zip(
        figure.axes, ("pair_f1", "pair_f1_at_half", "pair_auprc"), strict=True
    ):
        points = {line.get_ydata()[0]: line for line in panel.lines if line.get_marker() == "o"}
        names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        assert names == ["mean of 2 settings: rpcl", "T+A+V: rpcl", "T: rpcl"]
        mean = mean_over_settings(list(experiments.values()), "rpcl", metric)
        assert points[0].get_xdata()[0] == pytest.approx(100 * mean.delta.difference)
        assert same_color(points[0].get_color(), COLOURS["rpcl"])
        for place, e in enumerate(experiments.values(), 1):
            delta = e.delta("rpcl", metric, [1, 2, 3])
            assert points[place].get_xdata()[0] == pytest.approx(100 * delta.difference)
            hollow = same_color(points[place].get_markerfacecolor(), "white")
            assert hollow == delta.contains_zero


def test_settings_that_differ_in_no_word_are_told_by_their_grids(tmp_path):
    wide = tiny_config()
    wide.model.width = 64
    write_grid(tmp_path / "narrow", {"base": 1.0, "ccps": 2.0}, seeds=(1,))
    write_grid(tmp_path / "wide", {"base": 1.0, "ccps": 2.0}, seeds=(1,), config=wide)
    figure = objectives_figure(read_experiments([tmp_path / "narrow", tmp_path / "wide"]))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert [name.partition("(")[2] for name in names] == ["narrow): ccps", "wide): ccps"]


def test_every_objective_has_a_colour_of_its_own():
    assert COLOURS.keys() == OBJECTIVES.keys()
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_f1_at_every_threshold_has_the_f1_at_half(grids):
    (experiment,) = read_experiments(grids[:1])
    figure = thresholds_figure([experiment])
    axes = figure.axes[0]
    figure.draw_without_rendering()
    legend = axes.get_legend().get_window_extent()
    assert legend.y1 < axes.get_window_extent().y0, "not on the curves"
    for objective in ("base", "rpcl"):
        colour = COLOURS[objective]
        curve, points = [line for line in axes.lines if same_color(line.get_color(), colour)]
        at_half = experiment.values(objective, "pair_f1_at_half", [1, 2, 3])
        assert np.interp(0.5, *curve.get_data()) == pytest.approx(100 * at_half.mean())
        runs = experiment.runs[objective].values()
        assert list(points.get_xdata()) == [run.result["threshold"] for run in runs]
        assert list(points.get_ydata()) == pytest.approx(
            [100 * run.result["test"]["pair_f1"] for run in runs]
        )
        (band,) = [c for c in axes.collections if same_color(c.get_facecolor()[0, :3], colour)]
        ends = band.get_paths()[0].vertices
        ends = ends[np.isclose(ends[:, 0], 0.5), 1]
        assert (ends.min(), ends.max()) == pytest.approx((100 * at_half.min(), 100 * at_half.max()))


def test_a_single_run_has_curves_but_nothing_to_compare(tmp_path):
    experiments = read_experiments([write_run(tmp_path / "run", "base")])
    assert diagnostics_figure(experiments) is None
    assert modalities_figure(experiments) is None
    assert objectives_figure(experiments) is None
    (axes,) = thresholds_figure(experiments).axes
    (label,) = axes.get_legend().get_texts()
    assert label.get_text().startswith("base, 1 seed: ")


def test_one_seed_has_no_deviation_and_says_so(tmp_path):
    (experiment,) = read_experiments([write_grid(tmp_path, {"base": 1.0, "rpcl": 2.0}, seeds=(1,))])
    axes, points, *_ = diagnostics_figure([experiment]).axes
    assert axes.get_title() == "gold-negative gap (points)"
    assert points.get_title() == "operating points (lines: equal F1)"
    assert all(text.get_text().endswith("one seed") for text in axes.texts)
