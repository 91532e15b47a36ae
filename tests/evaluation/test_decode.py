import math

import numpy as np
import pytest

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.evaluation.decode import decode_pairs, emotion_choices, expressed_classes, predict


def test_decode_pairs_are_the_candidates_at_or_over_the_threshold_in_order():
    confidence = np.array([[0.5, 0.9, 0.4], [0.7, 0.49, 0.5], [np.nan, 0.1, 1.0]], np.float32)
    past_and_itself = np.tri(3, dtype=bool)
    past_and_itself[2, 0] = False

    assert decode_pairs(confidence, past_and_itself, 0.5) == [(0, 0), (1, 0), (2, 2)]
    everything = decode_pairs(confidence, np.ones((3, 3), bool), 0.5)
    assert everything == [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2)]
    assert all(type(t) is int for pair in everything for t in pair)  # ready for JSON
    assert decode_pairs(confidence, np.zeros((3, 3), bool), 0.0) == []


@pytest.mark.parametrize("seed", range(3))
def test_decode_pairs_loses_nothing_between_float32_and_float64(seed):
    confidence = np.random.default_rng(seed).random((20, 20)).astype(np.float32)
    anywhere = np.ones((20, 20), bool)
    for value in confidence.ravel()[:40]:
        threshold = float(value)
        place = tuple(np.argwhere(confidence == value)[0].tolist())
        assert place in decode_pairs(confidence, anywhere, threshold)
        # NumPy would take the next larger Python float for the same float32.
        assert place not in decode_pairs(confidence, anywhere, math.nextafter(threshold, 2))


def test_the_emotion_of_a_pair_is_never_neutral():
    probabilities = np.full((3, len(EMOTIONS)), 0.01)
    probabilities[0, EMOTIONS.index("joy")] = 0.9
    probabilities[1, EMOTIONS.index("neutral")] = 0.8
    probabilities[1, EMOTIONS.index("fear")] = 0.1
    probabilities[2, EMOTIONS.index("surprise")] = 0.5

    expressed = [EMOTIONS[c] for c in expressed_classes(probabilities)]
    assert expressed == ["joy", "fear", "surprise"]


def test_an_emotion_is_the_likeliest_or_in_a_pair_the_likeliest_but_neutral():
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]])
    assert emotion_choices(probabilities, ("neutral", "a", "b")) == [
        [("neutral", 0.5), ("b", 0.3)],
        [("a", 0.6), ("a", 0.6)],
    ]


def test_an_emotion_that_is_too_unsure_has_no_name():
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]])
    classes = ("neutral", "a", "b")
    (_, unsure), (_, sure) = emotion_choices(probabilities, classes, least=0.31)
    assert (unsure, sure) == (("emotional", 0.5), ("a", 0.6))
    (_, named), _ = emotion_choices(probabilities, classes, least=0.3)
    assert named == ("b", 0.3)
    found = predict([(0, 0), (1, 0)], [0.9, 0.8], probabilities, classes, 0.31)
    assert (found.emotions, found.probabilities) == (["emotional", "a"], [0.5, 0.6])


def test_with_two_classes_a_pair_is_emotional():
    assert expressed_classes([[0.9, 0.1], [0.2, 0.8]]).tolist() == [1, 1]


def test_of_equally_likely_emotions_the_first_is_taken():
    assert expressed_classes([[0.1, 0.1, 0.4, 0.4]]).tolist() == [2]
