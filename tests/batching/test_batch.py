import numpy as np
import pytest

from rpcl_jax.batching.batch import BatchShape, Example, candidate_mask, make_batch
from rpcl_jax.batching.text import Segment
from rpcl_jax.data.dialogue import EMOTION_CLASSES, EMOTIONS, Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable


def example(speakers, emotions, pairs, length=None, **tables):
    utterances = tuple(
        Utterance(f"u{t}", speaker, "x", emotion)
        for t, (speaker, emotion) in enumerate(zip(speakers, emotions, strict=True))
    )
    length = length or len(utterances)
    segments = [
        Segment(np.array([2, 9, 3], np.int32), np.array([-1, t, -1], np.int32))
        for t in range(length)
    ]
    return Example(Dialogue("1", utterances, pairs), length, segments, tables)


def test_a_batch_by_hand():
    joy = example("ABA", ["neutral", "joy", "anger"], ((1, 0), (1, 1)))
    cut = example("CDC", ["neutral", "neutral", "sadness"], ((2, 1),), length=2)
    batch = make_batch([joy, cut], BatchShape(3, 3, 2, 4, 8), "past", EMOTIONS)
    assert batch.utterance_mask.tolist() == [[True] * 3, [True, True, False], [False] * 3]
    assert batch.speakers.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert batch.emotion_labels.tolist() == [[0, 4, 1], [0, 0, 0], [0, 0, 0]]
    assert batch.cause_labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert np.argwhere(batch.pair_labels).tolist() == [[0, 1, 0], [0, 1, 1]]
    assert batch.candidate_mask.sum(axis=(1, 2)).tolist() == [6, 3, 0]
    # The dialogue of three fills a row, that of two the next; 9 and 6 say "none".
    assert batch.dialogue_rows.slots.tolist() == [[0, 1, 2], [3, 4, 9]]
    assert batch.dialogue_rows.places.tolist() == [[0, 1, 2], [3, 4, 6], [6, 6, 6]]
    assert sorted(batch.text.utterance_ids[batch.text.utterance_ids < 9]) == [0, 1, 2, 3, 4]
    assert batch.audio is None
    assert batch.vision is None


def test_features_lie_beside_their_utterances():
    table = FeatureTable(
        np.arange(1, 5, dtype=np.float32).reshape(2, 2),
        {"u2": 0, "u0": 1},
        absent={"u1": "no sound"},
    )
    e = example("ABA", ["neutral"] * 3, (), audio=table)
    batch = make_batch([e], BatchShape(2, 4, 1, 2, 8, audio=2), "all", EMOTIONS)
    assert batch.audio.values.tolist() == [[[3, 4], [0, 0], [1, 2], [0, 0]], [[0, 0]] * 4]
    assert batch.audio.present.tolist() == [[True, False, True, False], [False] * 4]


def test_two_classes_of_emotion():
    e = example("ABA", ["joy", "emotional", "neutral"], ())
    shape = BatchShape(1, 3, 1, 2, 8)
    batch = make_batch([e], shape, "all", EMOTION_CLASSES["binary"])
    assert batch.emotion_labels.tolist() == [[1, 1, 0]]
    with pytest.raises(ValueError, match="not in tuple"):
        make_batch([e], shape, "all", EMOTIONS)


def test_candidates():
    mask = np.array([True, True, False])
    assert candidate_mask(mask, "past").tolist() == [
        [True, False, False],
        [True, True, False],
        [False, False, False],
    ]
    assert candidate_mask(mask, "all").tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, False],
    ]
