"""Runs become experiments: what is grouped, what is told apart, and what an old grid becomes."""

import json

import numpy as np
import pytest
from fake_runs import write_grid, write_run
from shared import tiny_config

from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.bootstrap import Interval
from rpcl_jax.reporting.experiments import (
    METRICS,
    interval_text,
    p_text,
    read_experiments,
    resampled_metrics,
    training_curves,
)
from rpcl_jax.run.base_config import OBJECTIVES


def test_settings_that_differ_in_anything_are_told_apart(tmp_path):
    config = tiny_config()
    write_grid(tmp_path / "past", {"base": 1.0, "rpcl": 2.0}, config=config)
    config.data.candidates = "all"
    write_grid(tmp_path / "all", {"base": 1.0, "rpcl": 2.0}, config=config)
    experiments = read_experiments([tmp_path / "past", tmp_path / "all"])
    assert [e.grid for e in experiments] == ["past", "all"]
    assert len({e.title for e in experiments}) == len({e.setup for e in experiments}) == 2


def test_a_resample_of_every_dialogue_once_has_the_metrics_of_the_run(tmp_path):
    (experiment,) = read_experiments([write_run(tmp_path / "run", negatives=-4.0)])
    run, splits = experiment.runs["rpcl"][42], experiment.splits
    assert abs(run.result["threshold"] - 0.5) > 0.1, "or the two thresholds could be confused"
    once = np.ones((1, len(splits["test"])), np.float32)
    metrics = resampled_metrics(run, run.scores(splits["test"], "test"), once)
    assert metrics.keys() >= set(METRICS)
    for name, values in metrics.items():
        assert values == pytest.approx(run.result["test"][name], abs=1e-6), name


def test_curves_of_a_training(tmp_path):
    run = read_experiments([write_run(tmp_path / "run")])[0].runs["rpcl"][42]
    losses, scores = training_curves(run)
    assert losses == pytest.approx([2.5, 1.25, 2.5 / 3])
    assert scores == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"step": 1, "train/lo', "\xff"])
def test_a_damaged_log_is_refused_with_the_line(tmp_path, line):
    run = read_experiments([write_run(tmp_path / "run")])[0].runs["rpcl"][42]
    path = tmp_path / "run/metrics.jsonl"
    whole = path.read_text()
    path.write_bytes((whole + line + "\n").encode("latin-1"))
    with pytest.raises(InputError, match=r"metrics\.jsonl:10: .*Restore it or start anew"):
        training_curves(run)


@pytest.mark.parametrize("text", ["[]", "{}", '{"threshold": 0.5}'])
def test_a_damaged_result_is_refused(tmp_path, text):
    folder = write_run(tmp_path / "run")
    (folder / "result.json").write_text(text)
    with pytest.raises(InputError, match=r"run/result\.json: .*Restore it or start anew"):
        read_experiments([folder])


def test_a_table_of_runs_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="lists no runs"):
        read_experiments([tmp_path])


def test_all_objectives_of_a_grid_are_one_experiment(tmp_path):
    grid = write_grid(tmp_path / "grid", dict.fromkeys(OBJECTIVES, 1.0), seeds=(1, 2))
    (experiment,) = read_experiments([grid])
    assert {name: list(runs) for name, runs in experiment.runs.items()} == {
        name: [1, 2] for name in OBJECTIVES
    }


@pytest.mark.parametrize(
    ("objective", "field", "value"),
    [
        *(("base", "row_weight", 0.1), ("rpcl", "row_weight", 0.0), ("no_top_k", "top_k", 4)),
        ("pair_weight", "corruption_rate", 0.3),  # the paper's value
    ],
)
def test_a_run_whose_objective_was_overridden_stands_alone(tmp_path, objective, field, value):
    """`rpcl` without ranking would otherwise be compared with `base` as if it were `rpcl`."""
    grid = write_grid(tmp_path / "grid", {"base": 1.0, "rpcl": 2.0}, seeds=(1,))
    other = write_run(tmp_path / "other", objective, 2)
    config = json.loads((other / "config.json").read_text())
    config["run"]["rpcl"][field] = value
    (other / "config.json").write_text(json.dumps(config))
    experiments = read_experiments([grid, other])
    assert [sorted(e.runs) for e in experiments] == [["base", "rpcl"], [objective]]


def test_small_p_values_are_not_zero():
    assert [p_text(p) for p in (0.0, 0.0004, 0.0006, 0.05, 1.0)] == [
        *("<0.001", "<0.001", "0.001", "0.050", "1.000")
    ]


def test_an_interval_that_contains_zero_says_so():
    assert interval_text(Interval(0.02, -0.01, 0.05, 3)) == ("+2.00 [−1.00, +5.00]", "contains 0")
    assert interval_text(Interval(-0.02, -0.03, -0.01, 3)) == ("−2.00 [−3.00, −1.00]", "")
    assert interval_text(Interval(0.01, 0.0, 0.02, 1))[1] == "contains 0, one seed"
