"""The bootstrap against metrics that are computed anew for every resample."""

import numpy as np
import pytest
from random_scores import random_scored

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.evaluation.bootstrap import (
    Interval,
    draw_weights,
    paired_interval,
    resampled_average_precision,
    resampled_diagnostics,
    resampled_scores,
    resampled_weighted_f1,
)
from rpcl_jax.evaluation.metrics import confidence_diagnostics, evaluate_split


def make_split(seed, ties):
    """Dialogues of several lengths: some cut, one without a pair, some pairs no candidates."""
    rng = np.random.default_rng(seed)
    shapes = [(6, 6, 4), (9, 5, 7), (3, 3, 0), (1, 1, 1), (12, 12, 9), (4, 4, 2)]
    return [
        random_scored(rng, f"d{k}", n, kept, pairs, ties)
        for k, (n, kept, pairs) in enumerate(shapes)
    ]


@pytest.mark.parametrize("ties", [False, True])
def test_every_resample_is_the_metric_of_the_drawn_dialogues(ties):
    scored = make_split(1, ties)
    draws = draw_weights(len(scored), resamples=50)
    scores = resampled_scores(scored, 0.6, draws)
    weighted = resampled_weighted_f1(scored, 0.6, EMOTIONS, draws)
    precision = resampled_average_precision(scored, draws)
    diagnostics = resampled_diagnostics(scored, draws, top_k=2, base_margin=0.05)
    assert len(diagnostics) == 7
    for r, weights in enumerate(draws):
        drawn = [s for s, times in zip(scored, weights, strict=True) for _ in range(int(times))]
        expected = evaluate_split(drawn, 0.6, EMOTIONS)
        for kind, values in scores.items():
            assert values[r] == pytest.approx(expected[f"pair_{kind}"], abs=1e-12)
        assert weighted[r] == pytest.approx(expected["weighted_f1"], abs=1e-12)
        means = confidence_diagnostics(drawn, top_k=2, base_margin=0.05)
        for name, values in diagnostics.items():
            assert values[r] == pytest.approx(means[name], abs=1e-12)
        assert precision[r] == pytest.approx(expected["pair_auprc"], abs=1e-6)


def test_a_resample_without_gold_pairs_is_zero():
    scored = make_split(2, False)[2:3]  # its only dialogue has none
    weights = np.ones((1, 1), np.float32)
    assert all(not values.any() for values in resampled_scores(scored, 0.5, weights).values())
    assert resampled_weighted_f1(scored, 0.5, EMOTIONS, weights) == 0
    assert resampled_average_precision(scored, weights) == 0


def test_draws():
    weights = draw_weights(261)
    assert weights.shape == (10_000, 261)
    assert (weights.sum(1) == 261).all()
    # Drawn with replacement: a dialogue is missing from (1 - 1/261)^261 of the resamples.
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 261) ** 261, abs=2e-3)
    np.testing.assert_array_equal(weights, draw_weights(261))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    """For a plain mean the interval is known: 1.96 standard errors each way."""
    values = np.random.default_rng(4).normal(0.3, 2.0, size=400)  # one number a dialogue
    means = (draw_weights(400) @ values)[None] / 400
    interval = paired_interval(means, np.zeros_like(means), values.mean())
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.difference == values.mean()
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.05)
    assert (interval.high + interval.low) / 2 == pytest.approx(values.mean(), abs=half / 10)


def test_seeds_are_drawn_in_every_resample():
    """Three seeds that differ by 0, 0 and 3: their resampled mean is 3 · Binomial(3, 1/3) / 3."""
    system = np.repeat([[0.0], [0.0], [3.0]], 20_000, axis=1)
    interval = paired_interval(system, np.zeros_like(system), 1.0)
    # P(0) = 8/27 and P(3) = 1/27 = 3.7 %: both ends are within a 95 % interval.
    assert (interval.low, interval.high) == (0.0, 3.0)
    same = paired_interval(np.ones((3, 100)), np.zeros((3, 100)), 1.0)
    assert (same.low, same.high, same.seeds) == (1.0, 1.0, 3)


def test_pairing_takes_out_what_both_share():
    rng = np.random.default_rng(5)
    base = rng.normal(size=(3, 1000))
    interval = paired_interval(base + 0.5, base, 0.5)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_contains_zero():
    assert Interval(0.5, -0.1, 1.0, 3).contains_zero
    assert Interval(0.5, 0.0, 1.0, 3).contains_zero
    assert not Interval(0.5, 0.1, 1.0, 3).contains_zero
    assert not Interval(-0.5, -1.0, -0.1, 3).contains_zero
