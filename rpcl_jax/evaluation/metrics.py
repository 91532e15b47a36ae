"""Metrics of scored dialogues: threshold, F1, average precision, calibration and diagnostics.

They raise InputError for a dialogue without labels, and where they try thresholds also for a
confidence that is NaN.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import NEUTRAL, Dialogue, emotion_class
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import decode_pairs, expressed_classes
from rpcl_jax.evaluation.scores_file import ScoredDialogue

# A threshold that no probability reaches, even if rounding made it slightly larger than 1.
PREDICT_NOTHING = 2.0
# Reported beside the threshold chosen on validation: a gain at only one of the two may be a shift
# of the operating point.
FIXED_THRESHOLD = 0.5


def precision_recall_f1(true_positive: Any, predicted: Any, gold: Any) -> dict[str, Any]:
    """Returns precision, recall and F1 = 2 TP / (predicted + gold), where 0 / 0 counts as 0."""
    return {
        "precision": true_positive / np.maximum(predicted, 1),
        "recall": true_positive / np.maximum(gold, 1),
        "f1": 2 * true_positive / np.maximum(predicted + gold, 1),
    }


def pair_labels(scored: ScoredDialogue) -> np.ndarray:
    """Returns bool [n, n], the gold pairs within the cut, candidates or not."""
    n = len(scored.pair_confidence)
    labels = np.zeros((n, n), bool)
    for i, j in _gold_pairs(scored.dialogue):
        if i < n and j < n:
            labels[i, j] = True
    return labels


def pair_counts(scored: ScoredDialogue, threshold: float) -> tuple[int, int, int]:
    """Returns how many true positives, predicted pairs and gold pairs a dialogue has at `τ`."""
    predicted = decode_pairs(scored.pair_confidence, scored.candidate_mask, threshold)
    gold = _gold_pairs(scored.dialogue)
    return len(set(predicted) & set(gold)), len(predicted), len(gold)


def best_threshold(confidences: np.ndarray, labels: np.ndarray, missed: int) -> tuple[float, float]:
    """Returns the threshold `τ` with the best F1 of the prediction `p >= τ`, and that F1.

    The search is exact, because it tries every confidence; equal confidences are predicted
    together. Of several thresholds with the best F1, the largest is returned, which predicts the
    fewest pairs. If no threshold finds a gold pair, `PREDICT_NOTHING` with F1 0 is returned.

    The threshold is exactly one of the confidences, [m]: converting float32 to a Python float is
    lossless. `missed` gold pairs are not candidates; they still count as gold.
    """
    thresholds, true_positive, predicted = counts_at_thresholds(confidences, labels)
    if not true_positive.any():
        return PREDICT_NOTHING, 0.0
    f1 = 2 * true_positive / (predicted + true_positive[-1] + missed)
    best = np.argmax(f1)  # the first of equals; thresholds descend
    return float(thresholds[best]), float(f1[best])


def best_emotion_threshold(
    scored: Sequence[ScoredDialogue], threshold: float, classes: Sequence[str]
) -> float:
    """Returns the least probability with which the emotion of a predicted pair is best named.

    It has the best F1 of naming: right names out of all that are given to the emotion utterances
    of pairs at `threshold`, and out of all emotional utterances. See `best_threshold`.
    """
    probabilities, right = [], []
    emotional = 0
    for s in scored:
        gold = [emotion_class(u.emotion or NEUTRAL, classes) for u in s.dialogue.utterances]
        emotional += int(np.count_nonzero(gold))
        expressed = expressed_classes(s.emotion_probabilities)
        pairs = decode_pairs(s.pair_confidence, s.candidate_mask, threshold)
        for i in {i for i, _ in pairs}:
            probabilities.append(s.emotion_probabilities[i, expressed[i]])
            right.append(expressed[i] == gold[i])
    missed = emotional - sum(right)
    return best_threshold(np.array(probabilities), np.array(right, bool), missed)[0]


def average_precision(confidences: np.ndarray, labels: np.ndarray, missed: int) -> float:
    """Returns `Σ (R_n − R_{n−1}) P_n` over descending thresholds; 0 if there are no gold pairs.

    Equal confidences share a threshold, and nothing is interpolated, as in scikit-learn. `missed`
    gold pairs are not candidates; they stay in the denominator of recall and are never recalled.
    """
    _, true_positive, predicted = counts_at_thresholds(confidences, labels)
    if not true_positive.any():
        return 0.0
    recall_steps = np.diff(true_positive, prepend=0) / (true_positive[-1] + missed)
    return float(np.sum(recall_steps * true_positive / predicted))


def precision_recall_curve(scored: Sequence[ScoredDialogue]) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall, ascending, and precision at every distinct confidence of a candidate.

    Gold pairs that are not candidates are never recalled, so recall may end below 1.
    """
    confidences, labels = _candidates(scored)
    gold = sum(len(_gold_pairs(s.dialogue)) for s in scored)
    _, true_positive, predicted = counts_at_thresholds(confidences, labels)
    return true_positive / max(gold, 1), true_positive / predicted


