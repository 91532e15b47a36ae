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
from rpcl_jax.batching.text import Segment
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


class Example(NamedTuple):
    """A dialogue prepared for batching: cut to at most n utterances and tokenized.

    Features stay in their tables, which may be larger than memory, until a batch needs them.
    """

    dialogue: Dialogue  # uncut, because evaluation counts what the cut loses
    length: int  # number of utterances kept
    text: list[Segment] | FeatureTable  # its word pieces, or the table of its text vectors
    tables: Mapping[str, FeatureTable] = MappingProxyType({})  # by modality: "audio", "vision"

    @property
    def tokens(self) -> int:
        """Returns the number of word pieces, special tokens included; 0 if text is vectors."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def segments(self) -> list[Segment]:
        """Returns the segments of word pieces; empty if text is vectors."""
        return [] if isinstance(self.text, FeatureTable) else self.text


def candidate_mask(utterance_mask: np.ndarray, candidates: str) -> np.ndarray:
    """Returns V, the cells that are scored, trained on and decoded.

    Args:
      utterance_mask: bool [..., n], True for real utterances.
      candidates: "all" for all cells of real utterances, "past" for those with j ≤ i.

    Returns:
      bool [..., n, n].
    """
    mask = utterance_mask[..., :, None] & utterance_mask[..., None, :]
    return np.tril(mask) if candidates == "past" else mask


def rows_needed(examples: Sequence[Example], utterances: int, row_length: int) -> tuple[int, int]:
    """Returns how many rows of `utterances` places and of `row_length` pieces `examples` need."""
    pieces = [len(s.token_ids) for example in examples for s in example.segments]
    return (
        len(assign_rows([example.length for example in examples], utterances)),
        len(assign_rows(pieces, row_length)),
    )


def make_batch(
    examples: Sequence[Example], shape: BatchShape, candidates: str, emotions: tuple[str, ...]
) -> Batch:
    """Returns the batch of one device.

    Args:
      examples: at most `shape.dialogues` of them.
      shape: the sizes of the batch.
      candidates: see `candidate_mask`.
      emotions: names of the emotion classes.
    """
    b, n = shape.dialogues, shape.utterances
    utterance_mask = np.zeros((b, n), bool)
    speakers, emotion_labels, cause_labels = np.zeros((3, b, n), np.int32)
    pair_labels = np.zeros((b, n, n), bool)
    for place, example in enumerate(examples):
        kept = example.dialogue.utterances[: example.length]
        utterance_mask[place, : len(kept)] = True
        numbers: dict[str, int] = {}
        for t, utterance in enumerate(kept):
            speakers[place, t] = numbers.setdefault(utterance.speaker, len(numbers))
            if utterance.emotion is not None:
                emotion_labels[place, t] = emotion_class(utterance.emotion, emotions)
        for i, j in example.dialogue.pairs or ():
            # An utterance remains a cause even if its emotion utterance was cut off.
            if j < len(kept):
                cause_labels[place, j] = 1
                if i < len(kept):
                    pair_labels[place, i, j] = True
    segments = [segment for example in examples for segment in example.segments]
    first_slots = [place * n for place, e in enumerate(examples) for _ in e.segments]
    text: PackedText | TextVectors
    if shape.text:
        tables = [e.text for e in examples if isinstance(e.text, FeatureTable)]
        text = TextVectors(_features(tables, examples, (b, n, shape.text)).values)
    else:
        text = pack_rows(segments, first_slots, shape.text_rows, shape.row_length, b * n)

    def modality(name: str, width: int) -> Features | None:
        if not width:
            return None
        return _features([e.tables[name] for e in examples], examples, (b, n, width))

    return Batch(
        text=text,
        dialogue_rows=pack_dialogues([e.length for e in examples], b, shape.dialogue_rows, n),
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
