"""Packs word pieces and dialogues into rows of a fixed length, and balances batches.

Dialogues are shorter than n utterances, so padding each to n would waste most of the work. The
arrays of a batch have one *slot* per utterance, [b, n], padded. The model works on *rows* of n
*places*, which hold several dialogues. Two dialogues A and B with b = 2 and n = 5, one row:

    slots  [b, n]   A:  0:A0  1:A1  2:A2   3:-   4:-      slot = dialogue * n + utterance
                    B:  5:B0  6:B1   7:-   8:-   9:-
    places [1, n]       0:A0  1:A1  2:A2  3:B0  4:B1      place = row * n + column

    DialogueRows.slots  = [[0, 1, 2, 5, 6]]                    the slot at each place
    DialogueRows.places = [[0, 1, 2, 5, 5], [3, 4, 5, 5, 5]]   the place of each slot; 5 = none

Word pieces are packed into text rows in the same way, one or more utterances per segment.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.batching.text import Segment

Array = Any  # a NumPy array on the host, a JAX array on the devices


class PackedText(NamedTuple):
    """The text encoder's input, each int32 [rows, length].

    `segment_ids` numbers the segments of a row from 1; 0 is padding. `position_ids` restart at 0 in
    each segment. `utterance_ids` is the utterance slot that a piece is pooled into, or the number
    of slots, b · n, for a piece that belongs to no utterance.
    """

    token_ids: Array
    segment_ids: Array
    position_ids: Array
    utterance_ids: Array


class DialogueRows(NamedTuple):
    """How the utterances of b dialogues are packed into rows of n places, each int32.

    `slots` [rows, n] is the utterance slot at each place, b · n for none. `places` [b, n] is its
    inverse, the place of each slot, rows · n for none. The module's docstring has a drawing.
    """

    slots: Array
    places: Array


def assign_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Assigns items to rows by best-fit decreasing bin packing.

    Args:
      lengths: of the segments or dialogues, each at most `row_length`.
      row_length: capacity of a row, in word pieces or utterances.

    Returns:
      For each row, the indices of its items.
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
    """Packs segments into `rows` rows.

    Args:
      segments: as many as fit.
      first_slots: for each segment, the slot of its dialogue's first utterance.
      rows, length: the shape of the result.
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
    """Packs dialogues of `lengths` utterances into `rows` rows of `n` places.

    Args:
      lengths: of at most `dialogues` dialogues, each at most `n`.
      dialogues: b, the number of dialogues in the batch.
      rows, n: the shape of the result.

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
    """Splits dialogues at random into batches with nearly the same number of word pieces.

    Starting from a random split, it swaps dialogues between the heaviest and the lightest batch.
    All batches then need about the same number of rows, so there is little padding and few shapes
    are compiled.

    Args:
      sizes: int [dialogues], the word pieces of each.
      batch_size: maximal number of dialogues in a batch.
      rng: decides the initial split.

    Returns:
      ceil(dialogues / batch_size) arrays of indices into `sizes`; lengths differ by at most 1.
    """
    return balanced_parts(sizes, -(-len(sizes) // batch_size), rng)


def balanced_parts(sizes: np.ndarray, parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Does what `balanced_batches` does, for a given number of batches."""
    batches = np.array_split(rng.permutation(len(sizes)), parts)
    loads = np.array([sizes[batch].sum() for batch in batches])
    while True:
        heavy, light = int(np.argmax(loads)), int(np.argmin(loads))
        gap = loads[heavy] - loads[light]
        difference = sizes[batches[heavy]][:, None] - sizes[batches[light]]
        # A swap moves `difference` pieces; the best swap moves about half the gap.
        give, take = np.unravel_index(np.abs(2 * difference - gap).argmin(), difference.shape)
        moved = difference[give, take]
        if not 0 < moved < gap:
            return batches
        batches[heavy][give], batches[light][take] = batches[light][take], batches[heavy][give]
        loads[heavy] -= moved
        loads[light] += moved