def f1_curve(scored: Sequence[ScoredDialogue], thresholds: np.ndarray) -> np.ndarray:
    """Returns Pair F1 at `p >=` each of these thresholds; 0 / 0 counts as 0."""
    confidences, labels = _candidates(scored)
    gold = sum(len(_gold_pairs(s.dialogue)) for s in scored)
    at, true_positive, predicted = counts_at_thresholds(confidences, labels)
    chosen = np.searchsorted(-at, -thresholds, side="right")  # how many of `at` are predicted
    true_positive, predicted = (np.append(0, n)[chosen] for n in (true_positive, predicted))
    return 2 * true_positive / np.maximum(predicted + gold, 1)


class Reliability(NamedTuple):
    """The calibration of pair confidences.

    `confidence`, `gold` and `candidates`, [m] each, are the mean confidence, the fraction of gold
    pairs and the number of candidates in the m non-empty bins of ten equal bins of [0, 1].
    """

    confidence: np.ndarray
    gold: np.ndarray
    candidates: np.ndarray
    ece: float  # expected calibration error: mean |gold - confidence|, weighted by candidates
    brier: float  # mean squared difference of confidence and label


def reliability(scored: Sequence[ScoredDialogue]) -> Reliability:
    """Returns the reliability of the pair confidences of a split's candidates."""
    p, y = _candidates(scored)
    p = p.astype(np.float64)
    # Rounding may make a confidence slightly larger than 1.
    place = np.minimum((p * 10).astype(int), 9)
    count, total, gold = (np.bincount(place, w) for w in (None, p, y))
    filled = count > 0
    confidence, fraction = total[filled] / count[filled], gold[filled] / count[filled]
    return Reliability(
        confidence,
        fraction,
        count[filled],
        ece=float(np.sum(count[filled] * np.abs(fraction - confidence)) / len(p)),
        brier=float(np.mean((p - y) ** 2)),
    )


def category_counts(
    scored: Sequence[ScoredDialogue], threshold: float, classes: Sequence[str]
) -> np.ndarray:
    """Returns true positives, predicted and gold pairs by category, [dialogues, 3, C].

    The category of a pair is the emotion of its emotion utterance. A pair is correct only with the
    correct category.
    """
    counts = np.zeros((len(scored), 3, len(classes)))
    for (found, predicted, gold), s in zip(counts, scored, strict=True):
        emotions = [emotion_class(u.emotion or NEUTRAL, classes) for u in s.dialogue.utterances]
        for i, _ in _gold_pairs(s.dialogue):
            gold[emotions[i]] += 1
        expressed = expressed_classes(s.emotion_probabilities)
        for i, j in decode_pairs(s.pair_confidence, s.candidate_mask, threshold):
            predicted[expressed[i]] += 1
            found[expressed[i]] += (i, j) in _gold_pairs(s.dialogue) and expressed[i] == emotions[i]
    return counts


def weighted_f1(counts: np.ndarray) -> np.ndarray:
    """Returns the weighted average F1 of SemEval-2024 Task 3, Subtask 2, from `category_counts`.

    It is the F1 of each category except neutral, class 0, weighted by the category's number of gold
    pairs. `counts` is a sum over dialogues, [..., 3, C]; the result is [...].
    """
    found, predicted, gold = np.moveaxis(counts[..., 1:], -2, 0)
    f1 = precision_recall_f1(found, predicted, gold)["f1"]
    return (gold * f1).sum(-1) / np.maximum(gold.sum(-1), 1)


