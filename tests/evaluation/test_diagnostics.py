"""Confidence diagnostics, precision-recall curves and reliability."""

import json
import math

import numpy as np
import pytest
from random_scores import dialogue_of, random_split
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from rpcl_jax.data.dialogue import EMOTIONS, NEUTRAL
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.metrics import (
    confidence_diagnostics,
    f1_curve,
    pair_counts,
    precision_recall_curve,
    precision_recall_f1,
    ranked_negatives,
    reliability,
)
from rpcl_jax.evaluation.scores_file import ScoredDialogue


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_confidence_diagnostics_are_those_of_a_loop_over_triples(seed, top_k):
    scored = random_split(seed)
    base_margin = 0.05
    gold_confidence = []
    gaps, severities = {"hard": [], "all": []}, {"hard": [], "all": []}
    for s in scored:
        n = len(s.pair_confidence)
        for i in range(n):
            row = [float(c) for c in s.pair_confidence[i]]
            candidates = [j for j in range(n) if s.candidate_mask[i, j]]
            gold = [j for j in candidates if (i, j) in s.dialogue.pairs]
            negatives = [j for j in candidates if (i, j) not in s.dialogue.pairs]
            negatives.sort(key=lambda j: -row[j])
            gold_confidence += [row[j] for j in gold]
            for kind, chosen in (("hard", negatives[:top_k]), ("all", negatives)):
                for positive in gold:
                    for negative in chosen:
                        gap = row[positive] - row[negative]
                        q = s.cause_confidence
                        difference = float(q[negative]) - float(q[positive])
                        gaps[kind].append(gap)
                        severities[kind].append(max(0.0, base_margin * math.exp(difference) - gap))
    assert gaps["hard"]

    result = confidence_diagnostics(scored, top_k=top_k, base_margin=base_margin)
    violations = [severity > 0 for severity in severities["hard"]]
    assert result == pytest.approx(
        {
            "gold_confidence": np.mean(gold_confidence),
            "gap_hard": np.mean(gaps["hard"]),
            "gap_all": np.mean(gaps["all"]),
            "severity_hard": np.mean(severities["hard"]),
            "severity_all": np.mean(severities["all"]),
            "violation_rate_hard": np.mean(violations),
            "inversion_rate_hard": np.mean([gap < 0 for gap in gaps["hard"]]),
            "triples_hard": len(gaps["hard"]),
            "triples_all": len(gaps["all"]),
        },
        rel=1e-12,
    )
    assert json.loads(json.dumps(result)) == result
    assert type(result["triples_hard"]) is type(result["triples_all"]) is int


def test_confidence_diagnostics_by_hand():
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL, "joy"], ((1, 1),)),
        np.array([[0.0, 0.0], [0.5, 0.75]]),
        np.tri(2, dtype=bool),
        np.ones((2, len(EMOTIONS))),
        np.array([0.0, 1.0]),
    )
    result = confidence_diagnostics([scored], top_k=8, base_margin=1.0)
    # One triple: its cause is likelier than its negative, which asks for less: e^(0 − 1).
    assert result["gold_confidence"] == 0.75
    assert result["gap_hard"] == result["gap_all"] == 0.25
    assert result["severity_hard"] == pytest.approx(math.exp(-1) - 0.25)
    assert result["violation_rate_hard"] == result["triples_all"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_precision_recall_curve_is_scikit_learns_scaled_by_what_is_missed(seed):
    scored = random_split(seed)
    recall, precision = precision_recall_curve(scored)
    confidences, labels = [], []
    for s in scored:
        for i, j in zip(*np.nonzero(s.candidate_mask), strict=True):
            confidences.append(s.pair_confidence[i, j])
            labels.append((i, j) in s.dialogue.pairs)
    expected = sklearn_metrics.precision_recall_curve(labels, confidences)
    gold = sum(len(s.dialogue.pairs) for s in scored)
    assert gold > sum(labels)
    # scikit-learn ascends in confidence and ends with a point of its own, (0, 1).
    assert precision == pytest.approx(expected[0][-2::-1])
    assert recall == pytest.approx(expected[1][-2::-1] * sum(labels) / gold)


@pytest.mark.parametrize("seed", range(4))
def test_f1_curve_is_pair_f1_at_each_threshold(seed):
    scored = random_split(seed)
    assert any((s.pair_confidence == np.float32(0.7)).any() for s in scored)  # it is below 0.7
    thresholds = np.array([0.3, 0.0, scored[0].pair_confidence[1, 0], 0.7, 0.999, 1.0])
    for threshold, value in zip(thresholds, f1_curve(scored, thresholds), strict=True):
        counts = np.sum([pair_counts(s, threshold) for s in scored], axis=0)
        assert value == pytest.approx(precision_recall_f1(*counts)["f1"])


def test_f1_without_gold_pairs_or_predictions_is_0():
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL, "joy"], ()),
        np.array([[0.2, 0.0], [0.5, 0.75]]),
        np.tri(2, dtype=bool),
        np.ones((2, len(EMOTIONS))),
        np.zeros(2),
    )
    assert f1_curve([scored], np.array([0.1, 0.9])).tolist() == [0, 0]
    scored.pair_confidence[1, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        f1_curve([scored], np.array([0.5]))


@pytest.mark.parametrize(
    ("gold", "recall"), [((), [0, 0, 0]), (((1, 0),), [0, 1, 1]), (((0, 1),), [0, 0, 0])]
)
def test_recall_of_no_gold_pair_or_one(gold, recall):
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL, "joy"], gold),
        np.array([[0.2, 0.0], [0.5, 0.75]]),
        np.tri(2, dtype=bool),
        np.ones((2, len(EMOTIONS))),
        np.zeros(2),
    )
    assert precision_recall_curve([scored])[0].tolist() == recall


