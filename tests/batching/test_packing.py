import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcl_jax.batching.packing import assign_rows, balanced_batches, pack_rows
from rpcl_jax.batching.text import Segment


@given(st.lists(st.integers(1, 32), max_size=60))
def test_every_segment_is_in_one_row_and_every_row_holds_it(lengths):
    rows = assign_rows(lengths, 32)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 32 for row in rows)
    # No two rows could have been one: what makes the bound of `Batches` hold.
    fills = sorted(sum(lengths[index] for index in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > 32


def segment(*pieces):
    tokens, owners = zip(*pieces, strict=True)
    return Segment(np.array(tokens, np.int32), np.array(owners, np.int32))


def test_packed_rows_by_hand():
    a = segment((2, -1), (7, 0), (8, 1), (3, -1))
    b = segment((2, -1), (9, 0), (3, -1))
    packed = pack_rows([a, b], first_slots=[0, 5], rows=2, length=8, slots=10)
    assert packed.token_ids.tolist() == [[2, 7, 8, 3, 2, 9, 3, 0], [0] * 8]
    assert packed.segment_ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0], [0] * 8]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0] * 8]
    assert packed.utterance_ids.tolist() == [[10, 0, 1, 10, 10, 5, 10, 10], [10] * 8]


def test_too_few_rows_are_refused():
    a = segment((2, -1), (7, 0), (3, -1))
    with pytest.raises(ValueError, match="2 rows needed, 1 given"):
        pack_rows([a, a], [0, 1], rows=1, length=4, slots=2)


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=80), st.integers(1, 16), st.integers(0, 9)
)
def test_batches_are_a_partition_of_nearly_equal_parts(sizes, batch_size, seed):
    batches = balanced_batches(np.array(sizes), batch_size, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    numbers = [len(batch) for batch in batches]
    assert max(numbers) <= batch_size
    assert max(numbers) - min(numbers) <= 1


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
