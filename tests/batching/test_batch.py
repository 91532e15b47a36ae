"""Batches by hand: every array, for whole and for cut dialogues."""

import numpy as np
import pytest

from rpcl_jax.batching.batch import (
    BatchShape,
    Example,
    TextVectors,
    candidate_mask,
    label_arrays,
    plan_rows,
)
from rpcl_jax.batching.batch import make_batch as make_planned_batch
from rpcl_jax.batching.text import Pieces
from rpcl_jax.data.dialogue import BINARY, EMOTIONS, Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable


def make_batch(examples, shape, candidates):
    rows = plan_rows(examples, shape.utterances, shape.row_length)
    return make_planned_batch(examples, rows, shape, candidates)


def example(speakers, emotions, pairs, length=None, text=None, classes=EMOTIONS, **tables):
    utterances = tuple(
        Utterance(f"u{t}", speaker, "x", emotion)
        for t, (speaker, emotion) in enumerate(zip(speakers, emotions, strict=True))
    )
    length = length or len(utterances)
    owners = np.array([[-1, t, -1] for t in range(length)])
    pieces = Pieces(np.tile([2, 9, 3], length), owners.ravel(), np.full(length, 3))
    dialogue = Dialogue("1", utterances, pairs)
    labels = label_arrays(dialogue, length, classes)
    return Example(dialogue, length, labels, text or pieces, tables)


def test_a_batch_by_hand():
    joy = example("ABA", ["neutral", "joy", "anger"], ((1, 0), (1, 1)))
    cut = example("CDC", ["neutral", "neutral", "sadness"], ((2, 1),), length=2)
    batch = make_batch([joy, cut], BatchShape(3, 3, 2, 4, 8), "past")
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
    batch = make_batch([e], BatchShape(2, 4, 1, 2, 8, audio=2), "all")
    assert batch.audio.values.tolist() == [[[3, 4], [0, 0], [1, 2], [0, 0]], [[0, 0]] * 4]
    assert batch.audio.present.tolist() == [[True, False, True, False], [False] * 4]


def test_audio_and_vision_are_not_confused():
    audio = FeatureTable(np.full((1, 2), 5, np.float32), {"u0": 0}, absent={"u1": "silent"})
    vision = FeatureTable(np.full((1, 3), 7, np.float32), {"u1": 0}, absent={"u0": "dark"})
    e = example("AB", ["neutral"] * 2, (), audio=audio, vision=vision)
    batch = make_batch([e], BatchShape(1, 2, 1, 2, 8, audio=2, vision=3), "all")
    assert batch.audio.values.tolist() == [[[5, 5], [0, 0]]]
    assert batch.vision.values.tolist() == [[[0, 0, 0], [7, 7, 7]]]
    assert batch.audio.present.tolist() == [[True, False]]
    assert batch.vision.present.tolist() == [[False, True]]


def test_vectors_of_a_frozen_encoder_lie_beside_their_utterances():
    table = FeatureTable(
        np.arange(1, 7, dtype=np.float32).reshape(3, 2), {"u2": 0, "u0": 1, "u1": 2}
    )
    whole = example("ABA", ["neutral"] * 3, (), text=table)
    cut = example("ABA", ["neutral"] * 3, (), length=2, text=table)
    batch = make_batch([cut, whole], BatchShape(3, 4, 2, 0, 8, text=2), "all")
    assert isinstance(batch.text, TextVectors)
    assert batch.text.vectors.dtype == np.float32
    assert batch.text.vectors.tolist() == [
        [[3, 4], [5, 6], [0, 0], [0, 0]],
        [[3, 4], [5, 6], [1, 2], [0, 0]],
        [[0, 0]] * 4,
    ]
    assert whole.segments.tolist() == []
    assert plan_rows([cut, whole], 4, 8) == ([[1], [0]], [])


def test_word_pieces_and_rows_are_counted():
    three, two = (example("A" * n, ["neutral"] * n, ()) for n in (3, 2))
    assert (three.segments.tolist(), two.segments.tolist()) == ([3, 3, 3], [3, 3])
    # Utterances: 3 and 2 fit in rows of 5 together, in rows of 4 alone. Of five segments of three
    # pieces, two fit in a row of 8.
    assert plan_rows([three, two], 5, 8) == ([[0, 1]], [[0, 1], [2, 3], [4]])
    assert plan_rows([three, two], 4, 3) == ([[0], [1]], [[0], [1], [2], [3], [4]])
    batch = make_batch([three, two], BatchShape(2, 3, 2, 3, 8), "all")
    places = {
        tuple(batch.text.token_ids[row, column : column + 3])
        for row, column in np.argwhere(batch.text.segment_ids * (batch.text.position_ids == 0))
    }
    assert places == {(2, 9, 3)}
    assert (batch.text.token_ids > 0).sum() == 15
    assert sorted(batch.text.utterance_ids[batch.text.utterance_ids < 6]) == [0, 1, 2, 3, 4]


def test_a_dialogue_without_labels_and_a_pair_whose_cause_is_cut():
    unlabelled = example("AB", [None, None], None)
    cut = example("AB", ["joy", "neutral"], ((0, 1),), length=1)
    batch = make_batch([unlabelled, cut], BatchShape(2, 2, 2, 4, 8), "all")
    assert batch.utterance_mask.tolist() == [[True, True], [True, False]]
    assert batch.emotion_labels.tolist() == [[0, 0], [4, 0]]
    assert not batch.cause_labels.any()
    assert not batch.pair_labels.any()


def test_types_of_the_arrays():
    batch = make_batch([example("A", ["joy"], ())], BatchShape(1, 1, 1, 1, 8), "all")
    for array in (*batch.text, *batch.dialogue_rows, batch.speakers, batch.emotion_labels,
                  batch.cause_labels):  # fmt: skip
        assert array.dtype == np.int32
    for array in (batch.utterance_mask, batch.pair_labels, batch.candidate_mask):
        assert array.dtype == bool


def test_two_classes_of_emotion():
    speakers, emotions = "ABA", ["joy", "emotional", "neutral"]
    e = example(speakers, emotions, (), classes=BINARY)
    batch = make_batch([e], BatchShape(1, 3, 1, 2, 8), "all")
    assert batch.emotion_labels.tolist() == [[1, 1, 0]]
    with pytest.raises(ValueError, match="not in tuple"):
        example(speakers, emotions, ())


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
