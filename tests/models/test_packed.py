"""Packed rows, against NumPy."""

import jax.numpy as jnp
import numpy as np

from rpcl_jax.batching.packing import assign_rows, pack_dialogues
from rpcl_jax.models.packed import (
    pack_utterances,
    pool_utterances,
    relative_positions,
    unpack_pairs,
)


def test_relative_positions_by_hand():
    assert relative_positions(4, 2).tolist() == [
        [2, 1, 0, 0],
        [3, 2, 1, 0],
        [4, 3, 2, 1],
        [4, 4, 3, 2],
    ]


def test_pooling_is_the_mean_of_an_utterances_own_pieces():
    hidden = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    ids = np.array([[0, 0, 3, 1], [3, 0, 3, 3]])
    pooled = pool_utterances(jnp.asarray(hidden), jnp.asarray(ids), 3)
    expected = [
        (hidden[0, 0] + hidden[0, 1] + hidden[1, 1]) / 3,
        hidden[0, 3],
        np.zeros(3),
    ]
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


def test_utterances_and_pairs_come_back_from_the_rows():
    lengths, b, n = [3, 5, 2, 1], 5, 5
    rows = pack_dialogues(lengths, assign_rows(lengths, n), b, 3, n)
    x = np.random.default_rng(0).normal(size=(b, n, 2)).astype(np.float32)
    mask = np.arange(n) < np.array([*lengths, 0])[:, None]
    packed = pack_utterances(x, rows.slots)
    assert packed.shape == (3, n, 2)
    np.testing.assert_array_equal(
        pack_utterances(packed, rows.places), np.where(mask[..., None], x, 0)
    )
    pairs = packed[:, :, None] - 2 * packed[:, None]
    both = (mask[:, :, None] & mask[:, None, :])[..., None]
    np.testing.assert_allclose(
        unpack_pairs(pairs, rows.places), np.where(both, x[:, :, None] - 2 * x[:, None], 0)
    )
