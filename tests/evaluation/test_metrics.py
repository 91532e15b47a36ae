import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from rpcl_jax.data.dialogue import EMOTIONS, NEUTRAL, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.metrics import (
    PREDICT_NOTHING,
    ScoredDialogue,
    average_precision,
    best_threshold,
    confidence_diagnostics,
    evaluate_split,
    precision_recall_curve,
    precision_recall_f1,
    reliability,
    weighted_f1,
)

# Few distinct values, so that ties are common; most of them differ between float32 and float64.
confidence_lists = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]), st.booleans()), max_size=12
)
missed_pairs = st.integers(0, 3)


def as_arrays(scored_labels):
    confidences = np.array([c for c, _ in scored_labels], np.float32)
    return confidences, np.array([y for _, y in scored_labels], bool)


def dialogue_of(emotions, pairs, name="d"):
    return Dialogue(
        name,
        tuple(Utterance(f"{name}-{t}", "A", "Well.", e) for t, e in enumerate(emotions)),
        pairs,
    )


def random_split(seed, dialogues=12):
    """Dialogues with tied confidences, some cut, some with all cells as candidates."""
    rng = np.random.default_rng(seed)
    scored = []
    for d in range(dialogues):
        length = int(rng.integers(1, 25))
        n = int(rng.integers(1, length + 1))
        emotions = [EMOTIONS[c] for c in rng.integers(0, len(EMOTIONS), length)]
        gold = np.argwhere(rng.random((length, length)) < 0.2)
        mask = np.ones((n, n), bool) if d % 3 == 0 else np.tri(n, dtype=bool)
        scored.append(
            ScoredDialogue(
                dialogue_of(emotions, tuple(map(tuple, gold.tolist())), f"d{d}"),
                (rng.integers(0, 21, (n, n)) / 20).astype(np.float32),
                mask,
                rng.dirichlet(np.ones(len(EMOTIONS)), n).astype(np.float32),
                rng.random(n).astype(np.float32),
            )
        )
    return scored


def candidates_of(scored):
    """Confidences and labels of all candidates, and the gold pairs left out, cell by cell."""
    confidences, labels, gold = [], [], 0
    for s in scored:
        gold += len(s.dialogue.pairs)
        for i, j in np.argwhere(s.candidate_mask):
            confidences.append(s.pair_confidence[i, j])
            labels.append((i, j) in s.dialogue.pairs)
    return np.array(confidences), np.array(labels, bool), gold - sum(labels)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True)
def test_precision_recall_f1_is_that_of_sklearn(cells):
    gold, predicted = np.array(cells).T
    ours = precision_recall_f1(int((gold & predicted).sum()), int(predicted.sum()), int(gold.sum()))
    theirs = sklearn_metrics.precision_recall_fscore_support(
        gold, predicted, average="binary", zero_division=0
    )
    assert ours == pytest.approx(theirs[:3])


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


def test_weighted_f1_by_hand():
    gold = {
        (0, 1, 0, "joy"),
        (0, 1, 1, "joy"),
        (0, 3, 2, "joy"),
        (1, 0, 0, "anger"),
        (1, 2, 0, "fear"),
        (1, 3, 3, NEUTRAL),  # in no category, of no weight
    }
    predicted = {
        (0, 1, 0, "joy"),
        (0, 1, 1, "joy"),
        (0, 3, 2, "anger"),  # the pair is right, the category is not
        (1, 0, 0, "anger"),
        (1, 2, 1, "fear"),
        (1, 4, 4, "disgust"),  # a category without gold pairs weighs nothing
    }
    # joy 2·2/(2+3) = 4/5 with weight 3, anger 2·1/(2+1) = 2/3 with 1, fear 0 with 1.
    assert weighted_f1(gold, predicted) == pytest.approx((3 * 4 / 5 + 1 * 2 / 3) / 5)
    assert weighted_f1(gold, set()) == 0.0
    assert weighted_f1(set(), predicted) == 0.0


def test_evaluate_split_by_hand():
    emotions = np.full((3, len(EMOTIONS)), 0.05)
    emotions[0, EMOTIONS.index("joy")] = 0.7
    emotions[1, EMOTIONS.index(NEUTRAL)] = 0.5
    emotions[1, EMOTIONS.index("anger")] = 0.2
    emotions[2, EMOTIONS.index("sadness")] = 0.7
    dialogue = dialogue_of(
        ["joy", "anger", NEUTRAL, "fear"],
        # (0, 1) is no candidate, (3, 0) and (1, 3) are cut.
        ((0, 0), (0, 1), (1, 0), (1, 3), (3, 0)),
    )
    confidence = np.array([[0.9, 0.9, 0.9], [0.8, 0.2, 0.9], [0.6, 0.1, 0.1]], np.float32)
    scored = ScoredDialogue(
        dialogue, confidence, np.tri(3, dtype=bool), emotions, np.array([0.5, 0.4, 0.6])
    )

    result = evaluate_split([scored], 0.6 - 1e-6)
    # Predicted (0, 0), (1, 0), (2, 0); two of them gold, of five.
    assert result == pytest.approx(
        {
            "threshold": 0.6 - 1e-6,
            "pair_precision": 2 / 3,
            "pair_recall": 2 / 5,
            "pair_f1": 4 / 8,
            "pair_auprc": 2 / 5,
            "emotion_precision": 1 / 2,  # predicted 0 and 2; gold 0, 1 and the cut 3
            "emotion_recall": 1 / 3,
            "emotion_f1": 2 / 5,
            "cause_precision": 1 / 2,  # predicted 0 and 2; gold 0, 1 and the cut 3
            "cause_recall": 1 / 3,
            "cause_f1": 2 / 5,
            # joy 2·1/(1+2) with weight 2, anger 2·1/(1+2) with 2, fear 0 with 1.
            "weighted_f1": (2 * 2 / 3 + 2 * 2 / 3) / 5,
            "gold_pairs": 5,
            "gold_pairs_cut": 2,
            "gold_pairs_outside_candidates": 1,
            "predicted_pairs": 3,
            "dialogues": 1,
            "utterances": 4,
        }
    )
    # At 0.8 the pair that is not gold is gone: 2·2/(2+5).
    searched = evaluate_split([scored], None)
    assert searched["threshold"] == float(np.float32(0.8))
    assert searched["pair_f1"] == pytest.approx(4 / 7)


