"""Dropout, of elements and of modalities, against the binomial distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from rpcl_jax.data.features import Features
from rpcl_jax.models.dropout import drop_modality, dropout, random_words


@pytest.mark.parametrize("shape", [(301, 333), (7,), ()])
def test_dropout_keeps_or_scales(shape):
    x = jnp.full(shape, 3.0)
    got = np.asarray(dropout(x, 0.3, jax.random.key(0)))
    kept = 1 - round(0.3 * 65536) / 65536
    assert got.shape == shape
    assert got.dtype == np.float32
    assert ((got == 0) | np.isclose(got, 3 / kept, rtol=1e-6)).all()


@pytest.mark.parametrize("size", [0, 1, 8, 4097])
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_random_words_are_those_of_jax(size, implementation):
    for seed in (0, 7, 2**32 - 1):
        key = jax.random.fold_in(jax.random.key(seed, impl=implementation), size)
        words = jax.jit(random_words, static_argnums=1)(key, size)
        assert words.dtype == jnp.uint32
        np.testing.assert_array_equal(words, jax.random.bits(key, (size,), jnp.uint32))


def test_a_rate_just_below_one_drops_nearly_everything():
    got = np.asarray(dropout(jnp.ones(100_000), 0.999999, jax.random.key(0)))
    assert set(np.unique(got)) <= {0.0, 65536.0}
    assert (got == 0).mean() > 0.999


def test_dropout_statistics():
    n = 500_001
    got = np.asarray(dropout(jnp.ones(n), 0.1, jax.random.key(5)))
    zeros = got == 0
    low, high = binom.interval(1 - 1e-9, n, 0.1)
    assert low <= zeros.sum() <= high
    # Both halves of a random word decide, and one does not follow from the other.
    for half in (zeros[::2], zeros[1::2]):
        low, high = binom.interval(1 - 1e-9, len(half), 0.1)
        assert low <= half.sum() <= high
    both = (zeros[:-1:2] & zeros[1::2]).sum()
    low, high = binom.interval(1 - 1e-9, n // 2, 0.01)
    assert low <= both <= high


def test_dropout_follows_its_key():
    x = jnp.ones((64, 64))
    again, other = (dropout(x, 0.5, jax.random.key(seed)) for seed in (1, 2))
    np.testing.assert_array_equal(dropout(x, 0.5, jax.random.key(1)), again)
    assert 0.4 < (again != other).mean() < 0.6


def test_dropout_in_bfloat16():
    got = dropout(jnp.ones(1000, jnp.bfloat16), 0.5, jax.random.key(0))
    assert got.dtype == jnp.bfloat16
    assert set(np.asarray(got, np.float32)) == {0.0, 2.0}


def test_a_modality_is_dropped_from_whole_dialogues_at_its_rate():
    present = np.ones((20_000, 3), bool)
    present[::7, 1] = False  # it was absent before
    features = Features(jnp.ones((20_000, 3, 2)), jnp.asarray(present))
    dropped = jax.jit(drop_modality, static_argnums=2)(jax.random.key(3), features, 0.3)
    np.testing.assert_array_equal(dropped.values, features.values)
    kept = np.asarray(dropped.present)
    low, high = binom.interval(1 - 1e-9, len(kept), 0.3)
    assert low <= (~kept[:, 0]).sum() <= high
    np.testing.assert_array_equal(kept, present & kept[:, :1])
    other = drop_modality(jax.random.key(4), features, 0.3)
    assert (np.asarray(other.present)[:, 0] != kept[:, 0]).any()
