"""Threshold, F1 and average precision against scikit-learn, searches and hand counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scores import dialogue_of, random_split
from sklearn import metrics as sklearn_metrics

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.evaluation.metrics import (
    PREDICT_NOTHING,
    average_precision,
    best_emotion_threshold,
    best_threshold,
    pair_counts,
    precision_recall_f1,
    weighted_f1,
)
from rpcl_jax.evaluation.scores_file import ScoredDialogue

# Few distinct values, so that ties are common; most of them differ between float32 and float64.
confidence_lists = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]), st.booleans()), max_size=12
)
missed_pairs = st.integers(0, 3)


def as_arrays(scored_labels):
    confidences = np.array([c for c, _ in scored_labels], np.float32)
    return confidences, np.array([y for _, y in scored_labels], bool)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True)
def test_precision_recall_f1_is_that_of_sklearn(cells):
    gold, predicted = np.array(cells).T
    ours = precision_recall_f1(int((gold & predicted).sum()), int(predicted.sum()), int(gold.sum()))
    theirs = sklearn_metrics.precision_recall_fscore_support(
        gold, predicted, average="binary", zero_division=0
    )
    assert list(ours.values()) == pytest.approx(theirs[:3])


@pytest.mark.parametrize(
    ("threshold", "counts"),
    [(0.8, (2, 2, 4)), (0.3, (2, 3, 4)), (0.85, (1, 1, 4)), (2.0, (0, 0, 4))],
)
def test_pair_counts_by_hand(threshold, counts):
    scored = ScoredDialogue(
        # (0, 1) is no candidate, (2, 0) is cut.
        dialogue_of(["joy"] * 3, ((0, 0), (1, 0), (0, 1), (2, 0))),
        np.array([[0.9, 1.0], [0.8, 0.3]]),
        np.tri(2, dtype=bool),
        np.ones((2, 7)),
        np.ones(2),
    )
    assert pair_counts(scored, threshold) == counts


@given(confidence_lists, missed_pairs)
@settings(deadline=None, derandomize=True)
def test_best_threshold_is_the_largest_of_the_best_of_all(scored_labels, missed):
    confidences, labels = as_arrays(scored_labels)
    best = (0.0, PREDICT_NOTHING)
    for threshold in set(confidences.tolist()):  # float64 values of the float32 confidences
        predicted = [c >= threshold for c in confidences.tolist()]
        true_positive = sum(p and y for p, y in zip(predicted, labels, strict=True))
        f1 = 2 * true_positive / (sum(predicted) + labels.sum() + missed)
        best = max(best, (f1, threshold)) if f1 > 0 else best

    threshold, f1 = best_threshold(confidences, labels, missed)
    assert (f1, threshold) == best
    assert type(threshold) is float
    assert type(f1) is float


@pytest.mark.parametrize("seed", range(3))
def test_best_threshold_agrees_with_sklearn_on_many_candidates(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(5000) < 0.1
    confidences = np.clip(rng.normal(0.3 + 0.3 * labels, 0.15), 0, 1).astype(np.float32)
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, confidences)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    threshold, best = best_threshold(confidences, labels, 0)
    assert threshold == thresholds[np.argmax(f1[:-1])]
    assert best == pytest.approx(f1.max())
    assert best == pytest.approx(
        sklearn_metrics.f1_score(labels, confidences.astype(np.float64) >= threshold)
    )


def test_best_threshold_by_hand():
    confidences = np.array([0.9, 0.8, 0.8, 0.3], np.float32)
    # The two at 0.8 come together: 2·1/(1+2) = 2/3 at 0.9, 2·2/(3+2) = 4/5 at 0.8.
    assert best_threshold(confidences, np.array([1, 1, 0, 0], bool), 0) == (
        float(np.float32(0.8)),
        0.8,
    )
    # One more gold pair, out of reach: 2·1/(1+3) = 1/2 at 0.9, 2·2/(3+3) = 2/3 at 0.8.
    assert best_threshold(confidences, np.array([1, 1, 0, 0], bool), 1)[1] == pytest.approx(2 / 3)
    # 2·1/(1+3) at 0.9 = 2·2/(5+3) at 0.1: of equals, the larger threshold.
    assert best_threshold(
        np.array([0.9, 0.1, 0.1, 0.1, 0.1], np.float32), np.array([1, 1, 0, 0, 0], bool), 1
    ) == (float(np.float32(0.9)), 0.5)


@pytest.mark.parametrize("missed", [0, 2])
@pytest.mark.parametrize("count", [0, 3])
def test_without_a_gold_candidate_nothing_is_predicted(count, missed):
    confidences, labels = np.full(count, 1.0, np.float32), np.zeros(count, bool)
    assert best_threshold(confidences, labels, missed) == (PREDICT_NOTHING, 0.0)
    assert average_precision(confidences, labels, missed) == 0.0


@given(confidence_lists, missed_pairs)
@settings(deadline=None, derandomize=True)
def test_average_precision_is_that_of_sklearn(scored_labels, missed):
    confidences, labels = as_arrays(scored_labels)
    ours = average_precision(confidences, labels, missed)
    if not labels.any():
        assert ours == 0.0
        return
    # Missed pairs only shrink every step of recall.
    recalled = labels.sum() / (labels.sum() + missed)
    theirs = sklearn_metrics.average_precision_score(labels, confidences)
    assert ours == pytest.approx(recalled * theirs)


def test_average_precision_by_hand():
    confidences = np.array([0.9, 0.8, 0.8, 0.3], np.float32)
    labels = np.array([True, True, False, True])
    # Of 4 gold pairs, one out of reach: P = 1/1, 2/3, 3/4, each with 1/4 of the recall.
    assert average_precision(confidences, labels, 1) == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)


@pytest.mark.parametrize("score", [best_threshold, average_precision])
def test_nan_confidences_are_refused(score):
    with pytest.raises(ValueError, match="NaN"):
        score(np.array([0.1, np.nan], np.float32), np.array([True, False]), 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_of_names_is_the_best_of_all(seed):
    scored, threshold = random_split(seed), 0.6
    named, emotional = [], 0  # (probability, whether it is right) of the emotions of pairs
    for s in scored:
        gold = [u.emotion for u in s.dialogue.utterances]
        emotional += sum(emotion != "neutral" for emotion in gold)
        for i, row in enumerate(s.emotion_probabilities):
            if any(s.pair_confidence[i, s.candidate_mask[i]] >= threshold):
                p, name = max(zip(row[1:], EMOTIONS[1:], strict=True))
                named.append((p, name == gold[i]))

    def f1(least):
        chosen = [right for p, right in named if p >= least]
        return 2 * sum(chosen) / (len(chosen) + emotional)

    found = best_emotion_threshold(scored, threshold, EMOTIONS)
    assert found in [p for p, _ in named]
    assert f1(found) == pytest.approx(max(f1(p) for p, _ in named))


def test_weighted_f1_by_hand():
    # Neutral has no weight; nor has the last category, which has no gold pairs.
    counts = np.array([[1, 2, 1, 0, 0], [1, 2, 2, 1, 1], [1, 3, 1, 1, 0]])
    # 2·2/(2+3) = 4/5 with weight 3, 2·1/(2+1) = 2/3 with 1, 0 with 1.
    expected = (3 * 4 / 5 + 1 * 2 / 3) / 5
    assert weighted_f1(counts) == pytest.approx(expected)
    nothing = counts * [[0], [0], [1]]
    both = weighted_f1(np.stack([counts, nothing, 0 * counts]))
    assert both == pytest.approx([expected, 0, 0])