def emotion_weighted_f1(scored: Sequence[ScoredDialogue], classes: Sequence[str]) -> float:
    """Returns the F1 of every emotion class, neutral included, weighted by its utterances.

    This is the score of emotion recognition in conversation. An utterance's prediction is its most
    probable class, and neutral, class 0, beyond the cut.
    """
    counts = np.zeros((3, len(classes)))
    for s in scored:
        predicted = np.zeros(len(s.dialogue.utterances), int)
        predicted[: len(s.emotion_probabilities)] = s.emotion_probabilities.argmax(-1)
        gold = np.array(
            [emotion_class(u.emotion or NEUTRAL, classes) for u in s.dialogue.utterances]
        )
        for count, of in zip(counts, (gold[gold == predicted], predicted, gold), strict=True):
            np.add.at(count, of, 1)
    return float(np.average(precision_recall_f1(*counts)["f1"], weights=counts[2]))


def evaluate_split(
    scored: Sequence[ScoredDialogue], threshold: float | None, classes: Sequence[str]
) -> dict[str, float | int]:
    """Returns the metrics that are reported for a split.

    Pair F1 is micro-averaged over `(dialogue, i, j)`. Emotion F1 is binary, non-neutral or not, by
    the most probable class. Cause F1 is binary, the cause of any gold pair or not, by a confidence
    of at least 0.5. Gold pairs beyond the cut or outside the candidates count as missed; an
    utterance beyond the cut counts as predicted neutral and as no cause.

    Args:
      threshold: `τ`; None searches it on these dialogues.

    Returns:
      `threshold`; `{pair,emotion,cause}_{precision,recall,f1}`; the same of pairs at
      FIXED_THRESHOLD as `pair_{precision,recall,f1}_at_half`; `pair_auprc`; `weighted_f1` and
      `emotion_weighted_f1`, of the functions of these names; and the counts `gold_pairs`, among
      them `gold_pairs_cut` (with an utterance beyond the cut) and `gold_pairs_outside_candidates`
      (the other gold pairs that are not candidates), `predicted_pairs`, `dialogues` and
      `utterances` (including those beyond the cut).
    """
    confidences, labels = _candidates(scored)
    gold_pairs = sum(len(_gold_pairs(s.dialogue)) for s in scored)
    missed = gold_pairs - int(labels.sum())
    cut = gold_pairs - int(sum(pair_labels(s).sum() for s in scored))
    if threshold is None:
        threshold, _ = best_threshold(confidences, labels, missed)
    pairs, at_half = (
        np.sum([pair_counts(s, at) for s in scored], axis=0) for at in (threshold, FIXED_THRESHOLD)
    )
    emotions, causes = np.sum([_utterance_counts(s) for s in scored], axis=0)
    result: dict[str, float | int] = {"threshold": threshold}
    for name, counts in (
        ("pair_{}", pairs),
        ("emotion_{}", emotions),
        ("cause_{}", causes),
        ("pair_{}_at_half", at_half),
    ):
        for kind, value in precision_recall_f1(*counts).items():
            result[name.format(kind)] = float(value)
    return {
        **result,
        "pair_auprc": average_precision(confidences, labels, missed),
        "weighted_f1": float(weighted_f1(category_counts(scored, threshold, classes).sum(0))),
        "emotion_weighted_f1": emotion_weighted_f1(scored, classes),
        "gold_pairs": gold_pairs,
        "gold_pairs_cut": cut,
        "gold_pairs_outside_candidates": missed - cut,
        "predicted_pairs": int(pairs[1]),
        "dialogues": len(scored),
        "utterances": sum(len(s.dialogue.utterances) for s in scored),
    }


def _utterance_counts(scored: ScoredDialogue) -> np.ndarray:
    """Returns true positives, predicted and gold of emotional utterances and of causes, [2, 3]."""
    n, utterances = len(scored.cause_confidence), scored.dialogue.utterances
    gold, predicted = np.zeros((2, 2, len(utterances)), bool)
    gold[0] = [u.emotion not in (None, NEUTRAL) for u in utterances]
    gold[1, [j for _, j in _gold_pairs(scored.dialogue)]] = True
    predicted[0, :n] = scored.emotion_probabilities.argmax(axis=-1) > 0
    predicted[1, :n] = scored.cause_confidence >= 0.5
    return np.stack([gold & predicted, predicted, gold]).sum(axis=-1).T


