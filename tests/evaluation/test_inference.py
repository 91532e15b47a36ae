"""Inference: probabilities of the clean view, by one program for every objective."""

import jax
import numpy as np
import pytest
from shared import refusal, tiny_config
from small_model import SPLITS, TABLES, small_batches, small_model

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.evaluation.inference import make_score, score_split
from rpcl_jax.run.base_config import OBJECTIVES
from rpcl_jax.run.text_encoder import load_text_encoder
from rpcl_jax.training.mesh import make_mesh, put_batch, replicate


def softmax(logits):
    exp = np.exp(np.asarray(logits, np.float64))
    return exp / exp.sum(-1, keepdims=True)


@pytest.mark.slow
def test_inference_is_the_same_program_whatever_the_objective():
    programs = set()
    for name in OBJECTIVES:
        _, model, batch = small_model(1, name)
        params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
        score = make_score(model, make_mesh(1))
        programs.add(str(jax.make_jaxpr(score)(params, batch)))
    assert len(programs) == 1


@pytest.mark.slow
def test_parameters_of_other_code_are_one_line():
    _, model, batch = small_model(1)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    score = make_score(model, make_mesh(1))
    table = params["pair_scorer"].pop("distance")
    assert 'parameter named "distance"' in refusal(score.lower, params, batch)
    params["pair_scorer"]["distance"] = jax.ShapeDtypeStruct((2, *table.shape[1:]), table.dtype)
    assert f"shape {table.shape}" in refusal(score.lower, params, batch)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_scores_are_probabilities_of_the_clean_view(devices):
    places, _ = small_batches(devices).make(np.arange(16))
    _, model, batch = small_model(devices, members=np.arange(16))
    _, _, whole = small_model(1, members=places)
    params = jax.jit(model.init)(jax.random.key(0), whole)["params"]
    mesh = make_mesh(devices)
    scores = make_score(model, mesh)(replicate(params, mesh), put_batch(batch, mesh))
    outputs = jax.jit(model.apply)({"params": params}, whole)
    np.testing.assert_allclose(
        scores.pair_confidence, softmax(outputs.pair_logits)[..., 1], atol=1e-5
    )
    real = np.asarray(whole.utterance_mask)
    for probabilities, logits in (
        (scores.emotion_probabilities, softmax(outputs.emotion_logits)),
        (scores.cause_confidence, softmax(outputs.cause_logits)[..., 1]),
    ):
        np.testing.assert_allclose(np.asarray(probabilities)[real], logits[real], atol=1e-5)


def test_every_dialogue_gets_its_own_scores_in_the_order_of_the_split():
    """The scores of a batch are made to say which example and utterance they belong to."""
    config = tiny_config()
    config.batch_size = 8
    config.data.max_utterances = 6
    tokenizer = load_text_encoder(config, SPLITS["train"]).tokenizer
    batches = Batches(SPLITS["train"], tokenizer, TABLES, config, 1, EMOTIONS)
    calls = iter([places for places, _ in batches.epoch(0, 0)])

    def score(params, batch):
        n = batch.utterance_mask.shape[1]
        own = 100.0 * np.asarray(next(calls))[:, None] + np.arange(n)
        return own[:, :, None] + np.arange(n) / 100, own[:, :, None] * np.ones(3), own

    scored = score_split(score, {}, batches, make_mesh(1))
    assert [s.dialogue for s in scored] == list(SPLITS["train"])
    for index, s in enumerate(scored):
        n = min(len(s.dialogue.utterances), 6)
        own = 100.0 * index + np.arange(n)
        np.testing.assert_array_equal(s.cause_confidence, own)
        np.testing.assert_array_equal(s.emotion_probabilities, own[:, None] * np.ones(3))
        np.testing.assert_array_equal(s.pair_confidence, own[:, None] + np.arange(n) / 100)
        np.testing.assert_array_equal(s.candidate_mask, np.tri(n, dtype=bool))
