"""The exact GELU and its derivative against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy.stats import norm

from rpcl_jax.models.text_encoder import erf_gelu

POINTS = np.concatenate([np.linspace(-12, 12, 4001), [-1e4, -0.0, 1e-30, 1e4]])


def summed(x):
    return erf_gelu(x).sum()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-15), ("float32", 1e-6)])
def test_value_and_derivative(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(POINTS, dtype)
        exact = np.asarray(x, np.float64)
        value, slope = erf_gelu(x), jax.jit(jax.grad(summed))(x)
        assert value.dtype == slope.dtype == dtype
        tolerances = {"rtol": 10 * tolerance, "atol": tolerance}
        np.testing.assert_allclose(value, exact * norm.cdf(exact), **tolerances)
        expected = norm.cdf(exact) + exact * norm.pdf(exact)
        np.testing.assert_allclose(slope, expected, **tolerances)
        (product,) = jax.vjp(erf_gelu, x)[1](jnp.full_like(x, 3))
        np.testing.assert_allclose(product, 3 * expected, rtol=10 * tolerance, atol=3 * tolerance)


def test_derivative_inside_shard_map():
    x = jnp.asarray(POINTS[:4000], jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(jax.grad(summed), mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    exact = norm.cdf(x) + np.asarray(x) * norm.pdf(x)
    np.testing.assert_allclose(jax.jit(sharded)(x), exact, rtol=1e-5, atol=1e-6)
