"""The optimizer against AdamW in NumPy, and its parts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rpcl_jax.run.base_config import base_config
from rpcl_jax.training.optimizer import decayed, learning_rate_schedule, make_optimizer

PARAMS = {
    "text_encoder": {"dense": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)}},
    "pair_scorer": {
        "norm": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
        "distance": jnp.full((3, 2), 4.0),
    },
}


def settings(**changes):
    c = base_config().optimizer
    c.update({"encoder_learning_rate": 1e-3, "learning_rate": 1e-2} | changes)
    return c


def by_path(tree):
    """The leaves of a tree by path, such as "text_encoder/dense/bias"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


def test_matrices_and_tables_decay_and_nothing_else():
    assert decayed(PARAMS) == {
        "text_encoder": {"dense": {"kernel": True, "bias": False}},
        "pair_scorer": {"norm": {"scale": False, "bias": False}, "distance": True},
    }


def test_a_bias_of_several_heads_does_not_decay_though_it_is_a_matrix():
    query = {"kernel": jnp.ones((4, 2, 2)), "bias": jnp.ones((2, 2)), "bias_v": jnp.ones((2, 2))}
    tree = {"fusion": {"layer": {"query": query}, "bias_table": {"embedding": jnp.ones((3, 2))}}}
    assert decayed(tree) == {
        "fusion": {
            "layer": {"query": {"kernel": True, "bias": False, "bias_v": False}},
            "bias_table": {"embedding": True},
        }
    }


def test_two_learning_rates_and_decoupled_decay():
    optimizer = make_optimizer(settings(weight_decay=0.1, clip_norm=1e9), 10)
    gradients = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(PARAMS), PARAMS)
    # Adam's first step is 1 for every gradient; decay adds 0.1 times the parameter.
    dense = updates["text_encoder"]["dense"]
    np.testing.assert_allclose(dense["kernel"], -1e-3 * (1 + 0.1 * 2.0), rtol=1e-5)
    np.testing.assert_allclose(dense["bias"], -1e-3, rtol=1e-5)
    np.testing.assert_allclose(updates["pair_scorer"]["distance"], -1e-2 * 1.4, rtol=1e-5)
    np.testing.assert_allclose(updates["pair_scorer"]["norm"]["scale"], -1e-2, rtol=1e-5)


def test_steps_are_those_of_adamw_written_in_numpy():
    """Decay, clipping, warm-up and both learning rates at once."""
    config = settings(weight_decay=0.1, clip_norm=0.5, warmup=0.5, schedule="linear")
    steps = 6
    optimizer = make_optimizer(config, steps)
    update = jax.jit(optimizer.update)
    params, state = PARAMS, optimizer.init(PARAMS)
    flat = {name: np.float64(x) for name, x in by_path(PARAMS).items()}
    mean, square = ({name: np.zeros_like(x) for name, x in flat.items()} for _ in range(2))
    rng = np.random.default_rng(0)
    for step, scale in enumerate((0.1, 0.01, 3.0, 0.05, 0.2)):  # 3.0 is clipped
        gradients = jax.tree.map(lambda x, c=scale: c * rng.normal(size=x.shape), PARAMS)
        updates, state = update(jax.tree.map(jnp.float32, gradients), state, params)
        params = optax.apply_updates(params, updates)

        rate = {0: 0, 1: 1 / 3, 2: 2 / 3, 3: 1, 4: 2 / 3}[step]
        norm = np.sqrt(sum((g**2).sum() for g in by_path(gradients).values()))
        for name, gradient in by_path(gradients).items():
            gradient = gradient * min(1, 0.5 / norm)
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.999 * square[name] + 0.001 * gradient**2
            corrected = mean[name] / (1 - 0.9 ** (step + 1))
            root = np.sqrt(square[name] / (1 - 0.999 ** (step + 1)))
            decay = 0.1 if name.endswith(("kernel", "distance")) else 0.0
            peak = 1e-3 if name.startswith("text_encoder") else 1e-2
            flat[name] -= rate * peak * (corrected / (root + 1e-8) + decay * flat[name])
        for name, array in by_path(params).items():
            np.testing.assert_allclose(array, flat[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_gradients_near_epsilon_give_smaller_steps():
    optimizer = make_optimizer(settings(weight_decay=0.0), 10)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-8), PARAMS)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(PARAMS), PARAMS)
    for name, update in by_path(updates).items():  # 1e-8 / (1e-8 + 1e-8), times the rate
        rate = 1e-3 if name.startswith("text_encoder") else 1e-2
        np.testing.assert_allclose(update, -rate / 2, rtol=1e-3)


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


@pytest.mark.parametrize(("steps", "warmup"), [(10, 1.0), (1, 0.0), (1, 1.0)])
def test_a_schedule_may_be_all_warm_up_or_one_step_long(steps, warmup):
    rate = learning_rate_schedule(2.0, steps, settings(schedule="linear", warmup=warmup))
    rates = [float(rate(step)) for step in range(steps)]
    assert rates == pytest.approx([2.0 * (1 if not warmup else k / steps) for k in range(steps)])


def test_warm_up_is_rounded_to_whole_steps():
    rate = learning_rate_schedule(2.0, 10, settings(warmup=0.27))
    assert [float(rate(step)) for step in (1, 2, 3)] == pytest.approx([2 / 3, 4 / 3, 2.0])
