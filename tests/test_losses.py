"""The losses against loops over float64 NumPy numbers, their gradients against differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from rpcl_jax import losses

B, N, EMOTIONS = 5, 5, 4
LENGTHS = (5, 4, 5, 1, 0)


# The reference: what the equations say, one candidate at a time.


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def reference_cross_entropy(logits, labels, mask):
    terms = [
        np.log(np.exp(logits[c] - logits[c].max()).sum()) + logits[c].max() - logits[c][labels[c]]
        for c in np.ndindex(mask.shape)
        if mask[c]
    ]
    return sum(terms) / len(terms) if terms else 0.0


def reference_supervised(batch):
    return (
        reference_cross_entropy(batch["emotion"], batch["emotion_labels"], batch["utterances"])
        + reference_cross_entropy(batch["cause"], batch["cause_labels"], batch["utterances"])
        + reference_cross_entropy(batch["pair"], batch["labels"], batch["candidates"])
    )


def reference_triples(batch, top_k, m0, adaptive):
    """Ω with the margin of each: [(dialogue, i, j+, j-, margin)], the part without a gradient."""
    triples = []
    for d, i in np.ndindex(batch["labels"].shape[:2]):
        row = [j for j in range(batch["labels"].shape[2]) if batch["candidates"][d, i, j]]
        p = {j: softmax(batch["pair"][d, i, j])[1] for j in row}
        negatives = [j for j in row if not batch["labels"][d, i, j]]
        hard = sorted(negatives, key=lambda j: (-p[j], j))[:top_k]
        for positive in (j for j in row if batch["labels"][d, i, j]):
            for negative in hard:
                q = [softmax(batch["cause"][d, j])[1] for j in (negative, positive)]
                margin = m0 * np.exp(q[0] - q[1]) if adaptive else m0
                triples.append((d, i, positive, negative, margin))
    return triples


def reference_cdmr(batch, triples):
    def p(*cell):
        return softmax(batch["pair"][cell])[1]

    terms = [max(0.0, m - (p(d, i, pos) - p(d, i, neg))) for d, i, pos, neg, m in triples]
    return sum(terms) / len(terms) if terms else 0.0


def reference_ccps(batch, clean, corruption_weight, alignment_weight):
    cells = [c for c in np.ndindex(clean.shape[:3]) if batch["candidates"][c]]
    squares = [((softmax(batch["corrupted"][c]) - softmax(clean[c])) ** 2).sum() for c in cells]
    return corruption_weight * reference_cross_entropy(
        batch["corrupted"], batch["labels"], batch["candidates"]
    ) + alignment_weight * (sum(squares) / len(squares) if squares else 0.0)


def differences(function, batch, name, step=1e-5):
    """Central differences of `function(batch)` for every number of `batch[name]`."""
    gradient = np.zeros(batch[name].shape)
    for c in np.ndindex(gradient.shape):
        values = []
        for sign in (1, -1):
            moved = batch[name].copy()
            moved[c] += sign * step
            values.append(function(batch | {name: moved}))
        gradient[c] = (values[0] - values[1]) / (2 * step)
    return gradient


# Batches, and the functions under test as functions of one.


def make_batch(seed, candidates="past", tied=False, lengths=LENGTHS):
    """A random batch in float64; its masked cells hold valid numbers."""
    rng = np.random.default_rng(seed)
    b = len(lengths)
    utterances = np.arange(N) < np.array(lengths)[:, None]
    mask = utterances[:, :, None] & utterances[:, None, :]
    if candidates == "past":
        mask = np.tril(mask)
    elif candidates == "random":
        mask &= rng.random(mask.shape) < 0.7
    labels = rng.random((b, N, N)) < 0.3
    labels[0, 1] = True  # a row with nothing but gold
    labels[0, 2] = False  # and one with none
    batch = {
        "emotion": rng.normal(size=(b, N, EMOTIONS)),
        "cause": 2 * rng.normal(size=(b, N, 2)),
        "pair": 2 * rng.normal(size=(b, N, N, 2)),
        "corrupted": 2 * rng.normal(size=(b, N, N, 2)),
        "emotion_labels": rng.integers(EMOTIONS, size=(b, N)),
        "cause_labels": rng.integers(2, size=(b, N)),
        "labels": labels.astype(int),
        "utterances": utterances,
        "candidates": mask,
    }
    if tied:
        batch["pair"] = np.stack(
            [np.zeros((b, N, N)), rng.integers(-1, 2, size=(b, N, N)).astype(float)], axis=-1
        )
    # Both sides start from the same float32 numbers.
    return {k: x.astype(np.float32).astype(x.dtype) for k, x in batch.items()}


def supervised(batch, axis_name=None):
    return losses.supervised_loss(
        batch["emotion"],
        batch["cause"],
        batch["pair"],
        batch["emotion_labels"],
        batch["cause_labels"],
        batch["labels"],
        batch["utterances"],
        batch["candidates"],
        axis_name=axis_name,
    )


def cdmr(batch, axis_name=None, **options):
    return losses.cdmr_loss(
        batch["pair"],
        batch["cause"],
        batch["labels"],
        batch["candidates"],
        axis_name=axis_name,
        **options,
    )


def ccps(batch, axis_name=None, **options):
    return losses.ccps_loss(
        batch["corrupted"],
        batch["pair"],
        batch["labels"],
        batch["candidates"],
        axis_name=axis_name,
        **options,
    )


# The margin is wide so that many triples violate it, k = 2 so that most rows have more negatives.
TERMS = {
    "supervised": supervised,
    "cdmr": partial(cdmr, top_k=2, base_margin=0.5),
    "cdmr_all": partial(cdmr, top_k=None, base_margin=0.5),
    "ccps": ccps,
}
LOGITS = ("emotion", "cause", "pair", "corrupted")


def to_jax(batch):
    return {
        k: jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else None) for k, x in batch.items()
    }


@jax.jit
def all_terms(batch):
    """Every loss and its gradient with respect to all logits."""
    results = {}
    for name, term in TERMS.items():
        results[name] = jax.value_and_grad(lambda logits, term=term: term(batch | logits))(
            {k: batch[k] for k in LOGITS}
        )
    return results


def close(actual, wanted, tolerance=2e-6):
    np.testing.assert_allclose(np.asarray(actual), wanted, rtol=0, atol=tolerance)


def same(actual, wanted):
    """Equal bit for bit, and no NaN."""
    for a, w in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        assert np.isfinite(np.asarray(a)).all()
        np.testing.assert_array_equal(np.asarray(a), np.asarray(w))


BATCHES = [(0, "past", False), (1, "all", False), (5, "random", False), (7, "all", True)]


@pytest.mark.parametrize(("seed", "candidates", "tied"), BATCHES)
class TestAgainstReference:
    def test_pair_confidence(self, seed, candidates, tied):
        batch = make_batch(seed, candidates, tied)
        p = losses.pair_confidence(to_jax(batch)["pair"])
        assert p.shape == (B, N, N)
        close(p, np.apply_along_axis(softmax, -1, batch["pair"])[..., 1])

    def test_pair_cross_entropy(self, seed, candidates, tied):
        batch = make_batch(seed, candidates, tied)

        def reference(x):
            return reference_cross_entropy(x["pair"], x["labels"], x["candidates"])

        x = to_jax(batch)
        value, gradient = jax.value_and_grad(losses.pair_cross_entropy)(
            x["pair"], x["labels"], x["candidates"]
        )
        close(value, reference(batch))
        close(gradient, differences(reference, batch, "pair"))

    def test_supervised(self, seed, candidates, tied):
        batch = make_batch(seed, candidates, tied)
        value, gradient = all_terms(to_jax(batch))["supervised"]
        close(value, reference_supervised(batch))
        for name in ("emotion", "cause", "pair"):
            close(gradient[name], differences(reference_supervised, batch, name))

    @pytest.mark.parametrize(
        ("top_k", "adaptive"), [(1, True), (2, True), (8, True), (None, True), (2, False)]
    )
    def test_cdmr(self, seed, candidates, tied, top_k, adaptive):
        batch = make_batch(seed, candidates, tied)
        triples = reference_triples(batch, top_k, 0.3, adaptive)
        violated = [reference_cdmr(batch, [triple]) > 0 for triple in triples]
        assert any(violated)
        assert not all(violated)
        x = to_jax(batch)
        value, gradient = jax.jit(
            jax.value_and_grad(
                lambda pair: cdmr(
                    x | {"pair": pair}, top_k=top_k, base_margin=0.3, adaptive_margin=adaptive
                )
            )
        )(x["pair"])
        close(value, reference_cdmr(batch, triples))
        wanted = differences(partial(reference_cdmr, triples=triples), batch, "pair")
        close(gradient, wanted)

    def test_ccps(self, seed, candidates, tied):
        batch = make_batch(seed, candidates, tied)
        clean = batch["pair"]
        for weights in ((0.75, 0.2), (0.0, 3.0), (2.0, 0.0)):
            reference = partial(
                reference_ccps,
                clean=clean,
                corruption_weight=weights[0],
                alignment_weight=weights[1],
            )
            x = to_jax(batch)
            value, gradient = jax.value_and_grad(
                lambda corrupted, x=x, weights=weights: ccps(
                    x | {"corrupted": corrupted},
                    corruption_weight=weights[0],
                    alignment_weight=weights[1],
                )
            )(x["corrupted"])
            close(value, reference(batch))
            close(gradient, differences(reference, batch, "corrupted"))


def test_defaults_are_the_papers():
    batch = make_batch(0, "all", lengths=(5,) * 6)
    batch["pair"] *= 0.02  # confidences so close that a margin of 0.05 is violated
    value = cdmr(to_jax(batch))
    close(value, reference_cdmr(batch, reference_triples(batch, 8, 0.05, True)))
    assert value > 0
    close(ccps(to_jax(batch)), reference_ccps(batch, batch["pair"], 0.75, 0.2))


def test_default_top_k_is_eight():
    # One gold of confidence 1/2 against eleven negatives, of which three have confidence ~0.
    logits = np.zeros((1, 1, 12, 2), np.float32)
    logits[0, 0, 9:, 0] = 20.0
    labels = np.eye(1, 12, dtype=bool)[None]
    arguments = (logits, np.zeros((1, 12, 2)), labels, np.ones((1, 1, 12), bool))
    close(losses.cdmr_loss(*arguments), 0.05)
    close(losses.cdmr_loss(*arguments, top_k=None), 0.05 * 8 / 11)


def test_of_equal_negatives_the_first_is_taken():
    pair = jnp.zeros((1, 4, 4, 2))
    labels = jnp.zeros((1, 4, 4), bool).at[0, 3, 1].set(True)
    cells = jnp.ones((1, 4, 4), bool)
    gradient = jax.jit(jax.grad(partial(losses.cdmr_loss, top_k=2)))(
        pair, jnp.zeros((1, 4, 2)), labels, cells
    )
    touched = np.abs(np.asarray(gradient)).sum(-1)[0] > 0
    np.testing.assert_array_equal(touched[3], [True, True, True, False])
    assert not touched[:3].any()


@pytest.mark.parametrize("case", ["no gold", "no negatives", "no candidates", "no dialogues"])
def test_without_triples_cdmr_is_zero(case):
    batch = make_batch(0, "all")
    if case == "no gold":
        batch["labels"][:] = 0
    elif case == "no negatives":
        batch["labels"][:] = 1
    else:
        batch["candidates"][:] = False
    if case == "no dialogues":
        batch["utterances"][:] = False
    results = all_terms(to_jax(batch))
    for name in ("cdmr", "cdmr_all"):
        value, gradient = results[name]
        assert value.shape == ()
        same(value, 0.0)
        same(gradient, jax.tree.map(np.zeros_like, gradient))
    if case == "no dialogues":
        same(results, jax.tree.map(np.zeros_like, results))


def test_stopped_gradients_are_exactly_zero():
    results = all_terms(to_jax(make_batch(1, "all")))
    for name in ("cdmr", "cdmr_all"):
        assert not np.asarray(results[name][1]["cause"]).any()
        assert np.asarray(results[name][1]["pair"]).any()
    assert not np.asarray(results["ccps"][1]["pair"]).any()
    assert np.asarray(results["ccps"][1]["corrupted"]).any()
    # ... though the values depend on what passes no gradient.
    batch = make_batch(1, "all")
    moved = all_terms(to_jax(batch | {"cause": -batch["cause"]}))
    assert abs(moved["cdmr"][0] - results["cdmr"][0]) > 1e-3
    moved = all_terms(to_jax(batch | {"pair": -batch["pair"]}))
    assert abs(moved["ccps"][0] - results["ccps"][0]) > 1e-3


def test_bool_int_and_float_labels_and_masks_are_the_same():
    x = to_jax(make_batch(2, "random"))
    wanted = all_terms(x)
    labels, masks = ("cause_labels", "labels"), ("utterances", "candidates")
    for label, mask in ((bool, int), (jnp.float32, jnp.float32)):
        cast = {k: x[k].astype(label) for k in labels} | {k: x[k].astype(mask) for k in masks}
        same(all_terms(x | cast), wanted)


def test_bfloat16_logits_are_computed_on_in_float32():
    x = to_jax(make_batch(2, "random"))
    low = {k: x[k].astype(jnp.bfloat16) for k in LOGITS}
    wanted = all_terms(x | {k: v.astype(jnp.float32) for k, v in low.items()})
    for name, (value, gradient) in all_terms(x | low).items():
        assert value.dtype == jnp.float32
        assert gradient["pair"].dtype == jnp.bfloat16
        same(value, wanted[name][0])
    assert losses.pair_confidence(low["pair"]).dtype == jnp.float32


def test_large_logits_stay_finite():
    x = to_jax(make_batch(1, "all"))
    results = all_terms(x | {k: 1e4 * x[k] for k in LOGITS})
    same(results, results)


# Properties.

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
