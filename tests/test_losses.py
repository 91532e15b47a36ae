"""The losses against loops over float64 NumPy numbers, their gradients against differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import (
    LOGITS,
    B,
    N,
    all_terms,
    ccps,
    cdmr,
    close,
    differences,
    make_batch,
    reference_ccps,
    reference_cdmr,
    reference_cross_entropy,
    reference_supervised,
    reference_triples,
    same,
    softmax,
    supervised,
    to_jax,
)
from shared import refusal

from rpcl_jax import losses

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
    # One gold against seven negatives, all of confidence 1/2, and four more of confidence ~0.
    logits = np.zeros((1, 12, 12, 2), np.float32)
    logits[0, 0, 8:, 0] = 20.0
    labels = np.eye(12, dtype=bool)[None]
    first_row = np.zeros((1, 12, 12), bool)
    first_row[0, 0] = True
    arguments = (logits, np.zeros((1, 12, 2)), labels, first_row)
    close(losses.cdmr_loss(*arguments), 0.05 * 7 / 8)
    close(losses.cdmr_loss(*arguments, top_k=None), 0.05 * 7 / 11)


@pytest.mark.parametrize("top_k", [0, -1, 2.5, True, "8"])
def test_what_is_no_number_of_negatives_is_refused(top_k):
    batch = to_jax(make_batch(0, "all"))
    assert refusal(cdmr, batch, top_k=top_k).startswith(f"top_k: is {top_k!r}, expected a whole")


def test_what_would_be_broadcast_is_refused():
    """A mask [n, n] once made a loss of b dialogues b times too large."""
    batch = to_jax(make_batch(0, "all"))
    shared = {"candidates": batch["candidates"][0]}
    for loss in (cdmr, ccps, supervised):
        message = refusal(loss, batch | shared)
        assert message.startswith(f"candidate_mask: has shape [{N}, {N}], expected [b, n, n] with")
        assert f"b = {B}" in message
    message = refusal(ccps, batch | {"corrupted": batch["corrupted"][..., 1]})
    assert message.startswith("corrupted_pair_logits: has shape")
    assert "stack((zeros_like(x), x), -1)" in message
    three = jnp.concatenate([batch["pair"]] * 2, -1)[..., :3]
    assert "stack" not in refusal(cdmr, batch | {"pair": three})


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


@pytest.mark.slow
def test_bool_int_and_float_labels_and_masks_are_the_same():
    x = to_jax(make_batch(2, "random"))
    wanted = all_terms(x)
    labels, masks = ("cause_labels", "labels"), ("utterances", "candidates")
    for label, mask in ((bool, int), (jnp.float32, jnp.float32)):
        cast = {k: x[k].astype(label) for k in labels} | {k: x[k].astype(mask) for k in masks}
        same(all_terms(x | cast), wanted)


def test_a_label_below_0_is_not_gold():
    x = to_jax(make_batch(2, "random"))
    ignored = jnp.where(x["labels"] > 0, 1, -100)
    arguments = x["pair"], x["cause"], x["labels"], x["candidates"]
    for loss, (pair, *others, labels, candidates) in (
        (losses.pair_cross_entropy, (arguments[0], *arguments[2:])),
        (losses.cdmr_loss, arguments),
        (losses.ccps_loss, (x["corrupted"], x["pair"], *arguments[2:])),
    ):
        wanted = loss(pair, *others, labels, candidates)
        assert wanted > 0
        assert loss(pair, *others, ignored, candidates) == wanted


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
