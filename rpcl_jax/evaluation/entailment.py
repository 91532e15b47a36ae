"""Causal Emotion Entailment, RECCON's second task: the emotions are given, and their causes sought.

For every emotional utterance, each utterance up to and including it is a candidate. The task is to
tell causes from the others, so there are two F1 scores, of causes (positives) and of the others
(negatives), and their mean, macro F1 (Poria et al., 2021, https://arxiv.org/abs/2012.11820). Later
utterances are no candidates, even where the corpus has a cause there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rpcl_jax.data.dialogue import NEUTRAL
from rpcl_jax.evaluation.metrics import PREDICT_NOTHING, counts_at_thresholds
from rpcl_jax.evaluation.scores_file import ScoredDialogue

_BEYOND_CUT = -1.0  # below every threshold


def entailment(scored: Sequence[ScoredDialogue], threshold: float | None) -> dict[str, float | int]:
    """Returns the scores of Causal Emotion Entailment, with p as the confidence of a cause.

    Where an utterance is beyond the cut, its candidates count as predicted negative.

    Args:
      threshold: candidates with `p >= threshold` are predicted causes; None searches the threshold
        with the best macro F1 on these dialogues, the largest of several.

    Returns:
      `cee_threshold`, `cee_positive_f1`, `cee_negative_f1`, `cee_macro_f1`, and the numbers of
      `cee_positives` and `cee_negatives` among the candidates. A score of nothing is 0.
    """
    confidences, labels = _candidates(scored)
    if threshold is None:
        thresholds, found, predicted = counts_at_thresholds(confidences, labels)
        real = thresholds != _BEYOND_CUT
        thresholds = np.append(PREDICT_NOTHING, thresholds[real])
        found, predicted = (np.append(0, counts[real]) for counts in (found, predicted))
        threshold = float(thresholds[np.argmax(_scores(found, predicted, labels).mean(axis=0))])
    guess = confidences >= threshold
    positive, negative = _scores((guess & labels).sum(), guess.sum(), labels)
    return {
        "cee_threshold": threshold,
        "cee_positive_f1": float(positive),
        "cee_negative_f1": float(negative),
        "cee_macro_f1": float(positive + negative) / 2,
        "cee_positives": int(labels.sum()),
        "cee_negatives": int((~labels).sum()),
    }


def _candidates(scored: Sequence[ScoredDialogue]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confidences, float64, and labels, bool, of all candidates, [m] each."""
    confidences, labels = [np.zeros(0)], [np.zeros(0, bool)]
    for s in scored:
        n = len(s.pair_confidence)
        for i, utterance in enumerate(s.dialogue.utterances):
            if utterance.emotion != NEUTRAL:
                row = s.pair_confidence[i, : i + 1] if i < n else np.full(i + 1, _BEYOND_CUT)
                confidences.append(row)
                labels.append(np.zeros(i + 1, bool))
                labels[-1][[j for e, j in s.dialogue.pairs or () if e == i and j <= i]] = True
    return np.concatenate(confidences).astype(np.float64), np.concatenate(labels)


def _scores(found: Any, predicted: Any, labels: np.ndarray) -> np.ndarray:
    """Returns F1 of positives and of negatives, [2, …], from true and predicted positives […]."""
    positives, all_ = labels.sum(), len(labels)
    negatives_found = all_ - predicted - positives + found
    return np.stack(
        [
            2 * found / np.maximum(predicted + positives, 1),
            2 * negatives_found / np.maximum(2 * all_ - predicted - positives, 1),
        ]
    )
