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
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.batching.text import Pieces

Array = Any  # a NumPy array on the host, a JAX array on the devices
_SAMPLE = 10_000  # segments whose packing tells how well others pack
_EMPTY = 0.03  # share of the places in short rows that may stay empty


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


def assign_rows(lengths: Sequence[int] | np.ndarray, row_length: int) -> list[list[int]]:
    """Assigns items to rows by best-fit decreasing bin packing.

    Items are segments or dialogues, of 1 to `row_length` word pieces or utterances. Returns the
    indices of the items of each row.
    """
    rows: list[list[int]] = []
    with_space: list[list[int]] = [[] for _ in range(row_length + 1)]  # heaps of rows
    spaces = 0  # bit s is set if a row has space s, so that the best fit is found at once
    negative = -np.asarray(lengths, int)
    items = np.argsort(negative, kind="stable").tolist()
    start = 0
    different, counts = np.unique(negative, return_counts=True)
    for length, count in zip((-different).tolist(), counts.tolist(), strict=True):
        stop = start + count
        while start < stop:
            fitting = spaces >> length
            if fitting:
                space = length + (fitting & -fitting).bit_length() - 1
                row = heappop(with_space[space])  # of equals, the first
                if not with_space[space]:
                    spaces ^= 1 << space
            else:
                space, row = row_length, len(rows)
                rows.append([])
            # Where one fits best, the next of the same length fits best too, while there is space.
            placed = items[start : min(stop, start + space // length)]
            rows[row] += placed
            start += len(placed)
            space -= len(placed) * length
            heappush(with_space[space], row)
            spaces |= 1 << space
    return rows


def short_row_length(segments: Sequence[np.ndarray], batch_size: int, row_length: int) -> int:
    """Returns the length of the rows that suffice for most batches.

    A word piece attends to its segment only, yet attention is computed for all pairs of a row, so
    rows should be no longer than the segments. A batch with a longer segment needs long rows.

    Args:
      segments: for each dialogue, the word pieces of its segments, int [segments].
      batch_size: number of dialogues in a batch, on all devices, because all have one shape.

    Returns:
      `row_length` halved up to three times, as long as half of all random batches fit and packing
      leaves few places empty; `row_length` itself if there are no segments.
    """
    if not sum(map(len, segments)):
        return row_length
    longest = np.array([lengths.max(initial=0) for lengths in segments])
    lengths = np.concatenate(segments)[:_SAMPLE]
    for length in (row_length // 8, row_length // 4, row_length // 2):
        if (longest <= length).mean() ** batch_size >= 0.5:
            fitting = lengths[lengths <= length]
            places = len(assign_rows(fitting, length)) * length
            if fitting.sum() >= (1 - _EMPTY) * places:
                return length
    return row_length


def pack_rows(
    pieces: Sequence[Pieces],
    assigned: Sequence[Sequence[int]],
    rows: int,
    length: int,
    n: int,
    slots: int,
) -> PackedText:
    """Packs the segments of dialogues into `rows` rows; a ValueError if they need more.

    Args:
      assigned: the segments in each row, from `assign_rows`; they are numbered through all
        dialogues.
      n: number of utterance slots of a dialogue.
      slots: number of utterance slots, b · n.
    """
    token_ids, segment_ids, position_ids = np.zeros((3, rows, length), np.int32)
    utterance_ids = np.full((rows, length), slots, np.int32)
    if pieces:
        lengths = np.concatenate([dialogue.lengths for dialogue in pieces])
        places, within, numbers = _lay_out(lengths, assigned, rows, length)
        own = np.concatenate([dialogue.utterances for dialogue in pieces])
        first_slots = np.repeat(
            np.arange(len(pieces)) * n, [len(dialogue.token_ids) for dialogue in pieces]
        )
        token_ids.ravel()[places] = np.concatenate([dialogue.token_ids for dialogue in pieces])
        segment_ids.ravel()[places] = np.repeat(numbers, lengths)
        position_ids.ravel()[places] = within
        utterance_ids.ravel()[places] = np.where(own >= 0, own + first_slots, slots)
    return PackedText(token_ids, segment_ids, position_ids, utterance_ids)


def pack_dialogues(
    lengths: Sequence[int], assigned: Sequence[Sequence[int]], dialogues: int, rows: int, n: int
) -> DialogueRows:
    """Packs dialogues of `lengths` utterances into `rows` rows of `n` places.

    `assigned` are the dialogues in each row, from `assign_rows`; a ValueError if they are more
    rows. `dialogues` is b, the number of dialogues in the batch, which may be larger.
    """
    all_slots = np.full(rows * n, dialogues * n, np.int32)
    all_places = np.full(dialogues * n, rows * n, np.int32)
    if len(lengths):
        places, within, _ = _lay_out(np.array(lengths), assigned, rows, n)
        slots = np.repeat(np.arange(len(lengths)) * n, lengths) + within
        all_slots[places], all_places[slots] = slots, places
    return DialogueRows(all_slots.reshape(rows, n), all_places.reshape(dialogues, n))


def _lay_out(
    lengths: np.ndarray, assigned: Sequence[Sequence[int]], rows: int, row_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns where the elements of all items go, and the number of each item in its row, from 1.

    The elements' places are in the flattened rows, and then within their items.
    """
    if len(assigned) > rows:
        raise ValueError(f"{len(assigned)} rows needed, {rows} given")
    members = [len(row) for row in assigned]
    order = np.array([index for row in assigned for index in row])
    first = np.repeat(np.cumsum(members) - members, members)  # of the row, in `order`
    before = np.cumsum(lengths[order]) - lengths[order]  # in all rows together
    starts, numbers = np.empty((2, len(order)), int)
    starts[order] = np.repeat(np.arange(len(assigned)) * row_length, members)
    starts[order] += before - before[first]
    numbers[order] = np.arange(len(order)) - first + 1
    ends = np.cumsum(lengths)
    within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    return np.repeat(starts, lengths) + within, within, numbers


def balanced_batches(sizes: np.ndarray, number: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Splits dialogues at random into batches with nearly the same number of word pieces.

    Starting from a random split, it swaps dialogues between the heaviest and the lightest batch.
    All batches then need about the same number of rows, so there is little padding and few shapes
    are compiled. `sizes` are the word pieces of each dialogue. Returns `number` arrays of indices
    into them, whose lengths differ by at most 1.
    """
    batches = np.array_split(rng.permutation(len(sizes)), number)
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


def balanced_shares(sizes: np.ndarray, devices: int) -> list[np.ndarray]:
    """Splits the dialogues of a batch between devices that all wait for the one with most to do.

    Places dialogues from largest to smallest, each on the device with the fewest word pieces that
    still has room: none gets more than ceil(dialogues / devices). `sizes` are the word pieces of
    each. Returns the places of each device's dialogues in `sizes`, ascending.
    """
    shares: list[list[int]] = [[] for _ in range(devices)]
    most = -(-len(sizes) // devices)
    lightest = [(0, device) for device in range(devices)]
    for place in np.argsort(-sizes, kind="stable"):
        load, device = heappop(lightest)
        shares[device].append(place)
        if len(shares[device]) < most:
            heappush(lightest, (load + int(sizes[place]), device))
    return [np.sort(np.array(share, int)) for share in shares]
