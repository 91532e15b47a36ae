"""What the backbones share, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpcl_jax.batching.packing import assign_rows, pack_dialogues
from rpcl_jax.data.features import Features
from rpcl_jax.models.fusion import (
    FURTHEST,
    FeatureProjection,
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


@pytest.mark.slow
def test_features_are_standardised_and_absent_ones_are_a_vector_of_their_own():
    values = np.random.default_rng(0).normal(50, 3, size=(2, 4, 5)).astype(np.float32)
    present = np.array([[True] * 4, [True, False, True, False]])
    module = FeatureProjection(16)
    params = module.init(jax.random.key(0), Features(values, present))["params"]
    assert (params["absent"] == 0).all()
    params = params | {"absent": jnp.linspace(-1, 1, 16)}
    mean, scale = values.mean((0, 1)), values.std((0, 1))
    apply = lambda p, v: module.apply({"params": p}, Features(v, present))  # noqa: E731
    standardised = apply(params | {"mean": mean, "scale": scale}, values)
    np.testing.assert_allclose(standardised, apply(params, (values - mean) / scale), atol=1e-5)
    np.testing.assert_array_equal(standardised[~present], [params["absent"]] * 2)
    assert not np.isclose(standardised[present], params["absent"]).all(-1).any()
    # The statistics are never learned; the absent vector is.
    gradient = jax.grad(lambda p: (apply(p, values) ** 2).sum())(params)
    assert (gradient["mean"] == 0).all()
    assert (gradient["scale"] == 0).all()
    assert (gradient["absent"] != 0).all()
    # What is absent reaches neither value nor gradient, whatever the statistics make of it.
    huge = params | {"mean": np.full(5, 1e20, np.float32), "scale": np.full(5, 1e-20, np.float32)}
    gradient = jax.grad(lambda p: (apply(p, values) ** 2).sum())(huge)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    # An outlier counts as FURTHEST deviations.
    outlier, capped = values.copy(), values.copy()
    outlier[0, 0, 0], capped[0, 0, 0] = 1e9, (mean + FURTHEST * scale)[0]
    standard = params | {"mean": mean, "scale": scale}
    np.testing.assert_allclose(apply(standard, outlier), apply(standard, capped), atol=1e-5)
