"""What is zeroed, how often, and what the draw depends on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from rpcl_jax.corruption import corrupt_context, gold_utterances
from rpcl_jax.errors import InputError

SEEDS = st.integers(0, 2**31 - 1)


def zeroed(key, shape, *, rate, protected=None):
    """Which utterances a draw zeroes, bool [b, n]."""
    if protected is None:
        protected = np.zeros(shape, bool)
    return (
        np.asarray(corrupt_context(key, jnp.ones((*shape, 1)), protected, rate=rate))[..., 0] == 0
    )


@settings(max_examples=50)
@given(SEEDS)
def test_gold_utterances_are_those_in_any_pair(seed):
    labels = np.random.default_rng(seed).random((3, 5, 5)) < 0.08
    wanted = np.zeros((3, 5), bool)
    for d, i, j in zip(*np.nonzero(labels), strict=True):
        wanted[d, i] = wanted[d, j] = True
    for kind in (bool, int, np.float32):
        np.testing.assert_array_equal(gold_utterances(jnp.asarray(labels.astype(kind))), wanted)


def test_a_label_to_ignore_protects_nobody():
    labels = jnp.array([[[-100.0, 0.0, jnp.nan], [1.0, 0.0, -100.0], [0.0, 0.0, -1.0]]])
    assert gold_utterances(labels).tolist() == [[True, True, False]]


@settings(max_examples=25)
@given(SEEDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_gold_is_never_touched_and_rows_are_whole(seed, rate):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(3, 6, 4)).astype(np.float32)
    protected = rng.random((3, 6)) < 0.5
    corrupted = np.asarray(corrupt_context(jax.random.key(seed), h, protected, rate=rate))
    same = (corrupted == h).all(axis=-1)
    zero = (corrupted == 0).all(axis=-1)
    assert same[protected].all()
    assert (same | zero).all()
    if rate == 0.0:
        assert same.all()
    if rate == 1.0:
        np.testing.assert_array_equal(zero, ~protected)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_rate_within_five_standard_deviations(rate):
    drawn = zeroed(jax.random.key(0), (200, 100), rate=rate)
    for part, size in ((drawn.mean(), 20000), (drawn.mean(axis=0), 200), (drawn.mean(axis=1), 100)):
        assert (np.abs(part - rate) < 5 * np.sqrt(rate * (1 - rate) / size)).all()


def test_utterances_are_drawn_independently():
    drawn = zeroed(jax.random.key(1), (20000, 4), rate=0.3) - 0.3
    covariance = drawn.T @ drawn / len(drawn)
    np.testing.assert_allclose(covariance, 0.21 * np.eye(4), atol=5 * 0.21 / np.sqrt(len(drawn)))


def test_same_key_same_result_another_key_or_place_another():
    draw = partial(zeroed, shape=(4, 64), rate=0.5)
    first = draw(jax.random.key(7))
    np.testing.assert_array_equal(first, draw(jax.random.key(7)))
    assert (first != draw(jax.random.key(8))).any(axis=1).all()
    for a in range(4):
        for b in range(a):
            assert (first[a] != first[b]).any()


@pytest.mark.slow
@pytest.mark.parametrize("partitionable", [True, False])
def test_padding_and_protection_change_no_other_draw(partitionable):
    with jax.threefry_partitionable(partitionable):
        key = jax.random.key(3)
        wide = zeroed(key, (6, 13), rate=0.4)
        for shape in ((6, 12), (5, 13)):
            np.testing.assert_array_equal(
                zeroed(key, shape, rate=0.4), wide[: shape[0], : shape[1]]
            )
        protected = np.random.default_rng(0).random((6, 13)) < 0.5
        np.testing.assert_array_equal(
            zeroed(key, (6, 13), rate=0.4, protected=protected), wide & ~protected
        )


def test_nan_in_a_zeroed_row_does_not_survive():
    key = jax.random.key(0)
    gone = zeroed(key, (2, 8), rate=0.5)
    h = np.where(gone[..., None], np.nan, 1.5).astype(np.float32) * np.ones(3, np.float32)
    protected = np.zeros((2, 8), int)
    corrupted = corrupt_context(key, h, protected, rate=0.5)
    np.testing.assert_array_equal(corrupted, np.where(gone[..., None], 0, 1.5) * np.ones(3))
    gradient = jax.grad(lambda h: (corrupt_context(key, h, protected, rate=0.5) ** 2).sum())(
        jnp.asarray(h)
    )
    np.testing.assert_array_equal(gradient, np.where(gone[..., None], 0, 3.0) * np.ones(3))


def test_the_type_stays():
    for kind in (jnp.bfloat16, jnp.float32):
        h = jnp.ones((2, 3, 4), kind)
        assert corrupt_context(jax.random.key(0), h, jnp.zeros((2, 3)), rate=0.5).dtype == kind


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_devices_do_not_change_the_draw(devices):
    assert jax.device_count() == 8
    rng = np.random.default_rng(0)
    h = jnp.asarray(rng.normal(size=(16, 9, 3)), jnp.float32)
    protected = rng.random((16, 9)) < 0.3
    key = jax.random.key(5)
    mesh = jax.make_mesh(
        (devices,), ("data",), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,)
    )

    def scaled(weight, key, h, protected, axis_name=None):
        corrupted = corrupt_context(key, h, protected, rate=0.4, axis_name=axis_name)
        total = (weight * corrupted**2).sum()
        if axis_name is not None:
            total = jax.lax.psum(total, axis_name)
        return total, corrupted

    def value_and_gradient(*arguments, axis_name=None):
        return jax.value_and_grad(scaled, has_aux=True)(*arguments, axis_name=axis_name)

    sharded = jax.shard_map(
        partial(value_and_gradient, axis_name="data"),
        mesh=mesh,
        in_specs=(P(), P(), P("data"), P("data")),
        out_specs=((P(), P("data")), P()),
    )
    weight = jnp.float32(0.1)
    (total, corrupted), gradient = jax.jit(sharded)(weight, key, h, protected)
    (wanted_total, wanted), wanted_gradient = jax.jit(value_and_gradient)(weight, key, h, protected)
    np.testing.assert_array_equal(corrupted, wanted)
    np.testing.assert_allclose(total, wanted_total, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-5)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(InputError, match=f"rate: is {rate:g}, expected a number from 0 to 1"):
        corrupt_context(jax.random.key(0), jnp.ones((1, 2, 3)), jnp.zeros((1, 2)), rate=rate)
