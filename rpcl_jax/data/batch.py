"""A batch: fixed-shape arrays of several dialogues, and how they are filled."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import EMOTIONS, Dialogue
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
    audio: Array | None  # float32 [b, n, features]
    vision: Array | None


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
    """A dialogue made ready: cut at the most utterances, its text as word pieces."""

    dialogue: Dialogue  # whole; evaluation counts what the cut loses
    length: int  # utterances that are kept
    segments: list[Segment]
    audio: np.ndarray | None  # float32 [length, features]
    vision: np.ndarray | None
    text: np.ndarray | None = None  # of a frozen encoder, instead of segments

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


def fits(examples: Sequence[Example], shape: BatchShape) -> bool:
    """Whether the rows of `shape` hold the utterances and the word pieces of `examples`."""
    pieces = [len(s.token_ids) for example in examples for s in example.segments]
    return (
        len(assign_rows(pieces, shape.row_length)) <= shape.text_rows
        and len(assign_rows([e.length for e in examples], shape.utterances)) <= shape.dialogue_rows
    )


def make_batch(examples: Sequence[Example], shape: BatchShape, candidates: str) -> Batch:
    """Fills the batch of one device; `examples` are at most `shape.dialogues`."""
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
                emotion_labels[place, t] = EMOTIONS.index(utterance.emotion)
        for i, j in example.dialogue.pairs or ():
            # An utterance stays a cause even where the emotion it causes was cut off.
            if j < len(kept):
                cause_labels[place, j] = 1
                if i < len(kept):
                    pair_labels[place, i, j] = True
    segments = [segment for example in examples for segment in example.segments]
    first_slots = [place * n for place, e in enumerate(examples) for _ in e.segments]
    return Batch(
        text=pack_rows(segments, first_slots, shape.text_rows, shape.row_length, b * n)
        if not shape.text
        else _features([e.text for e in examples if e.text is not None], b, n, shape.text),
        dialogue_rows=pack_dialogues([e.length for e in examples], b, shape.dialogue_rows, n),
        utterance_mask=utterance_mask,
        speakers=speakers,
        emotion_labels=emotion_labels,
        cause_labels=cause_labels,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask(utterance_mask, candidates),
        audio=_features([e.audio for e in examples if e.audio is not None], b, n, shape.audio),
        vision=_features([e.vision for e in examples if e.vision is not None], b, n, shape.vision),
    )


def _features(features: Sequence[np.ndarray], b: int, n: int, width: int) -> np.ndarray | None:
    if not width:
        return None
    values = np.zeros((b, n, width), np.float32)
    for place, rows in enumerate(features):
        values[place, : len(rows)] = rows
    return values
