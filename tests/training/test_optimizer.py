import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from rpcl_jax.training.optimizer import decayed, learning_rate_schedule, make_optimizer

PARAMS = {
    "text_encoder": {"dense": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)}},
    "pair_scorer": {
        "norm": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
        "distance": jnp.full((3, 2), 4.0),
    },
}


def settings(**changes):
    c = base.get_config().optimizer
    c.update({"encoder_learning_rate": 1e-3, "learning_rate": 1e-2} | changes)
    return c


def test_matrices_and_tables_decay_and_nothing_else():
    assert decayed(PARAMS) == {
        "text_encoder": {"dense": {"kernel": True, "bias": False}},
        "pair_scorer": {"norm": {"scale": False, "bias": False}, "distance": True},
    }


def test_two_learning_rates_and_decoupled_decay():
    optimizer = make_optimizer(settings(weight_decay=0.1, clip_norm=1e9), 10)
    gradients = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    # Adam's first step is 1 for every gradient; decay adds 0.1 times the parameter.
    dense = updates["text_encoder"]["dense"]
    np.testing.assert_allclose(dense["kernel"], -1e-3 * (1 + 0.1 * 2.0), rtol=1e-5)
    np.testing.assert_allclose(dense["bias"], -1e-3, rtol=1e-5)
    np.testing.assert_allclose(updates["pair_scorer"]["distance"], -1e-2 * 1.4, rtol=1e-5)
    np.testing.assert_allclose(updates["pair_scorer"]["norm"]["scale"], -1e-2, rtol=1e-5)


def test_the_whole_gradient_is_clipped_at_its_norm():
    config = settings(weight_decay=0.0, clip_norm=1.0)
    optimizer = make_optimizer(config, 10)
    size = sum(x.size for x in jax.tree.leaves(PARAMS))
    for value in (3.0, 300.0):  # clipped to the same gradient, so to the same second moment
        gradients = jax.tree.map(lambda x, v=value: jnp.full_like(x, v), PARAMS)
        _, state = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
        mean = optax.tree_utils.tree_get(state, "mu")
        for leaf in jax.tree.leaves(mean):
            np.testing.assert_allclose(leaf, 0.1 / np.sqrt(size), rtol=1e-4)


@pytest.mark.parametrize(("schedule", "end"), [("constant", 2.0), ("linear", 0.0)])
def test_schedules(schedule, end):
    rate = learning_rate_schedule(2.0, 100, settings(schedule=schedule, warmup=0.1))
    assert float(rate(0)) == 0.0
    assert float(rate(5)) == pytest.approx(1.0)
    assert float(rate(10)) == pytest.approx(2.0)
    assert float(rate(55)) == pytest.approx((2.0 + end) / 2)
    assert float(rate(100)) == pytest.approx(end)
    assert float(learning_rate_schedule(2.0, 100, settings())(0)) == 2.0
