"""What must not change the losses: masked cells, padding, order, the number of devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from reference import LOGITS, TERMS, B, all_terms, close, make_batch, same, to_jax

from rpcl_jax import losses

SEEDS = st.integers(0, 2**32 - 1)
GARBAGE = st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -1e38, 3.0])


def spoil(batch, value):
    """`batch` with `value` in every logit and label that no mask lets through."""
    spoiled = {k: x.copy() for k, x in batch.items()}
    for name in ("emotion", "cause"):
        spoiled[name][~batch["utterances"]] = value
    for name in ("pair", "corrupted"):
        spoiled[name][~batch["candidates"]] = value
    for name in ("emotion_labels", "cause_labels"):
        spoiled[name] = np.where(batch["utterances"], batch[name], value)
    spoiled["labels"] = np.where(batch["candidates"], batch["labels"], value)
    return spoiled


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["past", "all", "random"]), GARBAGE)
def test_masked_cells_change_nothing(seed, candidates, value):
    batch = make_batch(seed, candidates)
    results = all_terms(to_jax(spoil(batch, value)))
    same(results, all_terms(to_jax(batch)))
    gradients = results["supervised"][1]
    assert not np.asarray(gradients["emotion"])[~batch["utterances"]].any()
    assert not np.asarray(gradients["pair"])[~batch["candidates"]].any()


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["past", "all", "random"]))
def test_gold_outside_the_candidates_changes_nothing(seed, candidates):
    batch = make_batch(seed, candidates)
    flipped = np.where(batch["candidates"], batch["labels"], 1 - batch["labels"])
    same(all_terms(to_jax(batch | {"labels": flipped})), all_terms(to_jax(batch)))


def pad(batch, dialogues, utterances):
    """More dialogues and utterances at the end, all masked and full of garbage."""
    padded = {}
    for name, x in batch.items():
        wide = 2 if name in ("pair", "corrupted", "labels", "candidates") else 1
        widths = [(0, dialogues)] + [(0, utterances)] * wide
        widths += [(0, 0)] * (x.ndim - len(widths))
        filler = np.nan if x.dtype.kind == "f" else False if x.dtype.kind == "b" else -1
        padded[name] = np.pad(x, widths, constant_values=filler)
    return padded


@pytest.mark.slow
@settings(max_examples=15)
@given(SEEDS, st.sampled_from([(0, 2), (3, 1)]))  # each is another shape to compile
def test_padding_changes_nothing(seed, padding):
    batch = make_batch(seed, "all")
    padded = all_terms(to_jax(pad(batch, *padding)))
    for name, (value, gradient) in all_terms(to_jax(batch)).items():
        # Not bit for bit: sums of another length may be added up in another order.
        close(padded[name][0], value)
        for k, wanted in gradient.items():
            actual = np.array(padded[name][1][k])
            there = tuple(slice(size) for size in wanted.shape)
            close(actual[there], wanted)
            actual[there] = 0
            assert not actual.any()


@settings(max_examples=25)
@given(SEEDS, st.permutations(range(B)))
def test_order_of_dialogues_changes_nothing(seed, order):
    batch = make_batch(seed, "all")
    permuted = all_terms(to_jax({k: x[list(order)] for k, x in batch.items()}))
    for name, (value, gradient) in all_terms(to_jax(batch)).items():
        close(permuted[name][0], value)
        for k in LOGITS:
            close(permuted[name][1][k], np.asarray(gradient[k])[list(order)])


# Several devices.


def mesh_of(devices):
    return jax.make_mesh(
        (devices,), ("data",), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,)
    )


def uneven_batch():
    """16 dialogues whose gold, candidates and utterances lie on some of 8 devices only."""
    lengths = (5, 4, 0, 0, 3, 1, 5, 5, 2, 0, 0, 0, 4, 5, 5, 3)
    batch = make_batch(5, "all", lengths=lengths)
    batch["labels"][2:12] = 0
    return to_jax(batch)


def readout(parameters, batch, term, axis_name):
    """A loss as a function of parameters that are the same on every device."""
    logits = {k: jnp.tanh(batch[k] @ parameters[k]) for k in LOGITS}
    return term(batch | logits, axis_name)


PARAMETERS = {
    k: np.random.default_rng(i).normal(size=(4 if k == "emotion" else 2,) * 2).astype(np.float32)
    for i, k in enumerate(LOGITS)
}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("name", ["supervised", "cdmr", "ccps"])
def test_devices_change_neither_loss_nor_gradient(devices, name):
    assert jax.device_count() == 8
    batch = uneven_batch()
    loss = partial(readout, term=TERMS[name])
    wanted = jax.jit(jax.value_and_grad(partial(loss, axis_name=None)))(PARAMETERS, batch)
    assert wanted[0] > 0
    assert any(np.abs(g).max() > 1e-3 for g in wanted[1].values())

    # The ways of taking a gradient that the docstring of losses.py calls right.
    shared = partial(loss, axis_name="data")
    shard = partial(jax.shard_map, mesh=mesh_of(devices), in_specs=(P(), P("data")), out_specs=P())
    inside = jax.value_and_grad(shared)

    def averaged(parameters, batch):
        value, gradient = inside(parameters, batch)
        return value, jax.lax.pmean(gradient, "data")

    ways = (
        shard(inside),
        jax.value_and_grad(shard(shared)),
        jax.value_and_grad(shard(shared, check_vma=False)),
        shard(averaged, check_vma=False),
    )
    for value, gradient in jax.jit(lambda *x: [way(*x) for way in ways])(PARAMETERS, batch):
        close(value, wanted[0], 1e-5)
        for k in LOGITS:
            close(gradient[k], wanted[1][k], 1e-5)


def test_one_candidate_on_eight_devices():
    batch = uneven_batch()
    one = jnp.zeros_like(batch["candidates"]).at[4, 1, 0].set(True)
    arguments = (batch["pair"], batch["labels"], one)
    sharded = jax.shard_map(
        partial(losses.pair_cross_entropy, axis_name="data"),
        mesh=mesh_of(8),
        in_specs=(P("data"),) * 3,
        out_specs=P(),
    )
    wanted = jax.jit(jax.value_and_grad(losses.pair_cross_entropy))(*arguments)
    value, gradient = jax.jit(jax.value_and_grad(sharded))(*arguments)
    close(value, wanted[0], 1e-5)
    close(gradient, wanted[1], 1e-5)
