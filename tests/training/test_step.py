import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from shared import tiny_config

from rpcl_jax.batching.pipeline import make_batches
from rpcl_jax.data import synthetic
from rpcl_jax.objective import VARIANTS
from rpcl_jax.run import workdir
from rpcl_jax.run.text_vectors import load_text_encoder
from rpcl_jax.train import objective_of
from rpcl_jax.training.step import (
    TrainState,
    make_mesh,
    make_score,
    make_train_step,
    put_batch,
    replicate,
)

CORPUS = synthetic.generate_corpus(4, sizes={"train": 13})


def setup(devices, objective="rpcl", dropout=0.0):
    splits, tables = CORPUS
    config = tiny_config(objective)
    config.model.dropout = config.text.dropout = config.text.attention_dropout = dropout
    encoder = load_text_encoder(config, splits["train"])
    batches = make_batches(splits["train"], encoder.tokenizer, tables, config, devices)
    _, batch = batches.make(np.arange(13))
    return config, workdir.build_model(config, encoder.config), batch


def one_step(devices, dropout=0.0):
    """Loss terms, and as the change of the parameters the gradient: a step of SGD at rate 1."""
    config, model, batch = setup(devices, dropout=dropout)
    _, _, whole = setup(1)
    params = model.init(jax.random.key(0), whole)["params"]
    optimizer = optax.sgd(1.0)
    mesh = make_mesh(devices)
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    before = jax.tree.map(np.asarray, params)
    step = make_train_step(model, objective_of(config), optimizer, mesh)
    state, terms = step(
        replicate(state, mesh), replicate(jax.random.key(7), mesh), put_batch(batch, mesh)
    )
    assert int(state.step) == 1
    gradient = jax.tree.map(lambda a, b: a - np.asarray(b), before, state.params)
    return jax.device_get(terms), gradient


def test_eight_devices_compute_what_one_does():
    terms, gradient = one_step(1)
    terms8, gradient8 = one_step(8)
    assert terms.keys() == terms8.keys() >= {"supervised", "ranking", "stability", "loss"}
    for name in terms:
        np.testing.assert_allclose(terms8[name], terms[name], atol=1e-5, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, atol=1e-5), gradient, gradient8)
    assert terms["gradient_norm"] > 0.1


def test_devices_drop_out_different_things():
    # 13 dialogues over 8 devices: with one key for all, device 0's masks would come again.
    _, model, batch = setup(2, dropout=0.5)
    first = jax.tree.map(lambda x: x[: x.shape[0] // 2], batch)
    doubled = jax.tree.map(lambda x: np.concatenate([x, x]), first)
    mesh = make_mesh(2)
    params = model.init(jax.random.key(0), first)["params"]
    optimizer = optax.sgd(1.0)
    step = make_train_step(model, objective_of(tiny_config("base")), optimizer, mesh)

    def loss(batch, mesh, step):
        state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
        state = jax.tree.map(jnp.copy, state)
        _, terms = step(
            replicate(state, mesh), replicate(jax.random.key(7), mesh), put_batch(batch, mesh)
        )
        return float(terms["loss"])

    one = make_mesh(1)
    alone = loss(
        first, one, make_train_step(model, objective_of(tiny_config("base")), optimizer, one)
    )
    assert abs(loss(doubled, mesh, step) - alone) > 1e-4


def test_inference_is_the_same_program_whatever_the_objective():
    programs = set()
    for name in VARIANTS:
        _, model, batch = setup(1, name)
        params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
        score = make_score(model, make_mesh(1))
        programs.add(str(jax.make_jaxpr(score)(params, batch)))
    assert len(programs) == 1


@pytest.mark.parametrize("devices", [1, 8])
def test_scores_are_probabilities_of_the_clean_view(devices):
    _, model, batch = setup(devices)
    _, _, whole = setup(1)
    params = model.init(jax.random.key(0), whole)["params"]
    mesh = make_mesh(devices)
    scores = make_score(model, mesh)(replicate(params, mesh), put_batch(batch, mesh))
    outputs = model.apply({"params": params}, whole)
    exp = np.exp(np.asarray(outputs.pair_logits, np.float64))
    np.testing.assert_allclose(
        scores.pair_confidence, (exp / exp.sum(-1, keepdims=True))[..., 1], atol=1e-5
    )
    np.testing.assert_allclose(np.sum(scores.emotion_probabilities, -1), 1, atol=1e-5)
    assert scores.cause_confidence.shape == batch.utterance_mask.shape
