"""What the backbones share, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpcl_jax.data.features import Features
from rpcl_jax.models.fusion import FURTHEST, FeatureProjection


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
