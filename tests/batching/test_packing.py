"""Packing by hand, and what must hold of any: nothing is lost, nothing overlaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcl_jax.batching.packing import (
    assign_rows,
    balanced_batches,
    balanced_shares,
    pack_dialogues,
    pack_rows,
    short_row_length,
)
from rpcl_jax.batching.text import Pieces


@given(st.lists(st.integers(1, 32), max_size=60))
def test_every_segment_is_in_one_row_and_every_row_holds_it(lengths):
    rows = assign_rows(lengths, 32)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 32 for row in rows)
    # No two rows could have been one: what makes the bound of `Batches` hold.
    fills = sorted(sum(lengths[index] for index in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > 32


def test_the_longest_come_first_and_go_where_least_space_is_left():
    # 6, 5 and 4 open rows; 3 fills that of 5 rather than that of 4, 2 fills that of 6.
    assert assign_rows([3, 5, 2, 4, 6], 8) == [[4, 2], [1, 0], [3]]
    # 8 and 8 leave 4, less than the 5 beside 15, so 4 goes to them although 15 came first.
    assert assign_rows([15, 8, 8, 4], 20) == [[0], [1, 2, 3]]
    assert assign_rows([5, 5, 3, 3], 8) == [[0, 2], [1, 3]]  # of equals, the first
    assert assign_rows([8, 8], 8) == [[0], [1]]
    assert assign_rows([], 8) == []


@given(st.lists(st.integers(1, 32), max_size=60))
def test_rows_are_those_of_best_fit_written_as_loops(lengths):
    rows, space = [], []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row in range(len(rows)) if space[row] >= lengths[index]]
        if not fitting:
            fitting = [len(rows)]
            rows.append([])
            space.append(32)
        best = min(fitting, key=lambda row: space[row])  # of equals, the first
        rows[best].append(index)
        space[best] -= lengths[index]
    assert assign_rows(lengths, 32) == rows


def test_rows_are_as_short_as_most_batches_allow():
    # One dialogue of 64 has a segment of 40 pieces, 7 have one of 20; with the other segments, all
    # of 8, each fills whole rows of 32.
    segments = [np.array([40, 8, 8, 8])] + [np.array([20, 4, 8])] * 7 + [np.array([8] * 4)] * 56
    # Of random batches of 8, (63/64)^8 = 0.88 fit 32, and (7/8)^8 = 0.34 fit 16.
    assert short_row_length(segments, 8, 128) == 32
    assert short_row_length(segments, 8, 64) == 32
    assert short_row_length(segments, 2, 128) == 16, "(7/8)^2 = 0.77"
    assert short_row_length([np.array([60, 70])], 8, 128) == 128
    # Rows of 16 would hold one segment of 9 each, rows of 32 three.
    assert short_row_length([np.array([9] * 56)], 1, 128) == 64, "7 in 64 places"
    assert short_row_length([np.array([], int)], 4, 128) == 128, "no text to lay out"


def segment(*pieces):
    tokens, owners = zip(*pieces, strict=True)
    return Pieces(np.array(tokens), np.array(owners), np.array([len(tokens)]))


def pack(dialogues, length, **sizes):
    lengths = [len(segment.token_ids) for segments in dialogues for segment in segments]
    pieces = [Pieces(*map(np.concatenate, zip(*of, strict=True))) for of in dialogues]
    return pack_rows(pieces, assign_rows(lengths, length), length=length, **sizes)


def test_packed_rows_by_hand():
    a = segment((2, -1), (7, 0), (8, 1), (3, -1))
    b = segment((2, -1), (9, 0), (3, -1))
    packed = pack([[a], [b]], rows=2, length=8, n=5, slots=10)
    assert packed.token_ids.tolist() == [[2, 7, 8, 3, 2, 9, 3, 0], [0] * 8]
    assert packed.segment_ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0], [0] * 8]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0] * 8]
    assert packed.utterance_ids.tolist() == [[10, 0, 1, 10, 10, 5, 10, 10], [10] * 8]


def test_too_few_rows_are_refused():
    a = segment((2, -1), (7, 0), (3, -1))
    with pytest.raises(ValueError, match="2 rows needed, 1 given"):
        pack([[a], [a]], rows=1, length=4, n=1, slots=2)
    with pytest.raises(ValueError, match="2 rows needed, 1 given"):
        pack_dialogues([3, 2], assign_rows([3, 2], 4), dialogues=2, rows=1, n=4)


def test_packed_rows_in_several_rows():
    a, b, c = (segment((2, -1), (k, 0), (3, -1)) for k in (7, 8, 9))
    packed = pack([[a], [b], [c]], rows=2, length=7, n=2, slots=6)
    assert packed.token_ids.tolist() == [[2, 7, 3, 2, 8, 3, 0], [2, 9, 3, 0, 0, 0, 0]]
    assert packed.segment_ids.tolist() == [[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 0, 0, 0, 0]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 0, 0, 0]]
    assert packed.utterance_ids.tolist() == [[6, 0, 6, 6, 2, 6, 6], [6, 4, 6, 6, 6, 6, 6]]
    assert all(array.dtype == np.int32 for array in packed)


def test_a_dialogue_has_several_segments():
    a, b = (segment((2, -1), (k, t), (3, -1)) for t, k in enumerate((7, 8)))
    packed = pack([[b], [a, b]], rows=2, length=6, n=2, slots=4)
    assert packed.token_ids.tolist() == [[2, 8, 3, 2, 7, 3], [2, 8, 3, 0, 0, 0]]
    assert packed.utterance_ids.tolist() == [[4, 1, 4, 4, 2, 4], [4, 3, 4, 4, 4, 4]]


def test_packed_dialogues_by_hand():
    # Dialogue 1 opens a row, 0 and 2 share the next; the batch has a fourth place and a third row.
    packed = pack_dialogues([2, 3, 1], [[1], [0, 2]], dialogues=4, rows=3, n=3)
    assert packed.slots.tolist() == [[3, 4, 5], [0, 1, 6], [12, 12, 12]]
    assert packed.places.tolist() == [[3, 4, 9], [0, 1, 2], [5, 9, 9], [9, 9, 9]]
    assert packed.slots.dtype == packed.places.dtype == np.int32


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(0, 2))
def test_slots_and_places_are_each_others_inverse(lengths, spare):
    assigned = assign_rows(lengths, 7)
    b, rows = len(lengths) + spare, len(assigned) + spare
    packed = pack_dialogues(lengths, assigned, b, rows, 7)
    assert (packed.slots.shape, packed.places.shape) == ((rows, 7), (b, 7))
    slots, places = packed.slots.ravel(), packed.places.ravel()
    for slot, place in enumerate(places):
        if slot % 7 < ([*lengths, *[0] * spare])[slot // 7]:
            assert slots[place] == slot
        else:
            assert place == rows * 7
    assert (slots < b * 7).sum() == sum(lengths)
    # A dialogue lies in one row, its utterances side by side.
    for dialogue, length in enumerate(lengths):
        own = packed.places[dialogue, :length]
        assert (np.diff(own) == 1).all()
        assert own[0] // 7 == own[-1] // 7


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=80), st.integers(1, 16), st.integers(0, 9)
)
def test_batches_are_a_partition_of_nearly_equal_parts(sizes, batch_size, seed):
    count = -(-len(sizes) // batch_size)
    batches = balanced_batches(np.array(sizes), count, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    numbers = [len(batch) for batch in batches]
    assert max(numbers) <= batch_size
    assert max(numbers) - min(numbers) <= 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 9))
def test_batches_are_those_of_swaps_written_as_loops(sizes, batch_size, seed):
    rng = np.random.default_rng(seed)
    count = -(-len(sizes) // batch_size)
    batches = [part.tolist() for part in np.array_split(rng.permutation(len(sizes)), count)]

    def load(batch):
        return sum(sizes[k] for k in batch)

    while True:
        heavy, light = max(batches, key=load), min(batches, key=load)  # of equals, the first
        gap = load(heavy) - load(light)
        # How far each swap is from moving half the gap; of equals, the first.
        _, a, b = min(
            (abs(2 * (sizes[x] - sizes[y]) - gap), a, b)
            for a, x in enumerate(heavy)
            for b, y in enumerate(light)
        )
        if not 0 < sizes[heavy[a]] - sizes[light[b]] < gap:
            break
        heavy[a], light[b] = light[b], heavy[a]
    result = balanced_batches(np.array(sizes), count, np.random.default_rng(seed))
    assert [batch.tolist() for batch in result] == batches


def test_batches_are_balanced_random_and_repeatable():
    sizes = np.random.default_rng(0).lognormal(4.8, 0.5, 1000).astype(int)

    def split(seed):
        return balanced_batches(sizes, 32, np.random.default_rng(seed))

    loads = np.array([sizes[batch].sum() for batch in split(1)])
    assert np.ptp(loads) < 0.01 * loads.mean()
    random_loads = [
        b.sum() for b in np.array_split(np.random.default_rng(1).permutation(sizes), 32)
    ]
    assert np.ptp(random_loads) > 0.2 * loads.mean(), "or there was nothing to balance"
    same, other = split(1), split(2)
    assert all((a == b).all() for a, b in zip(split(1), same, strict=True))
    together = [len(set(a) & set(b)) for a in same for b in other]
    assert max(together) < 8, "another seed, other company"


@given(
    st.lists(st.integers(0, 60), max_size=24),
    st.sampled_from([1, 2, 3, 8]),
)
def test_shares_hold_every_dialogue_once_and_none_too_many(sizes, devices):
    shares = balanced_shares(np.array(sizes, int), devices)
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(sizes)))
    assert [share.tolist() for share in shares] == [sorted(share) for share in shares]
    assert max(map(len, shares)) <= -(-len(sizes) // devices)
    # Greedy balancing with equal counts: the loads differ by at most the largest dialogue.
    if len(sizes) % devices == 0 and sizes:
        loads = [sum(sizes[place] for place in share) for share in shares]
        assert max(loads) - min(loads) <= max(sizes)


def test_shares_by_hand():
    # 9 and 8 begin; 5 goes to the lighter, 4 to the other, 1 to what has room.
    shares = balanced_shares(np.array([1, 9, 4, 8, 5, 1]), 2)
    assert [share.tolist() for share in shares] == [[0, 1, 2], [3, 4, 5]]
