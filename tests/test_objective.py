"""Each objective against the losses of tests/reference.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import reference_ccps, reference_cdmr, reference_supervised, reference_triples
from shared import tiny_config

from rpcl_jax.batching.pipeline import make_batches
from rpcl_jax.corruption import corrupt_context, gold_utterances
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.objective import Objective, objective_loss
from rpcl_jax.run.base_config import OBJECTIVES
from rpcl_jax.run.config import build_model, objective_of
from rpcl_jax.run.text_vectors import load_text_encoder

# The table of docs/method.md, "Objectives": ranking, margin, negatives, corruption, corrupted CE,
# alignment.
TABLE = {
    "base": (False, None, None, None, False, False),
    "rpcl": (True, "adaptive", "top-k", "protected", True, True),
    "fixed_margin": (True, "fixed", "top-k", None, False, False),
    "utterance_dropout": (False, None, None, "unprotected", False, True),
    "cdmr": (True, "adaptive", "top-k", None, False, False),
    "ccps": (False, None, None, "protected", True, True),
    "no_alignment": (True, "adaptive", "top-k", "protected", True, False),
    "no_corrupted_ce": (True, "adaptive", "top-k", "protected", False, True),
    "no_adaptive_margin": (True, "fixed", "top-k", "protected", True, True),
    "no_top_k": (True, "adaptive", "all", "protected", True, True),
}


@pytest.fixture(scope="module")
def setup():
    splits, tables = synthetic.generate_corpus(3, sizes={"train": 16})
    config = tiny_config()
    encoder = load_text_encoder(config, splits["train"])
    model = build_model(config, encoder.config, EMOTIONS)
    _, batch = make_batches(splits["train"], encoder.tokenizer, tables, config, 1, EMOTIONS).make(
        np.arange(16)
    )
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    params = jax.tree.map(lambda x: 1.5 * x, params)
    return model, params, batch


def as_reference(model, params, batch, key, rate, protect=True):
    """Outputs of the model, clean and corrupted, and the labels, as tests/reference.py has them."""
    clean = model.apply({"params": params}, batch)
    protected = gold_utterances(jnp.asarray(batch.pair_labels)) & protect
    corrupted = corrupt_context(key, clean.utterances, protected, rate=rate)
    logits = {
        "emotion": clean.emotion_logits,
        "cause": clean.cause_logits,
        "pair": clean.pair_logits,
        "corrupted": model.apply({"params": params}, corrupted, batch, method="score_pairs"),
    }
    return {name: np.asarray(x, np.float64) for name, x in logits.items()} | {
        "emotion_labels": batch.emotion_labels,
        "cause_labels": batch.cause_labels,
        "labels": batch.pair_labels.astype(int),
        "utterances": batch.utterance_mask,
        "candidates": batch.candidate_mask,
    }


def test_every_objective_is_in_the_table():
    assert set(OBJECTIVES) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.slow
def test_an_objective_is_its_row_of_the_table(setup, name):
    ranking, margin, negatives, corruption, corrupted_ce, alignment = TABLE[name]
    model, params, batch = setup
    objective = objective_of(tiny_config(name))
    key = jax.random.key(5)
    loss, _ = jax.jit(partial(objective_loss, objective, model))(params, batch, None, key)
    reference = as_reference(model, params, batch, key, 0.30, corruption != "unprotected")
    expected = reference_supervised(reference)
    if ranking:
        top_k = 8 if negatives == "top-k" else None
        triples = reference_triples(reference, top_k, 0.05, margin == "adaptive")
        expected += 0.3 * reference_cdmr(reference, triples)
    if corruption:
        expected += reference_ccps(
            reference, reference["pair"], 0.75 * corrupted_ce, 0.2 * alignment
        )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


PAPER = Objective(0.3, 0.05, True, 8, 0.30, True, 0.75, 0.2)


def test_the_defaults_are_the_papers():
    assert objective_of(tiny_config()) == PAPER


@pytest.mark.slow
def test_every_setting_reaches_its_loss(setup):
    """With no number at the paper's value, the terms are still those of the reference."""
    model, params, batch = setup
    # Confidences near 1 would be equal in float32, though not in the reference's float64.
    params = jax.tree.map(lambda x: x / 1.5, params)
    objective = Objective(0.7, 0.4, True, 2, 0.6, True, 0.35, 1.5)
    key = jax.random.key(6)
    loss, terms = jax.jit(partial(objective_loss, objective, model))(params, batch, None, key)
    reference = as_reference(model, params, batch, key, rate=0.6)
    supervised = reference_supervised(reference)
    ranking = reference_cdmr(reference, reference_triples(reference, 2, 0.4, True))
    stability = reference_ccps(reference, reference["pair"], 0.35, 1.5)
    expected = {
        "supervised": supervised,
        "ranking": ranking,
        "stability": stability,
        "loss": supervised + 0.7 * ranking + stability,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    assert loss == terms["loss"]


@pytest.mark.slow
def test_terms_of_weight_zero_are_not_computed(setup):
    model, params, batch = setup
    for changes, names in (
        ({}, {"loss", "supervised", "ranking", "stability"}),
        ({"row_weight": 0.0}, {"loss", "supervised", "stability"}),
        ({"corruption_weight": 0.0}, {"loss", "supervised", "ranking", "stability"}),
        ({"alignment_weight": 0.0}, {"loss", "supervised", "ranking", "stability"}),
        (
            {"corruption_weight": 0.0, "alignment_weight": 0.0},
            {"loss", "supervised", "ranking"},
        ),
    ):
        loss = partial(objective_loss, PAPER._replace(**changes), model)
        _, terms = jax.eval_shape(loss, params, batch, None, jax.random.key(0))
        assert terms.keys() == names


@pytest.mark.slow
def test_without_corruption_the_two_passes_agree_dropout_and_all(setup):
    model, params, batch = setup
    objective = PAPER._replace(row_weight=0, corruption_rate=0.0, corruption_weight=0.0)
    loss = jax.jit(partial(objective_loss, objective, model))
    dropped, terms = loss(params, batch, jax.random.key(1), jax.random.key(2))
    assert terms["stability"] == 0.0
    other, _ = loss(params, batch, jax.random.key(3), jax.random.key(2))
    assert abs(dropped - other) > 1e-4  # there is dropout
