"""Batches: fixed-shape arrays of several dialogues, and the code that fills them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from rpcl_jax.batching.packing import (
    Array,
    DialogueRows,
    PackedText,
    assign_rows,
    pack_dialogues,
    pack_rows,
)
from rpcl_jax.batching.text import Pieces
from rpcl_jax.data.dialogue import Dialogue, emotion_class
from rpcl_jax.data.features import Features, FeatureTable


class TextVectors(NamedTuple):
    """Utterance vectors of a frozen text encoder, float32 [b, n, features]."""

    vectors: Array


class Batch(NamedTuple):
    """b dialogues of at most n utterances, with rows that pack their word pieces and utterances.

    Axis 0 of every array is split over the devices. The slots and places of `text` and
    `dialogue_rows` (rpcl_jax/batching/packing.py) are numbered per device. `audio` and `vision` are
    None if the model does not read them.
    """

    text: PackedText | TextVectors  # word pieces, or the vectors of a frozen encoder
    dialogue_rows: DialogueRows  # int32 [rows, n] and [b, n]
    utterance_mask: Array  # bool [b, n]
    speakers: Array  # int32 [b, n], numbered within the dialogue
    emotion_labels: Array  # int32 [b, n]
    cause_labels: Array  # int32 [b, n]
    pair_labels: Array  # bool [b, n, n], row = emotion, column = cause
    candidate_mask: Array  # bool [b, n, n], V
    audio: Features | None  # [b, n, …]
    vision: Features | None


class BatchShape(NamedTuple):
    """The sizes of a batch on one device.

    It has `dialogues` dialogues of `utterances` slots, packed into `dialogue_rows` rows of
    `utterances` places, and `text_rows` rows of `row_length` word pieces. `text` is the width of
    text vectors, or 0 if the text is word pieces. `audio` and `vision` are feature widths, or 0 if
    the model does not read them.
    """

    dialogues: int
    utterances: int
    dialogue_rows: int
    text_rows: int
    row_length: int
    text: int = 0
    audio: int = 0
    vision: int = 0


class Labels(NamedTuple):
    """What is known of the kept utterances of a dialogue, as int32 arrays."""

    speakers: np.ndarray  # [length], numbered within the dialogue
    emotions: np.ndarray  # [length], classes
    causes: np.ndarray  # [length], 1 for a cause
    pairs: np.ndarray  # [pairs, 2], row = emotion, column = cause


class Example(NamedTuple):
    """A dialogue prepared for batching: cut to at most n utterances and tokenized.

    Features stay in their tables, which may be larger than memory, until a batch needs them.
    """

    dialogue: Dialogue  # uncut, because evaluation counts what the cut loses
    length: int  # number of utterances kept
    labels: Labels
    text: Pieces | FeatureTable  # its word pieces, or the table of its text vectors
    tables: Mapping[str, FeatureTable] = MappingProxyType({})  # by modality: "audio", "vision"

    @property
    def segments(self) -> np.ndarray:
        """Returns the number of word pieces of each segment; none if text is vectors."""
        return np.empty(0, int) if isinstance(self.text, FeatureTable) else self.text.lengths


class Rows(NamedTuple):
    """What the rows of a batch hold, see `packing.assign_rows`."""

    dialogues: list[list[int]]  # in each row of utterances
    segments: list[list[int]]  # in each row of word pieces


def label_arrays(dialogue: Dialogue, length: int, emotions: tuple[str, ...]) -> Labels:
    """Returns the labels of a dialogue's first `length` utterances.

    What is not labelled is class 0 and no cause. An emotion that is none of `emotions` is a
    ValueError.
    """
    kept = dialogue.utterances[:length]
    numbers: dict[str, int] = {}
    speakers = [numbers.setdefault(utterance.speaker, len(numbers)) for utterance in kept]
    classes = [
        0 if utterance.emotion is None else emotion_class(utterance.emotion, emotions)
        for utterance in kept
    ]
    causes = np.zeros(length, np.int32)
    # An utterance remains a cause even if its emotion utterance was cut off.
    causes[[j for _, j in dialogue.pairs or () if j < length]] = 1
    pairs = [(i, j) for i, j in dialogue.pairs or () if max(i, j) < length]
    return Labels(
        np.array(speakers, np.int32),
        np.array(classes, np.int32),
        causes,
        np.array(pairs, np.int32).reshape(-1, 2),
    )


def candidate_mask(utterance_mask: np.ndarray, candidates: str) -> np.ndarray:
    """Returns V, bool [..., n, n], the cells that are scored, trained on and decoded.

    Args:
      utterance_mask: bool [..., n], True for real utterances.
      candidates: "all" for all cells of real utterances, "past" for those with j ≤ i.
    """
    mask = utterance_mask[..., :, None] & utterance_mask[..., None, :]
    if candidates == "past":
        mask &= np.tri(mask.shape[-1], dtype=bool)
    return mask


def plan_rows(examples: Sequence[Example], utterances: int, row_length: int) -> Rows:
    """Packs `examples` into rows of `utterances` places and of `row_length` word pieces."""
    segments = [example.segments for example in examples]
    return Rows(
        assign_rows([example.length for example in examples], utterances),
        assign_rows(np.concatenate([np.empty(0, int), *segments]), row_length),
    )


def make_batch(
    examples: Sequence[Example], rows: Rows, shape: BatchShape, candidates: str
) -> Batch:
    """Returns the batch of at most `shape.dialogues` examples on one device; see `plan_rows`."""
    b, n = shape.dialogues, shape.utterances
    lengths = np.zeros(b, int)
    lengths[: len(examples)] = [example.length for example in examples]
    utterance_mask = np.arange(n) < lengths[:, None]
    speakers, emotion_labels, cause_labels = np.zeros((3, b, n), np.int32)
    pair_labels = np.zeros((b, n, n), bool)
    if examples:
        labels = [example.labels for example in examples]
        speakers[utterance_mask] = np.concatenate([known.speakers for known in labels])
        emotion_labels[utterance_mask] = np.concatenate([known.emotions for known in labels])
        cause_labels[utterance_mask] = np.concatenate([known.causes for known in labels])
        pairs = np.concatenate([known.pairs for known in labels])
        places = np.repeat(np.arange(len(labels)), [len(known.pairs) for known in labels])
        pair_labels[places, pairs[:, 0], pairs[:, 1]] = True

    text: PackedText | TextVectors
    if shape.text:
        tables = [e.text for e in examples if isinstance(e.text, FeatureTable)]
        text = TextVectors(_features(tables, examples, (b, n, shape.text)).values)
    else:
        pieces = [e.text for e in examples if isinstance(e.text, Pieces)]
        text = pack_rows(pieces, rows.segments, shape.text_rows, shape.row_length, n, b * n)

    def modality(name: str, width: int) -> Features | None:
        if not width:
            return None
        return _features([e.tables[name] for e in examples], examples, (b, n, width))

    return Batch(
        text=text,
        dialogue_rows=pack_dialogues(
            [e.length for e in examples], rows.dialogues, b, shape.dialogue_rows, n
        ),
        utterance_mask=utterance_mask,
        speakers=speakers,
        emotion_labels=emotion_labels,
        cause_labels=cause_labels,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask(utterance_mask, candidates),
        audio=modality("audio", shape.audio),
        vision=modality("vision", shape.vision),
    )


def _features(
    tables: Sequence[FeatureTable], examples: Sequence[Example], shape: tuple[int, int, int]
) -> Features:
    """Returns the rows of each example from its table, in arrays of `shape` [b, n, width]."""
    features = Features(np.zeros(shape, np.float32), np.zeros(shape[:2], bool))
    for place, (table, example) in enumerate(zip(tables, examples, strict=True)):
        ids = [utterance.id for utterance in example.dialogue.utterances[: example.length]]
        rows = table.rows(ids)
        features.values[place, : example.length] = rows.values
        features.present[place, : example.length] = rows.present
    return features
