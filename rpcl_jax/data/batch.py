"""A batch: fixed-shape arrays of several dialogues, and how they are filled."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import Dialogue, emotion_class
from rpcl_jax.data.features import Features, FeatureTable
from rpcl_jax.data.packing import DialogueRows, assign_rows, pack_dialogues, pack_rows
from rpcl_jax.data.text import Segment

Array = Any  # NumPy's on the host, JAX's on the devices


class Batch(NamedTuple):
    """b dialogues of at most n utterances; rows of packed word pieces, rows of packed utterances.

    Axis 0 of every array is split over the devices; the slots and places of `text` and
    `dialogue_rows` are numbered on each device alone. `audio` and `vision` are absent (None) where
    the model does not read them.
    """

    text: Any  # PackedText, int32 [rows, length] each; or vectors, float32 [b, n, features]
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

    `text`, `audio` and `vision` are feature widths, 0 where the model does not read them; with
    `text` there are no word pieces.
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
    segments: list[Segment]
    tables: Mapping[str, FeatureTable] = MappingProxyType({})  # by name of the Batch's field

    @property
    def tokens(self) -> int:
        """Word pieces of all segments, specials counted."""
        return sum(len(segment.token_ids) for segment in self.segments)


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
    text = _features(examples, "text", shape)
    return Batch(
        text=text.values
        if text
        else pack_rows(segments, first_slots, shape.text_rows, shape.row_length, b * n),
        dialogue_rows=pack_dialogues([e.length for e in examples], b, shape.dialogue_rows, n),
        utterance_mask=utterance_mask,
        speakers=speakers,
        emotion_labels=emotion_labels,
        cause_labels=cause_labels,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask(utterance_mask, candidates),
        audio=_features(examples, "audio", shape),
        vision=_features(examples, "vision", shape),
    )


def _features(examples: Sequence[Example], name: str, shape: BatchShape) -> Features | None:
    width = getattr(shape, name)
    if not width:
        return None
    b, n = shape.dialogues, shape.utterances
    features = Features(np.zeros((b, n, width), np.float32), np.zeros((b, n), bool))
    for place, example in enumerate(examples):
        ids = [utterance.id for utterance in example.dialogue.utterances[: example.length]]
        rows = example.tables[name].rows(ids)
        features.values[place, : example.length] = rows.values
        features.present[place, : example.length] = rows.present
    return features
