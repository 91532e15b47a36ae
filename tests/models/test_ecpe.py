"""The whole model with each backbone: masks, packing, padding, gradients, and dropout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared import tiny_config

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.data.features import Features
from rpcl_jax.losses import pair_confidence
from rpcl_jax.models.ecpe import BACKBONES
from rpcl_jax.run.config import build_model
from rpcl_jax.run.text_encoder import load_text_encoder

pytestmark = pytest.mark.slow
PURELY_PAIRWISE = {"two_step"}  # a cell is scored from its two utterances and their distance alone
WITHOUT_SPEAKERS = {"two_step"}


@pytest.fixture(scope="module")
def corpus():
    return synthetic.generate_corpus(2, sizes={"train": 12})


def batches_and_model(corpus, modalities="tav", backbone="transformer", only=None, **text):
    """`only` is the number of a dialogue that is alone, in rows of its own length."""
    splits, tables = corpus
    config = tiny_config()
    config.modalities, config.model.backbone = modalities, backbone
    config.text.update(text)
    tables = {name: tables[name] for name in tables if name[0] in modalities}
    encoder = load_text_encoder(config, splits["train"])
    dialogues = splits["train"] if only is None else [splits["train"][only]]
    batches = Batches(dialogues, encoder.tokenizer, tables, config, 1, EMOTIONS)
    return batches, build_model(config, encoder.config, EMOTIONS)


@pytest.fixture(scope="module", params=BACKBONES)
def model_and_params(corpus, request):
    batches, model = batches_and_model(corpus, backbone=request.param)
    _, batch = batches.make(np.arange(12))
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        """Biases and tables start at 0; away from it, what they do can be seen."""
        return jnp.float32(rng.normal(path[-1].key == "scale", 0.2, leaf.shape))

    return model, jax.tree_util.tree_map_with_path(draw, shapes), batches


@pytest.fixture(scope="module")
def apply(model_and_params):
    """The clean view of a batch without dropout, compiled once for each backbone and shape."""
    model, params, _ = model_and_params
    compiled = jax.jit(lambda batch: model.apply({"params": params}, batch))
    return lambda batch: compiled(jax.tree.map(jnp.asarray, batch))


@pytest.fixture(scope="module")
def score(model_and_params):
    """`score_pairs`, in the same way."""
    model, params, _ = model_and_params
    return jax.jit(lambda h, batch: model.apply({"params": params}, h, batch, method="score_pairs"))


def assert_alone_is_the_same(apply, batches):
    _, together = batches.make(np.arange(12))
    outputs = apply(together)
    for place in range(12):
        _, alone = batches.make(np.array([place]))
        n = int(alone.utterance_mask[0].sum())
        for a, b in zip(outputs[1:], apply(alone)[1:], strict=True):
            a, b = (x[:, :n] if x.ndim < 4 else x[:, :n, :n] for x in (a, b))
            np.testing.assert_allclose(a[place], b[0], atol=1e-5)


def test_packed_with_others_or_alone_a_dialogue_scores_the_same(model_and_params, apply):
    assert_alone_is_the_same(apply, model_and_params[2])


def test_the_length_of_the_rows_changes_nothing(corpus, model_and_params, apply):
    """Else a confidence would depend on how long the other conversations of a file are."""
    _, _, batches = model_and_params
    _, together = batches.make(np.arange(12))
    lengths = together.utterance_mask.sum(axis=1)[:12]
    place = int(np.argsort(lengths)[6])
    _, alone = batches_and_model(corpus, only=place)[0].make(np.array([0]))
    n = alone.utterance_mask.shape[1]
    assert n == lengths[place] < together.utterance_mask.shape[1]
    found, wanted = apply(alone).pair_logits[0], apply(together).pair_logits[place, :n, :n]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_outputs_are_float32(model_and_params, apply):
    _, batch = model_and_params[2].make(np.arange(6))
    assert {x.dtype for x in apply(batch)} == {np.dtype("float32")}


@pytest.mark.parametrize("model_and_params", ["transformer"], indirect=True)
def test_the_same_where_segments_are_dialogues(corpus, apply):
    batches, _ = batches_and_model(corpus, context="dialogue")
    assert_alone_is_the_same(apply, batches)


def test_a_bystander_has_a_say_in_a_gold_pairs_confidence(model_and_params, apply, score):
    model, _, batches = model_and_params
    _, batch = batches.make(np.arange(12))
    outputs = apply(batch)
    gold = batch.pair_labels & batch.candidate_mask
    taking_part = batch.pair_labels.any(1) | batch.pair_labels.any(2)
    bystanders = batch.utterance_mask & ~taking_part
    assert bystanders[:12].any(axis=1).all()
    first = bystanders & (np.cumsum(bystanders, axis=1) == 1)
    zeroed = jnp.where(first[..., None], 0.0, outputs.h)
    corrupted = score(zeroed, batch)
    change = jnp.abs(pair_confidence(corrupted) - pair_confidence(outputs.pair_logits))
    if model.backbone in PURELY_PAIRWISE:
        assert (change[gold] < 1e-6).all()
    else:
        assert (change[gold] > 1e-5).all()


def test_what_is_in_the_padding_changes_nothing(model_and_params, apply):
    _, _, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    outputs = apply(batch)
    values = np.where(batch.utterance_mask[..., None], batch.audio.values, 1e3)
    garbage = Features(values, np.ones_like(batch.utterance_mask))
    other = np.where(batch.utterance_mask, batch.speakers, 7)
    changed = apply(batch._replace(audio=garbage, speakers=other))
    np.testing.assert_allclose(
        np.where(batch.candidate_mask[..., None], outputs.pair_logits, 0),
        np.where(batch.candidate_mask[..., None], changed.pair_logits, 0),
        atol=1e-6,
    )
    assert (np.asarray(changed.h)[~batch.utterance_mask] == 0).all()


def test_who_is_the_same_speaker_matters_and_not_the_number(model_and_params, apply):
    model, _, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    outputs = apply(batch)
    renumbered = apply(batch._replace(speakers=np.where(batch.speakers < 2, 5, 3) - batch.speakers))
    jax.tree.map(np.testing.assert_array_equal, renumbered, outputs)
    one_speaker = apply(batch._replace(speakers=np.zeros_like(batch.speakers)))
    change = np.abs(outputs.pair_logits - one_speaker.pair_logits).max()
    assert change == 0 if model.backbone in WITHOUT_SPEAKERS else change > 1e-3


def test_the_gradient_reaches_every_parameter(model_and_params):
    """Of each group of numbers, some; but never the statistics of the features."""
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(12))
    every_third = np.arange(batch.utterance_mask.size).reshape(batch.utterance_mask.shape) % 3 > 0
    absent = {
        name: getattr(batch, name)._replace(present=every_third) for name in ("audio", "vision")
    }
    batch = batch._replace(**absent)

    def loss(params):
        outputs = model.apply({"params": params}, batch)
        return sum((x**2).sum() for x in outputs[1:])

    gradients = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        fixed = name in {f"fusion/{m}/{s}" for m in ("audio", "vision") for s in ("mean", "scale")}
        assert np.isfinite(leaf).all(), name
        assert (np.abs(leaf).max() > 0) != fixed, name


@pytest.mark.parametrize("modalities", ["t", "ta", "tv", "tav"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_dropped_modality_has_no_weights(corpus, modalities, backbone):
    batches, model = batches_and_model(corpus, modalities, backbone)
    _, batch = batches.make(np.arange(2))
    params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    names = set(params["fusion"])
    assert ("audio" in names) == ("audio_gate" in names) == ("a" in modalities)
    assert ("vision" in names) == ("vision_gate" in names) == ("v" in modalities)
    assert (batch.audio is None) == ("a" not in modalities)


def test_the_corrupted_pass_shares_the_clean_pass_dropout(model_and_params, score):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(6))

    @jax.jit
    def passes(key):
        options = {"deterministic": False, "rngs": {"dropout": key}}
        clean = model.apply({"params": params}, batch, **options)
        h = clean.h
        again = model.apply({"params": params}, h, batch, method="score_pairs", **options)
        return clean, again

    clean, again = passes(jax.random.key(3))
    np.testing.assert_array_equal(clean.pair_logits, again)
    without = score(clean.h, batch)
    assert np.abs(without - again).max() > 1e-3, "or there was no dropout"


@pytest.mark.parametrize("model_and_params", ["transformer"], indirect=True)
def test_bfloat16_text_stays_near_float32(model_and_params, apply):
    model, params, batches = model_and_params
    _, batch = batches.make(np.arange(6))
    low = dataclasses.replace(model, dtype=jnp.bfloat16)
    a = apply(batch)
    b = jax.jit(low.apply)({"params": params}, batch)
    assert b.pair_logits.dtype == jnp.float32
    mask = batch.candidate_mask
    difference = pair_confidence(a.pair_logits)[mask] - pair_confidence(b.pair_logits)[mask]
    assert 0 < np.abs(difference).max() < 0.05


def test_a_row_is_shared_by_dialogues_that_do_not_see_each_other(model_and_params, apply):
    _, _, batches = model_and_params
    _, batch = batches.make(np.arange(12))
    slots, places = batch.dialogue_rows
    row_of = places[:12, 0] // slots.shape[1]
    one, other = np.flatnonzero(row_of == np.argmax(np.bincount(row_of)))[:2]
    values = np.where((np.arange(16) == other)[:, None, None], 9.0, batch.audio.values)
    audio = batch.audio._replace(values=values)
    outputs, changed = apply(batch), apply(batch._replace(audio=audio))
    np.testing.assert_allclose(outputs.pair_logits[one], changed.pair_logits[one], atol=1e-5)
    assert np.abs(outputs.pair_logits[other] - changed.pair_logits[other]).max() > 1e-2