def ranked_negatives(scored: ScoredDialogue) -> np.ndarray:
    """Returns int [n, n], the columns of each row, non-gold candidates first, by descending p.

    Ties go to the earlier column, as in jax.lax.top_k.
    """
    negatives = scored.candidate_mask & ~pair_labels(scored)
    ranked = np.where(negatives, -scored.pair_confidence, np.inf)
    return np.argsort(ranked, axis=1, kind="stable")


def confidence_diagnostics(
    scored: Sequence[ScoredDialogue], *, top_k: int, base_margin: float
) -> dict[str, float | int]:
    """Returns statistics of how far gold pairs are above the negatives of their row in confidence.

    The gap of `(i, j+, j-)` is `p[i, j+] − p[i, j-]`, its margin `base_margin · exp(q[j-] − q[j+])`
    for every objective. `j+` runs over the gold candidates of row `i`, `j-` over its `top_k` most
    confident non-gold candidates (`hard`) or all of them (`all`). Means are over the triples of the
    split; a mean over nothing is 0.

    Returns:
      `gold_confidence`, the mean p of gold candidates; for hard and all triples, `gap_*`, the mean
      gap, `severity_*`, the mean of `relu(margin − gap)`, and `triples_*`, their number; and
      `violation_rate_hard` and `inversion_rate_hard`, the fractions of hard triples with a gap
      below the margin and below 0.
    """
    sums = [diagnostic_sums(s, top_k=top_k, base_margin=base_margin) for s in scored]
    totals = {name: np.sum([s[name] for s in sums], axis=0) for name in sums[0]}
    means = {name: float(total / max(count, 1)) for name, (total, count) in totals.items()}
    return means | {
        "triples_hard": int(totals["gap_hard"][1]),
        "triples_all": int(totals["gap_all"][1]),
    }


def diagnostic_sums(
    scored: ScoredDialogue, *, top_k: int, base_margin: float
) -> dict[str, tuple[float, int]]:
    """Returns a dialogue's sum and count for every mean of `confidence_diagnostics`."""
    # float64, so that differences of float32 confidences are not rounded again.
    p = np.asarray(scored.pair_confidence, np.float64)
    q = np.asarray(scored.cause_confidence, np.float64)
    labels = pair_labels(scored)
    negatives = scored.candidate_mask & ~labels
    top = np.zeros_like(negatives)
    np.put_along_axis(top, ranked_negatives(scored)[:, :top_k], True, axis=1)
    rows, columns = np.nonzero(scored.candidate_mask & labels)
    gap = p[rows, columns, None] - p[rows]  # [gold pairs, n]
    margin = base_margin * np.exp(q - q[columns, None])
    severity = np.maximum(margin - gap, 0)
    every = negatives[rows]
    hard = every & top[rows]
    values = {
        "gold_confidence": p[rows, columns],
        "gap_hard": gap[hard],
        "gap_all": gap[every],
        "severity_hard": severity[hard],
        "severity_all": severity[every],
        "violation_rate_hard": severity[hard] > 0,
        "inversion_rate_hard": gap[hard] < 0,
    }
    return {name: (float(value.sum()), len(value)) for name, value in values.items()}


def _candidates(scored: Sequence[ScoredDialogue]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confidences and labels of all candidates, [m] each."""
    confidences = np.concatenate([s.pair_confidence[s.candidate_mask] for s in scored])
    return confidences, np.concatenate([pair_labels(s)[s.candidate_mask] for s in scored])


def counts_at_thresholds(
    confidences: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the distinct confidences, descending, and the TP and predictions at `p >=` each.

    The confidences and the bool labels are those of every candidate, [m].
    """
    if np.isnan(confidences).any():
        raise InputError(
            "pair confidences contain NaN: the model has diverged; lower "
            "config.optimizer.learning_rate and encoder_learning_rate"
        )
    values, place = np.unique(confidences, return_inverse=True)
    positives = place[np.asarray(labels, bool)]
    true_positive, predicted = (
        np.bincount(places, minlength=len(values))[::-1].cumsum() for places in (positives, place)
    )
    return values[::-1], true_positive, predicted


def _gold_pairs(dialogue: Dialogue) -> tuple[tuple[int, int], ...]:
    if dialogue.pairs is None:
        raise InputError(
            f"conversation {dialogue.id} has no labels to evaluate against; "
            "use --mode=predict for unlabelled conversations"
        )
    return dialogue.pairs
