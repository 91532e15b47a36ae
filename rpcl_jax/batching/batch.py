"""A batch: fixed-shape arrays of several dialogues, and how they are filled."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.batching.packing import (
    DialogueRows,
    PackedText,
    assign_rows,
    pack_dialogues,
    pack_rows,
)
from rpcl_jax.batching.text import Segment
from rpcl_jax.data.dialogue import Dialogue, emotion_class
from rpcl_jax.data.features import Features, FeatureTable

Array = Any  # NumPy's on the host, JAX's on the devices


class TextVectors(NamedTuple):
    """Utterance vectors of a frozen text encoder, float32 [b, n, features]."""

    vectors: Array


class Batch(NamedTuple):
    """b dialogues of at most n utterances; rows of packed word pieces, rows of packed utterances.

    Axis 0 of every array is split over the devices; the slots and places of `text` and
    `dialogue_rows` are numbered on each device alone. `audio` and `vision` are absent (None) where
    the model does not read them.
    """

    text: PackedText | TextVectors  # word pieces, or the vectors of a frozen encoder
    dialogue_rows: DialogueRows  # int32 [rows, n] and [b, n]
    utterance_mask: Array  # bool [b, n]
    speakers: Array  # int32 [b, n], numbered inside the dialogue
    emotion_labels: Array  # int32 [b, n]
    cause_labels: Array  # int32 [b, n]
    pair_labels: Array  # bool [b, n, n], row = emotion, column = cause
    candidate_mask: Array  # bool [b, n, n], V
    audio: Features | None  # [b, n, …]
    vision: Features | None


class BatchShape(NamedTuple):
    """Sizes on one device: `dialogues` of `utterances` slots, which are packed into
    `dialogue_rows` of as many utterances, and `text_rows` of `row_length` word pieces.

    `text` is the width of text vectors, 0 where the text is word pieces; `audio` and `vision` are
    feature widths, 0 where the model does not read them.
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
    """A dialogue made ready: cut at the most utterances, its text as word pieces.

    Features stay in their tables, which may be larger than memory, until a batch asks for them.
    """

    dialogue: Dialogue  # whole; evaluation counts what the cut loses
    length: int  # utterances that are kept
    text: list[Segment] | FeatureTable  # its word pieces, or the table with its vectors
    tables: Mapping[str, FeatureTable] = MappingProxyType({})  # "audio", "vision" or fewer

    @property
    def tokens(self) -> int:
        """Word pieces of all segments, special tokens included; 0 where there are vectors."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def segments(self) -> list[Segment]:
        """Its word pieces; none where there are vectors."""
        return [] if isinstance(self.text, FeatureTable) else self.text


def candidate_mask(utterance_mask: np.ndarray, candidates: str) -> np.ndarray:
    """V, the cells that are scored, trained on and decoded.

    Args:
      utterance_mask: bool [..., n], real utterances.
      candidates: "all" cells of real utterances, or only "past": causes j ≤ i.

    Returns:
      bool [..., n, n].
    """
    mask = utterance_mask[..., :, None] & utterance_mask[..., None, :]
    return np.tril(mask) if candidates == "past" else mask


def rows_needed(examples: Sequence[Example], utterances: int, row_length: int) -> tuple[int, int]:
    """Rows of `utterances` utterances and rows of `row_length` word pieces that `examples` take."""
    pieces = [len(s.token_ids) for example in examples for s in example.segments]
    return (
        len(assign_rows([example.length for example in examples], utterances)),
        len(assign_rows(pieces, row_length)),
    )


def make_batch(
    examples: Sequence[Example], shape: BatchShape, candidates: str, emotions: tuple[str, ...]
) -> Batch:
    """Fills the batch of one device.

    Args:
      examples: at most `shape.dialogues`.
      shape: sizes of the batch.
      candidates: see `candidate_mask`.
      emotions: names of the emotion classes, one of `EMOTION_CLASSES`.
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
            # An utterance stays a cause even where the emotion it causes was cut off.
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
    """The rows of each example in its table, in arrays of `shape` [b, n, width]."""
    features = Features(np.zeros(shape, np.float32), np.zeros(shape[:2], bool))
    for place, (table, example) in enumerate(zip(tables, examples, strict=True)):
        ids = [utterance.id for utterance in example.dialogue.utterances[: example.length]]
        rows = table.rows(ids)
        features.values[place, : example.length] = rows.values
        features.present[place, : example.length] = rows.present
    return features
