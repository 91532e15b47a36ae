import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared import tiny_config

from rpcl_jax.batching.pipeline import make_batches
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.data.features import Features
from rpcl_jax.losses import pair_confidence
from rpcl_jax.run.config import build_model
from rpcl_jax.run.text_vectors import load_text_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus():
    return synthetic.generate_corpus(2, sizes={"train": 12})


def batches_and_model(corpus, modalities="tav", **text):
    splits, tables = corpus
    config = tiny_config()
    config.modalities = modalities
    config.text.update(text)
    tables = {name: tables[name] for name in tables if name[0] in modalities}
    encoder = load_text_encoder(config, splits["train"])
    batches = make_batches(splits["train"], encoder.tokenizer, tables, config, 1, EMOTIONS)
    return batches, build_model(config, encoder.config, EMOTIONS)


@pytest.fixture(scope="module")
def model_and_params(corpus):
    batches, model = batches_and_model(corpus)
    _, batch = batches.make(np.arange(12))
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    # Biases and tables start at 0; away from it, what they do can be seen.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return model, jax.tree.unflatten(tree, leaves), batches


@pytest.mark.parametrize("context", ["utterance", "dialogue"])
def test_packed_with_others_or_alone_a_dialogue_scores_the_same(corpus, model_and_params, context):
    model, params, _ = model_and_params
    batches, _ = batches_and_model(corpus, context=context)
    apply = jax.jit(lambda batch: model.apply({"params": params}, batch))
    _, together = batches.make(np.arange(12))
    outputs = apply(together)
    for place in range(12):
        _, alone = batches.make(np.array([place]))
        n = int(alone.utterance_mask[0].sum())
        for a, b in zip(outputs[1:], apply(alone)[1:], strict=True):
            a, b = (x[:, :n] if x.ndim < 4 else x[:, :n, :n] for x in (a, b))
            np.testing.assert_allclose(a[place], b[0], atol=1e-5)


def test_a_bystander_has_a_say_in_a_gold_pairs_confidence(model_and_params):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(12))
    outputs = model.apply({"params": params}, batch)
    gold = batch.pair_labels & batch.candidate_mask
    taking_part = batch.pair_labels.any(1) | batch.pair_labels.any(2)
    bystanders = batch.utterance_mask & ~taking_part
    assert bystanders[:12].any(axis=1).all()
    first = bystanders & (np.cumsum(bystanders, axis=1) == 1)
    zeroed = jnp.where(first[..., None], 0.0, outputs.utterances)
    corrupted = model.apply({"params": params}, zeroed, batch, method="score_pairs")
    change = jnp.abs(pair_confidence(corrupted) - pair_confidence(outputs.pair_logits))
    assert (change[gold] > 1e-4).all()


def test_padding_and_other_dialogues_change_nothing(model_and_params):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    outputs = model.apply({"params": params}, batch)
    b, n = batch.utterance_mask.shape
    values = np.where(batch.utterance_mask[..., None], batch.audio.values, 1e3)
    garbage = Features(values, np.ones_like(batch.utterance_mask))
    other = np.where(batch.utterance_mask, batch.speakers, 7)
    changed = model.apply({"params": params}, batch._replace(audio=garbage, speakers=other))
    np.testing.assert_allclose(
        np.where(batch.candidate_mask[..., None], outputs.pair_logits, 0),
        np.where(batch.candidate_mask[..., None], changed.pair_logits, 0),
        atol=1e-6,
    )
    assert (np.asarray(changed.utterances)[~batch.utterance_mask] == 0).all()
    assert (b, n) == changed.cause_logits.shape[:2]


def test_who_speaks_and_how_far_apart_matter(model_and_params):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    outputs = model.apply({"params": params}, batch)
    one_speaker = model.apply(
        {"params": params}, batch._replace(speakers=np.zeros_like(batch.speakers))
    )
    assert np.abs(outputs.pair_logits - one_speaker.pair_logits).max() > 1e-3


@pytest.mark.parametrize("modalities", ["t", "ta", "tv", "tav"])
def test_a_dropped_modality_has_no_weights(corpus, modalities):
    batches, model = batches_and_model(corpus, modalities)
    _, batch = batches.make(np.arange(2))
    params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    names = set(params["fusion"])
    assert ("audio" in names) == ("audio_gate" in names) == ("a" in modalities)
    assert ("vision" in names) == ("vision_gate" in names) == ("v" in modalities)
    assert (batch.audio is None) == ("a" not in modalities)


def test_the_corrupted_pass_shares_the_clean_pass_dropout(model_and_params):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    rngs = {"dropout": jax.random.key(3)}
    clean = model.apply({"params": params}, batch, deterministic=False, rngs=rngs)
    again = model.apply(
        {"params": params},
        clean.utterances,
        batch,
        deterministic=False,
        rngs=rngs,
        method="score_pairs",
    )
    np.testing.assert_array_equal(clean.pair_logits, again)
    without = model.apply({"params": params}, clean.utterances, batch, method="score_pairs")
    assert np.abs(without - again).max() > 1e-3, "or there was no dropout"


def test_bfloat16_text_stays_near_float32(model_and_params):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    low = dataclasses.replace(model, dtype=jnp.bfloat16)
    a = model.apply({"params": params}, batch)
    b = low.apply({"params": params}, batch)
    assert b.pair_logits.dtype == jnp.float32
    mask = batch.candidate_mask
    difference = pair_confidence(a.pair_logits)[mask] - pair_confidence(b.pair_logits)[mask]
    assert 0 < np.abs(difference).max() < 0.05


def test_a_row_is_shared_by_dialogues_that_do_not_see_each_other(model_and_params):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(12))
    slots, places = batch.dialogue_rows
    row_of = places[:12, 0] // slots.shape[1]
    one, other = np.flatnonzero(row_of == np.argmax(np.bincount(row_of)))[:2]
    values = np.where((np.arange(16) == other)[:, None, None], 9.0, batch.audio.values)
    audio = batch.audio._replace(values=values)
    outputs = model.apply({"params": params}, batch)
    changed = model.apply({"params": params}, batch._replace(audio=audio))
    np.testing.assert_allclose(outputs.pair_logits[one], changed.pair_logits[one], atol=1e-5)
    assert np.abs(outputs.pair_logits[other] - changed.pair_logits[other]).max() > 1e-2