@pytest.mark.parametrize("seed", range(4))
def test_reliability_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    # None on the edge of a bin, which scikit-learn gives to the bin below.
    scored = [
        s._replace(pair_confidence=rng.random(s.pair_confidence.shape)) for s in random_split(seed)
    ]
    result = reliability(scored)
    confidences = np.concatenate([s.pair_confidence[s.candidate_mask] for s in scored])
    labels = [
        (i, j) in s.dialogue.pairs
        for s in scored
        for i, j in zip(*np.nonzero(s.candidate_mask), strict=True)
    ]
    gold, confidence = calibration_curve(labels, confidences, n_bins=10)
    assert result.gold == pytest.approx(gold)
    assert result.confidence == pytest.approx(confidence, rel=1e-6)
    assert result.brier == pytest.approx(sklearn_metrics.brier_score_loss(labels, confidences))
    assert result.candidates.sum() == len(labels)
    bins = np.minimum(np.floor(confidences * 10), 9)
    assert result.ece == pytest.approx(
        sum(
            abs(sum(y - p for y, p, b in zip(labels, confidences, bins, strict=True) if b == k))
            for k in range(10)
        )
        / len(labels),
        rel=1e-5,
    )


def test_reliability_by_hand():
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL, "joy"], ((1, 1),)),
        np.array([[0.0, 0.0], [0.5, 1.0]]),
        np.tri(2, dtype=bool),
        np.ones((2, len(EMOTIONS))),
        np.array([0.0, 1.0]),
    )
    result = reliability([scored])
    assert result.ece == pytest.approx(0.5 / 3)
    assert result.brier == pytest.approx(0.25 / 3)
    assert result.candidates.tolist() == [1, 1, 1]


def test_confidences_in_float32_are_not_rounded_again():
    p = np.array([[0.65, 0.0], [0.7, 0.1]], np.float32)
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL, "joy"], ()),
        p,
        np.tri(2, dtype=bool),
        np.ones((2, len(EMOTIONS))),
        np.zeros(2),
    )
    result = reliability([scored])
    assert float(p[1, 0]) < 0.7  # so that it is in the bin below
    assert result.candidates.tolist() == [1, 2]
    confidences = [float(c) for c in (p[0, 0], p[1, 0], p[1, 1])]
    assert result.brier == pytest.approx(sum(c**2 for c in confidences) / 3, rel=1e-12)


def test_a_confidence_of_one_shares_the_last_interval():
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL, "joy"], ((1, 1),)),
        np.array([[0.95, 0.0], [0.5, 1.0]]),
        np.tri(2, dtype=bool),
        np.ones((2, len(EMOTIONS))),
        np.array([0.0, 1.0]),
    )
    result = reliability([scored])
    assert result.candidates.tolist() == [1, 2]
    assert result.confidence.tolist() == pytest.approx([0.5, 0.975])
    assert result.gold.tolist() == [0.0, 0.5]
    assert result.ece == pytest.approx((0.5 + 2 * 0.475) / 3)


def test_negatives_are_ranked_by_confidence_and_of_equals_the_first():
    rng = np.random.default_rng(0)
    n = 60
    gold = tuple(map(tuple, np.argwhere(rng.random((n, n)) < 0.1).tolist()))
    scored = ScoredDialogue(
        dialogue_of([NEUTRAL] * n, gold),
        (rng.integers(0, 5, (n, n)) / 4).astype(np.float32),
        np.tri(n, dtype=bool),
        np.ones((n, len(EMOTIONS))),
        np.zeros(n),
    )
    ranked = ranked_negatives(scored)
    for i in range(n):
        negatives = [j for j in range(i + 1) if (i, j) not in gold]
        expected = sorted(negatives, key=lambda j: (-scored.pair_confidence[i, j], j))
        assert ranked[i, : len(negatives)].tolist() == expected
        assert sorted(ranked[i].tolist()) == list(range(n))