@pytest.mark.parametrize("seed", range(8))
def test_evaluate_split_is_what_sklearn_says_about_whole_dialogues(seed):
    scored = random_split(seed)
    result = evaluate_split(scored, None)
    confidences, labels, missed = candidates_of(scored)
    threshold, f1 = best_threshold(confidences, labels, missed)
    assert result["threshold"] == threshold
    assert result["pair_f1"] == f1 > 0
    assert result["pair_auprc"] == average_precision(confidences, labels, missed)
    assert json.loads(json.dumps(result)) == result

    truth = {"pair": [], "emotion": [], "cause": []}
    guess = {"pair": [], "emotion": [], "cause": []}
    gold_categories, guessed_categories = [], []  # of every cell; "" is no pair
    for s in scored:
        length, n = len(s.dialogue.utterances), len(s.pair_confidence)
        for i in range(length):
            cut = i >= n
            truth["emotion"].append(s.dialogue.utterances[i].emotion != NEUTRAL)
            guess["emotion"].append(not cut and np.argmax(s.emotion_probabilities[i]) != 0)
            truth["cause"].append(any(i == cause for _, cause in s.dialogue.pairs))
            guess["cause"].append(not cut and s.cause_confidence[i] >= 0.5)
            for j in range(length):
                is_pair = (
                    i < n
                    and j < n
                    and s.candidate_mask[i, j]
                    and float(s.pair_confidence[i, j]) >= threshold
                )
                is_gold = (i, j) in s.dialogue.pairs
                truth["pair"].append(is_gold)
                guess["pair"].append(is_pair)
                gold_categories.append(s.dialogue.utterances[i].emotion if is_gold else "")
                guessed_categories.append(
                    EMOTIONS[1:][np.argmax(s.emotion_probabilities[i, 1:])] if is_pair else ""
                )
    for name in truth:
        expected = sklearn_metrics.precision_recall_fscore_support(
            truth[name], guess[name], average="binary", zero_division=0
        )
        ours = [result[f"{name}_{kind}"] for kind in ("precision", "recall", "f1")]
        assert ours == pytest.approx(expected[:3])
    assert result["weighted_f1"] == pytest.approx(
        sklearn_metrics.f1_score(
            gold_categories,
            guessed_categories,
            labels=[e for e in EMOTIONS if e != NEUTRAL],
            average="weighted",
            zero_division=0,
        )
    )
    assert result["gold_pairs"] == sum(truth["pair"])
    assert result["predicted_pairs"] == sum(guess["pair"])
    assert result["gold_pairs_cut"] + result["gold_pairs_outside_candidates"] == missed
    assert result["gold_pairs_cut"] == sum(
        max(pair) >= len(s.pair_confidence) for s in scored for pair in s.dialogue.pairs
    )
    # Frozen, the threshold says the same.
    assert evaluate_split(scored, threshold) == result


def test_two_classes_of_emotion_by_hand():
    """Categories count as emotional, so that ECF too can be scored by such a head."""
    utterances = tuple(
        Utterance(f"u{t}", "A", "x", e) for t, e in enumerate(("joy", "emotional", "neutral"))
    )
    scored = ScoredDialogue(
        Dialogue("1", utterances, ((0, 0), (1, 0))),
        np.array([[0.9, 0, 0], [0.2, 0, 0], [0.8, 0, 0]], np.float32),
        np.tri(3, dtype=bool),
        np.array([[0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]),
        np.zeros(3),
    )
    numbers = evaluate_split([scored], 0.5)
    # Two pairs are predicted, one of two gold ones among them; so in the only category there is.
    assert numbers["pair_f1"] == numbers["weighted_f1"] == 0.5
    assert (numbers["emotion_precision"], numbers["emotion_recall"]) == (1.0, 0.5)


def test_a_split_without_gold_pairs_has_numbers_all_the_same():
    scored = [s._replace(dialogue=dialogue_of([NEUTRAL] * 25, ())) for s in random_split(0)]
    result = evaluate_split(scored, None)
    assert result["threshold"] == PREDICT_NOTHING
    assert result["predicted_pairs"] == result["gold_pairs"] == 0
    diagnostics = confidence_diagnostics(scored, top_k=8, base_margin=0.05)
    assert set(diagnostics.values()) == {0}
    assert all(math.isfinite(value) for value in result.values())


def test_an_unlabelled_dialogue_is_refused():
    scored = [random_split(0)[0]._replace(dialogue=dialogue_of([None] * 25, None, "x7"))]
    with pytest.raises(InputError, match="conversation x7 has no labels"):
        evaluate_split(scored, 0.5)
    with pytest.raises(InputError, match="conversation x7 has no labels"):
        confidence_diagnostics(scored, top_k=8, base_margin=0.05)


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
