"""Dropout against the binomial distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from rpcl_jax.models.dropout import dropout


@pytest.mark.parametrize("shape", [(301, 333), (7,), ()])
def test_dropout_keeps_or_scales(shape):
    x = jnp.full(shape, 3.0)
    got = np.asarray(dropout(x, 0.3, jax.random.key(0)))
    kept = 1 - round(0.3 * 65536) / 65536
    assert got.shape == shape
    assert got.dtype == np.float32
    assert ((got == 0) | np.isclose(got, 3 / kept, rtol=1e-6)).all()


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
