"""The training step: its keys, its update, and that it is the same on any number of devices."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_model import ODD, small_batches, small_model

from rpcl_jax.data.features import Features
from rpcl_jax.run.config import objective_of
from rpcl_jax.training import step as step_module
from rpcl_jax.training.mesh import make_mesh, put_batch, replicate
from rpcl_jax.training.step import initial_state, make_train_step


def make_fake_loss(devices):
    """In place of `objective_loss`: the keys of each device, and the mean of (w - x)²."""

    def loss(objective, model, params, batch, dropout_key, corruption_key, axis_name):
        assert (objective, model) == ("objective", "model")
        square = jax.lax.pmean(jnp.mean((params["w"] - batch) ** 2), axis_name)
        device = jax.nn.one_hot(jax.lax.axis_index(axis_name), devices, dtype=jnp.uint32)
        keys = {"dropout": dropout_key, "corruption": corruption_key}
        return square, {
            name: jax.lax.psum(device[:, None] * jax.random.key_data(key), axis_name)
            for name, key in keys.items()
        }

    return loss


@pytest.fixture
def run_fake_steps(monkeypatch):
    """A function that takes steps of SGD at rate 0.25 with `make_fake_loss`."""

    def run(devices, steps, root=7, start=0):
        monkeypatch.setattr(step_module, "objective_loss", make_fake_loss(devices))
        mesh = make_mesh(devices)
        optimizer = optax.sgd(0.25)
        step = make_train_step("model", "objective", optimizer, mesh)
        state = initial_state({"w": jnp.zeros(3)}, optimizer, mesh)
        state = state._replace(step=replicate(jnp.int32(start), mesh))
        root, batch = replicate(jax.random.key(root), mesh), put_batch(np.full((8, 1), 3.0), mesh)
        terms = []
        for _ in range(steps):
            state, of_step = step(state, root, batch, {})
            terms.append(jax.device_get(of_step))
        return state, terms

    return run


def test_every_step_and_root_has_keys_of_its_own(run_fake_steps):
    _, steps = run_fake_steps(1, 3)
    _, others = run_fake_steps(1, 3, root=8)
    for name in ("dropout", "corruption"):
        drawn = {tuple(terms[name][0].tolist()) for terms in steps + others}
        assert len(drawn) == 6, name
    keys = {tuple(terms[name][0].tolist()) for terms in steps for name in ("dropout", "corruption")}
    assert len(keys) == 6


def test_a_step_draws_the_same_after_a_restart(run_fake_steps):
    _, steps = run_fake_steps(1, 3)
    _, restarted = run_fake_steps(1, 1, start=2)
    for name in ("dropout", "corruption"):
        np.testing.assert_array_equal(restarted[0][name], steps[2][name])


def test_devices_share_the_corruption_key_and_not_the_dropout_key(run_fake_steps):
    _, (one,) = run_fake_steps(1, 1)
    _, (eight,) = run_fake_steps(8, 1)
    assert len({tuple(key) for key in eight["corruption"].tolist()}) == 1
    assert len({tuple(key) for key in eight["dropout"].tolist()}) == 8
    # As the corruption is to be that of one device, so is its key.
    np.testing.assert_array_equal(eight["corruption"][:1], one["corruption"])


@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_subtracts_rate_times_gradient(run_fake_steps, devices):
    # d/dw mean over 3 weights of (w - 3)² = 2/3 (w - 3); each step takes off a sixth of 3 - w.
    state, terms = run_fake_steps(devices, 2)
    np.testing.assert_allclose(state.params["w"], [3 - 3 * (5 / 6) ** 2] * 3, rtol=1e-6)
    norms = [np.sqrt(3) * 2 / 3 * distance for distance in (3, 3 * 5 / 6)]
    np.testing.assert_allclose([t["gradient_norm"] for t in terms], norms, rtol=1e-6)
    assert state.step == 2
    assert state.step.dtype == jnp.int32


def test_the_state_is_donated(run_fake_steps):
    mesh, optimizer = make_mesh(1), optax.sgd(0.25)
    run_fake_steps(1, 0)  # puts the fake loss in place
    state = initial_state({"w": jnp.zeros(3)}, optimizer, mesh)
    step = make_train_step("model", "objective", optimizer, mesh)
    step(state, replicate(jax.random.key(0), mesh), put_batch(np.zeros((8, 1)), mesh), {})
    assert state.params["w"].is_deleted()


def test_the_optimizer_continues_from_its_state_and_sees_the_parameters(monkeypatch):
    monkeypatch.setattr(step_module, "objective_loss", make_fake_loss(1))
    mesh = make_mesh(1)
    optimizer = optax.chain(optax.trace(0.5), optax.add_decayed_weights(0.1), optax.sgd(0.25))
    step = make_train_step("model", "objective", optimizer, mesh)
    state = initial_state({"w": jnp.ones(3)}, optimizer, mesh)
    w, trace = 1.0, 0.0
    for _ in range(3):
        state, _ = step(
            state, replicate(jax.random.key(0), mesh), put_batch(np.full((8, 1), 3.0), mesh), {}
        )
        trace = 2 / 3 * (w - 3) + 0.5 * trace
        w -= 0.25 * (trace + 0.1 * w)
    np.testing.assert_allclose(state.params["w"], [w] * 3, rtol=1e-6)


def test_the_initial_state_is_on_every_device():
    optimizer = optax.adam(1.0)
    params = {"w": np.arange(3.0, dtype=np.float32)}
    state = initial_state(params, optimizer, make_mesh(8))
    assert state.step == 0
    assert state.step.dtype == jnp.int32
    jax.tree.map(np.testing.assert_array_equal, state.optimizer_state, optimizer.init(params))
    np.testing.assert_array_equal(state.params["w"], params["w"])
    for array in jax.tree.leaves(state):
        assert array.sharding.is_fully_replicated
        assert len(array.sharding.device_set) == 8


class Modalities(NamedTuple):
    """What modality dropout reads of a batch."""

    audio: Features
    vision: Features | None


def test_modality_dropout_draws_anew_for_each_modality_and_step_and_not_for_devices(monkeypatch):
    def report(objective, model, params, batch, dropout_key, corruption_key, axis_name):
        present = {name: x.present for name, x in batch._asdict().items() if x is not None}
        present = jax.tree.map(lambda x: jax.lax.all_gather(x[:, 0], axis_name), present)
        where = jax.tree.map(lambda x: jax.lax.pmax(x.reshape(-1), axis_name), present)
        return jax.lax.psum(params["w"].sum(), axis_name), where

    def present(devices, batch):
        mesh, optimizer = make_mesh(devices), optax.sgd(0.0)
        step = make_train_step("model", "objective", optimizer, mesh, 0.5)
        state = initial_state({"w": jnp.zeros(3)}, optimizer, mesh)
        drawn = []
        for _ in range(2):
            state, terms = step(
                state, replicate(jax.random.key(0), mesh), put_batch(batch, mesh), {}
            )
            terms.pop("gradient_norm")
            drawn.append(jax.device_get(terms))
        return drawn

    monkeypatch.setattr(step_module, "objective_loss", report)
    features = Features(np.ones((64, 1, 1), np.float32), np.ones((64, 1), bool))
    drawn = present(1, Modalities(features, features))
    sets = [step[name] for step in drawn for name in ("audio", "vision")]
    for k, one in enumerate(sets):
        assert 16 < one.sum() < 48
        assert all((one != other).any() for other in sets[:k])
    jax.tree.map(np.testing.assert_array_equal, drawn, present(8, Modalities(features, features)))
    alone = present(1, Modalities(features, None))
    for step, both in zip(alone, drawn, strict=True):
        np.testing.assert_array_equal(step["audio"], both["audio"])


# The step with the model and the objective.


def run_steps(
    devices,
    objective="rpcl",
    dropout=0.0,
    optimizer=None,
    steps=1,
    modality_dropout=0.0,
    members=ODD,
):
    """The terms of every step, and the parameters before and after."""
    config, model, batch = small_model(devices, objective, dropout, members)
    _, _, whole = small_model(1)
    mesh = make_mesh(devices)
    optimizer = optimizer or optax.sgd(1.0)
    before = jax.device_get(jax.jit(model.init)(jax.random.key(0), whole)["params"])
    state = initial_state(before, optimizer, mesh)
    step = make_train_step(model, objective_of(config), optimizer, mesh, modality_dropout)
    root, batch = replicate(jax.random.key(7), mesh), put_batch(batch, mesh)
    terms = []
    for _ in range(steps):
        state, of_step = step(state, root, batch, {})
        terms.append(jax.device_get(of_step))
    return terms, before, jax.device_get(state.params)


@pytest.mark.slow
def test_eight_devices_compute_what_one_does():
    # What is corrupted depends on the place in the batch, and devices get balanced shares of it.
    places, _ = small_batches(8).make(np.arange(16))
    (terms,), before, after = run_steps(1, members=places)
    (terms8,), _, after8 = run_steps(8, members=np.arange(16))
    assert terms.keys() == terms8.keys() >= {"supervised", "ranking", "stability", "loss"}
    for name in terms:
        np.testing.assert_allclose(terms8[name], terms[name], atol=1e-5, rtol=1e-5)
    # A step of SGD at rate 1 moves the parameters by the gradient.
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=0), after8, after)
    gradient = jax.tree.map(np.subtract, before, after)
    np.testing.assert_allclose(terms["gradient_norm"], optax.tree.norm(gradient), rtol=1e-4)
    assert terms["gradient_norm"] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("dialogues", [13, 5])
def test_padding_and_empty_shares_change_nothing(dialogues):
    """Of eight devices, with places for 16; nothing is drawn, so the places do not matter."""
    (terms,), _, after = run_steps(1, "cdmr", members=np.arange(dialogues))
    (terms8,), _, after8 = run_steps(8, "cdmr", members=np.arange(dialogues))
    for name in terms:
        np.testing.assert_allclose(terms8[name], terms[name], atol=1e-5, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=0), after8, after)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "dropout", "name"), [("base", 0.5, "supervised"), ("ccps", 0.0, "stability")]
)
def test_consecutive_steps_draw_another_dropout_and_another_corruption(objective, dropout, name):
    """The parameters stay as they are, so only what is drawn can change the loss."""
    (first, second), before, after = run_steps(1, objective, dropout, optax.sgd(0.0), steps=2)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert abs(first[name] - second[name]) > 1e-4


@pytest.mark.slow
def test_modality_dropout_teaches_what_absent_means():
    _, before, after = run_steps(1, "base", modality_dropout=0.9)
    for modality in ("audio", "vision"):
        absent = [params["fusion"][modality]["absent"] for params in (before, after)]
        assert not absent[0].any()
        assert np.abs(absent[1]).max() > 1e-4
    _, _, without = run_steps(1, "base")
    assert not without["fusion"]["audio"]["absent"].any()


@pytest.mark.slow
def test_devices_drop_out_different_things():
    """Two devices with the same dialogues: with one key for both, the loss would be device 0's."""
    config, model, batch = small_model(2, "base", dropout=0.5)
    first = jax.tree.map(lambda x: x[: x.shape[0] // 2], batch)
    doubled = jax.tree.map(lambda x: np.concatenate([x, x]), first)
    params = jax.jit(model.init)(jax.random.key(0), first)["params"]
    losses = []
    for devices, arrays in ((1, first), (2, doubled)):
        mesh, optimizer = make_mesh(devices), optax.sgd(1.0)
        step = make_train_step(model, objective_of(config), optimizer, mesh)
        state = initial_state(jax.tree.map(jnp.copy, params), optimizer, mesh)
        _, terms = step(state, replicate(jax.random.key(7), mesh), put_batch(arrays, mesh), {})
        losses.append(float(terms["loss"]))
    assert abs(losses[0] - losses[1]) > 1e-4
