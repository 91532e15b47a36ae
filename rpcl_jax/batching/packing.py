"""Word pieces, and dialogues, end to end in rows of one length; batches that need as many rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rpcl_jax.batching.text import Segment


class PackedText(NamedTuple):
    """The text encoder's input, each int32 [rows, length].

    `segment_ids` numbers the segments of a row from 1, 0 is padding; `position_ids` restart with
    each segment; `utterance_ids` is the utterance slot a piece is pooled into, and the number of
    slots (one past the last) for pieces that belong to none.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    position_ids: np.ndarray
    utterance_ids: np.ndarray


class DialogueRows(NamedTuple):
    """How the utterances of b dialogues lie end to end in rows of n, each int32.

    Most dialogues are far shorter than the longest, so a batch takes fewer rows than dialogues.
    `slots` [rows, n] is the utterance slot (dialogue · n + utterance) that lies at a place, b · n
    for none; `places` [b, n] is its inverse: row · n + column of each slot, rows · n for none.
    """

    slots: np.ndarray
    places: np.ndarray


def assign_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Which segments share a row: best-fit decreasing bin packing.

    Args:
      lengths: of the segments, each at most `row_length`.
      row_length: word pieces in a row.

    Returns:
      For each row the indices of its segments.
    """
    rows: list[list[int]] = []
    space: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [r for r, free in enumerate(space) if free >= lengths[index]]
        if fitting:
            row = min(fitting, key=space.__getitem__)
        else:
            row = len(rows)
            rows.append([])
            space.append(row_length)
        rows[row].append(index)
        space[row] -= lengths[index]
    return rows


def pack_rows(
    segments: Sequence[Segment], first_slots: Sequence[int], rows: int, length: int, slots: int
) -> PackedText:
    """Lays segments into `rows` rows.

    Args:
      segments: at most as many as `assign_rows` fits into `rows` rows.
      first_slots: for each segment the utterance slot of its dialogue's first utterance.
      rows, length: the fixed shape.
      slots: number of utterance slots, b · n.

    Raises:
      ValueError: the segments need more rows.
    """
    assigned = assign_rows([len(s.token_ids) for s in segments], length)
    if len(assigned) > rows:
        raise ValueError(f"{len(assigned)} rows needed, {rows} given")
    token_ids, segment_ids, position_ids = np.zeros((3, rows, length), np.int32)
    utterance_ids = np.full((rows, length), slots, np.int32)
    for row, members in enumerate(assigned):
        start = 0
        for number, index in enumerate(members, 1):
            segment = segments[index]
            place = (row, slice(start, start + len(segment.token_ids)))
            token_ids[place] = segment.token_ids
            segment_ids[place] = number
            position_ids[place] = np.arange(len(segment.token_ids))
            own = segment.utterances >= 0
            utterance_ids[place] = np.where(own, segment.utterances + first_slots[index], slots)
            start += len(segment.token_ids)
    return PackedText(token_ids, segment_ids, position_ids, utterance_ids)


def pack_dialogues(lengths: Sequence[int], dialogues: int, rows: int, n: int) -> DialogueRows:
    """Lays dialogues of `lengths` utterances into `rows` rows of `n`.

    Args:
      lengths: of at most `dialogues` dialogues, each at most `n`.
      dialogues: b, of the batch.
      rows, n: the fixed shape.

    Raises:
      ValueError: the dialogues need more rows.
    """
    assigned = assign_rows(lengths, n)
    if len(assigned) > rows:
        raise ValueError(f"{len(assigned)} rows needed, {rows} given")
    slots = np.full(rows * n, dialogues * n, np.int32)
    places = np.full(dialogues * n, rows * n, np.int32)
    for row, members in enumerate(assigned):
        start = row * n
        for dialogue in members:
            length = lengths[dialogue]
            slot = np.arange(dialogue * n, dialogue * n + length)
            place = np.arange(start, start + length)
            slots[place], places[slot] = slot, place
            start += length
    return DialogueRows(slots.reshape(rows, n), places.reshape(dialogues, n))


def balanced_batches(
    sizes: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Splits dialogues at random into batches of nearly the same number of word pieces.

    A random split is repaired by swaps between the heaviest and the lightest batch, so that all
    batches need the same few rows: hardly any padding, hardly any shape to compile.

    Args:
      sizes: int [dialogues], the word pieces of each.
      batch_size: the most dialogues in a batch.
      rng: decides the split.

    Returns:
      ceil(dialogues / batch_size) arrays of indices into `sizes`, equal in number to within one.
    """
    batches = np.array_split(rng.permutation(len(sizes)), -(-len(sizes) // batch_size))
    loads = np.array([sizes[batch].sum() for batch in batches])
    while True:
        heavy, light = int(np.argmax(loads)), int(np.argmin(loads))
        gap = loads[heavy] - loads[light]
        difference = sizes[batches[heavy]][:, None] - sizes[batches[light]]
        # Swapping moves `difference` pieces over; the best swap comes nearest to half the gap.
        give, take = np.unravel_index(np.abs(2 * difference - gap).argmin(), difference.shape)
        moved = difference[give, take]
        if not 0 < moved < gap:
            return batches
        batches[heavy][give], batches[light][take] = batches[light][take], batches[heavy][give]
        loads[heavy] -= moved
        loads[light] += moved
