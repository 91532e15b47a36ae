"""Decoding: which pairs are predicted, and with which emotion."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import EMOTIONAL


class Prediction(NamedTuple):
    """What is predicted of a conversation of n utterances."""

    pairs: list[tuple[int, int]]  # (emotion utterance, cause utterance), 0-based and sorted
    confidences: list[float]  # of the pairs
    emotions: list[str]  # of the n utterances
    probabilities: list[float]  # of these emotions


def decode_pairs(
    pair_confidence: np.ndarray, candidate_mask: np.ndarray, threshold: float
) -> list[tuple[int, int]]:
    """Returns the predicted pairs `{(i, j) in V : p[i, j] >= threshold}`, 0-based and sorted.

    Both arrays are [n, n], row = emotion utterance, column = cause utterance. Outside the candidate
    set `V`, `p` is ignored.
    """
    # Compared with a float32 array, NumPy would round `threshold` to float32.
    confident = np.asarray(pair_confidence, np.float64) >= threshold
    rows, columns = np.nonzero(confident & candidate_mask)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def expressed_classes(emotion_probabilities: np.ndarray) -> np.ndarray:
    """Returns the most probable class of each utterance except neutral, which is class 0, [n].

    It is the emotion of the pairs of an emotion utterance: a predicted pair implies that the
    utterance expresses one.
    """
    return 1 + np.asarray(emotion_probabilities)[:, 1:].argmax(axis=-1)


def emotion_choices(
    emotion_probabilities: np.ndarray, classes: Sequence[str], least: float = 0.0
) -> list[list[tuple[str, float]]]:
    """Returns what the emotion of every utterance can be, with its probability.

    First its most probable class, which it has in no pair, then its most probable non-neutral
    class, which it has as the emotion utterance of a pair. If that is less probable than `least`,
    it is `EMOTIONAL`, with the probability of not being neutral.
    """
    probabilities = np.asarray(emotion_probabilities)
    likeliest = probabilities.argmax(axis=-1)
    expressed = expressed_classes(probabilities)
    choices = []
    for row, likely, c in zip(probabilities, likeliest, expressed, strict=True):
        named = (classes[c], float(row[c]))
        if row[c] < least:
            named = (EMOTIONAL, float(1 - row[0]))
        choices.append([(classes[likely], float(row[likely])), named])
    return choices


def predict(
    pairs: Sequence[tuple[int, int]],
    confidences: Sequence[float],
    emotion_probabilities: np.ndarray,
    classes: Sequence[str],
    least: float = 0.0,
) -> Prediction:
    """Returns predicted pairs with the emotion of every utterance.

    An utterance's emotion is its most probable class. In a predicted pair it is that of the pair,
    which is not neutral, so that pairs and utterances never contradict each other; `least` is for
    `emotion_choices`.
    """
    paired = {i for i, _ in pairs}
    choices = emotion_choices(emotion_probabilities, classes, least)
    chosen = [choice[i in paired] for i, choice in enumerate(choices)]
    return Prediction(
        list(pairs), list(confidences), [name for name, _ in chosen], [p for _, p in chosen]
    )
