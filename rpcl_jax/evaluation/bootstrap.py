"""The paired bootstrap: how much of a difference between two systems is test-set sampling noise.

A resample draws, with replacement, as many dialogues as the test set has. It is represented by a
row of weights, the number of times each dialogue was drawn. All systems and seeds are evaluated on
the same resamples. Each resample also draws, with replacement, the seeds that it averages over.
With three seeds the bootstrap underestimates the variance between seeds by a third. All metrics are
computed as matrix products with the weights, so ten thousand resamples take seconds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rpcl_jax.evaluation.metrics import (
    ScoredDialogue,
    category_counts,
    diagnostic_sums,
    pair_counts,
    pair_labels,
    precision_recall_f1,
    weighted_f1,
)

# Number of resamples whose counts at every threshold are in memory at a time.
_CHUNK = 1000


class Interval(NamedTuple):
    """A difference and its 95 % interval."""

    difference: float
    low: float
    high: float
    seeds: int  # number of seeds; with one, only the test dialogues are resampled

    @property
    def contains_zero(self) -> bool:
        """Returns whether the interval contains a difference of 0."""
        return self.low <= 0 <= self.high


def draw_weights(dialogues: int, resamples: int = 10_000) -> np.ndarray:
    """Returns how often each resample draws each dialogue, float32 [R, D], with a fixed seed."""
    rng = np.random.default_rng(0)
    weights = rng.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=resamples)
    return weights.astype(np.float32)


def resampled_scores(
    scored: Sequence[ScoredDialogue], threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns "precision", "recall" and "f1" of pairs in every resample, [R] each."""
    counts = np.array([pair_counts(s, threshold) for s in scored], np.float64)
    return precision_recall_f1(*(weights @ counts).T)


def resampled_weighted_f1(
    scored: Sequence[ScoredDialogue], threshold: float, classes: Sequence[str], weights: np.ndarray
) -> np.ndarray:
    """Returns the `metrics.weighted_f1` of every resample, [R]."""
    return weighted_f1(np.tensordot(weights, category_counts(scored, threshold, classes), 1))


def resampled_average_precision(
    scored: Sequence[ScoredDialogue], weights: np.ndarray
) -> np.ndarray:
    """Returns the Pair AUPRC of every resample, [R], as `metrics.average_precision` defines it.

    Average precision is a mean over gold pairs, so precision is needed only at their confidences:
    `predicted[k, d]` and `found[k, d]` count the candidates and the gold candidates of dialogue d
    whose confidence is at least that of gold candidate k.
    """
    labels = [pair_labels(s)[s.candidate_mask] for s in scored]
    confidences = [s.pair_confidence[s.candidate_mask] for s in scored]
    gold = np.array([len(s.dialogue.pairs or ()) for s in scored], np.float32)
    home = np.repeat(np.arange(len(scored)), [label.sum() for label in labels])
    thresholds = np.concatenate([p[y] for p, y in zip(confidences, labels, strict=True)])
    predicted, found = (
        np.stack([_at_least(p, thresholds) for p in parts], axis=1)
        for parts in (confidences, [p[y] for p, y in zip(confidences, labels, strict=True)])
    )
    result = np.empty(len(weights))
    for start in range(0, len(weights), _CHUNK):
        w = weights[start : start + _CHUNK]
        # For a gold pair that was not drawn the count may be 0, but so is its weight.
        precision = (w @ found.T) / np.maximum(w @ predicted.T, 1)
        total = np.sum(w[:, home] * precision, axis=1, dtype=np.float64)
        result[start : start + _CHUNK] = total / np.maximum(w @ gold, 1)
    return result


def resampled_diagnostics(
    scored: Sequence[ScoredDialogue], weights: np.ndarray, *, top_k: int, base_margin: float
) -> dict[str, np.ndarray]:
    """Returns the means of `metrics.confidence_diagnostics` in every resample, [R] by name."""
    sums = [diagnostic_sums(s, top_k=top_k, base_margin=base_margin) for s in scored]
    result = {}
    for name in sums[0]:
        total, count = (weights @ np.array([s[name] for s in sums])).T
        result[name] = total / np.maximum(count, 1)
    return result


def paired_interval(system: np.ndarray, base: np.ndarray, observed: float) -> Interval:
    """Returns the difference of two systems' means over seeds and its 95 % percentile interval.

    Both hold a metric of the runs of the same S seeds in the same resamples, [S, R]; `observed` is
    the difference on the whole test set.
    """
    rng = np.random.default_rng(1)  # independent of the weights' generator
    seeds = rng.integers(len(system), size=system.T.shape)
    differences = np.take_along_axis((system - base).T, seeds, axis=1).mean(axis=1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(observed, float(low), float(high), len(system))


def _at_least(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Counts the `values` that are at least each threshold, float32 (exact below 2^24)."""
    below = np.searchsorted(np.sort(values), thresholds, side="left")
    return (len(values) - below).astype(np.float32)
