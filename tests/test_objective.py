import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared import tiny_config
from test_losses import reference_ccps, reference_cdmr, reference_supervised, reference_triples

from rpcl_jax.batching.pipeline import make_batches
from rpcl_jax.corruption import corrupt_context, gold_utterances
from rpcl_jax.data import synthetic
from rpcl_jax.objective import VARIANTS, Objective, objective_loss
from rpcl_jax.run import workdir
from rpcl_jax.run.text_vectors import load_text_encoder
from rpcl_jax.train import objective_of

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
    model = workdir.build_model(config, encoder.config)
    _, batch = make_batches(splits["train"], encoder.tokenizer, tables, config, 1).make(
        np.arange(16)
    )
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    params = jax.tree.map(lambda x: 1.5 * x, params)
    return model, params, batch


def test_every_variant_is_there():
    assert set(VARIANTS) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_variant_is_its_row_of_the_table(setup, name):
    ranking, margin, negatives, corruption, corrupted_ce, alignment = TABLE[name]
    model, params, batch = setup
    objective = objective_of(tiny_config(name))
    key = jax.random.key(5)
    loss, _ = jax.jit(lambda params: objective_loss(objective, model, params, batch, None, key))(
        params
    )

    clean = model.apply({"params": params}, batch)
    protected = gold_utterances(jnp.asarray(batch.pair_labels))
    if corruption == "unprotected":
        protected = jnp.zeros_like(protected)
    corrupted = corrupt_context(key, clean.utterances, protected, rate=0.30)
    as_reference = {
        "emotion": clean.emotion_logits,
        "cause": clean.cause_logits,
        "pair": clean.pair_logits,
        "corrupted": model.apply({"params": params}, corrupted, batch, method="score_pairs"),
        "emotion_labels": batch.emotion_labels,
        "cause_labels": batch.cause_labels,
        "labels": batch.pair_labels.astype(int),
        "utterances": batch.utterance_mask,
        "candidates": batch.candidate_mask,
    }
    reference = {
        k: np.asarray(x, np.float64 if k in ("emotion", "cause", "pair", "corrupted") else None)
        for k, x in as_reference.items()
    }
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


def test_the_defaults_are_the_papers():
    assert Objective() == Objective(0.3, 0.05, True, 8, 0.30, True, 0.75, 0.2)
    assert objective_of(tiny_config()) == Objective()


def test_without_corruption_the_two_passes_agree_dropout_and_all(setup):
    model, params, batch = setup
    objective = Objective(row_weight=0, corruption_rate=0.0, corruption_weight=0.0)
    _, terms = objective_loss(objective, model, params, batch, jax.random.key(1), jax.random.key(2))
    assert terms["stability"] == 0.0
