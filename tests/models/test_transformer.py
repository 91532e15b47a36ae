"""Our own backbone, against loops over NumPy numbers."""

import jax
import numpy as np
import pytest
from numpy_layers import dense, gated, gelu, norm, project, random_params, softmax

from rpcl_jax.data.features import Features
from rpcl_jax.models.transformer import DialogueLayer, TransformerBackbone, TransformerScorer

HEADS, REACH = 2, 2
# A row of two dialogues, and one of a single dialogue and padding.
IDS = np.array([[0, 0, 0, 1, 1], [2, 2, 2, 2, 9]])
SPEAKERS = np.array([[0, 1, 0, 0, 1], [1, 1, 2, 0, 0]])


def reference_layer(p, x, ids, speakers):
    """`DialogueLayer` on a row [n, width], one utterance and one head at a time."""
    n, width = x.shape
    head = width // HEADS
    projected = dense(p["query_key_value"], norm(p["attention_norm"], x))
    mixed = np.zeros_like(x)
    for h in range(HEADS):
        query, key, value = (
            projected[:, part * width + h * head : part * width + (h + 1) * head]
            for part in range(3)
        )
        for i in range(n):
            others = [j for j in range(n) if ids[j] == ids[i]]
            logits = [
                query[i] @ key[j] / np.sqrt(head)
                + p["distance"][min(max(i - j, -REACH), REACH) + REACH, h]
                + p["same_speaker"][int(speakers[i] == speakers[j]), h]
                for j in others
            ]
            mixed[i, h * head : (h + 1) * head] = softmax(np.array(logits)) @ value[others]
    x = x + dense(p["attention_out"], mixed)
    inner = gelu(dense(p["feed_forward_in"], norm(p["feed_forward_norm"], x)))
    return x + dense(p["feed_forward_out"], inner)


@pytest.mark.slow
def test_a_layer_is_attention_within_the_dialogue():
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    layer = DialogueLayer(8, HEADS, dropout=0.5, reach=REACH)
    params = random_params(layer, x, IDS, SPEAKERS)
    found = layer.apply({"params": params}, x, IDS, SPEAKERS, deterministic=True)
    for row in range(2):
        wanted = reference_layer(params, x[row].astype(np.float64), IDS[row], SPEAKERS[row])
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_layer_drops_out_at_three_places():
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    layer = DialogueLayer(8, HEADS, dropout=0.5)
    zeros = jax.tree.map(np.zeros_like, random_params(layer, x, IDS, SPEAKERS))

    def added(params, **options):
        rngs = {"dropout": jax.random.key(0)}
        return layer.apply({"params": params}, x, IDS, SPEAKERS, rngs=rngs, **options) - x

    for name in ("attention_out", "feed_forward_out"):
        params = zeros | {name: zeros[name] | {"bias": np.ones(8, np.float32)}}
        np.testing.assert_allclose(added(params, deterministic=True), 1, atol=1e-6)
        drawn = np.unique(np.round(added(params, deterministic=False), 4))
        assert drawn.tolist() == [0, 2]
    inner, outer = zeros["feed_forward_in"], zeros["feed_forward_out"]
    params = zeros | {
        "feed_forward_in": inner | {"bias": np.full(16, 3, np.float32)},
        "feed_forward_out": outer | {"kernel": np.full((16, 8), 1 / 16, np.float32)},
    }
    # How many of the 16 inner numbers are kept differs from utterance to utterance.
    assert len(np.unique(np.round(added(params, deterministic=False), 4))) > 4
    np.testing.assert_allclose(added(params, deterministic=True), gelu(3.0), rtol=1e-5)


def test_modalities_are_added_through_gates():
    rng = np.random.default_rng(1)
    text, audio = (rng.normal(size=(2, 5, d)).astype(np.float32) for d in (6, 3))
    features = {"audio": Features(audio, np.ones((2, 5), bool)), "vision": None}
    backbone = TransformerBackbone("ta", 8, HEADS, layers=0, dropout=0.5)
    inputs = text, features, IDS, SPEAKERS
    p = random_params(backbone, *inputs)
    p["audio"]["scale"] = np.abs(p["audio"]["scale"]) + 1
    x = gated(p, *project(p, text, audio))
    found = backbone.apply({"params": p}, *inputs, deterministic=True)
    np.testing.assert_allclose(found, norm(p["norm"], x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_cell_combines_its_two_utterances():
    """Without dialogue layers, which have tests of their own."""
    reach, n = 2, 4
    h = np.random.default_rng(1).normal(size=(2, n, 6)).astype(np.float32)
    ids, speakers = np.zeros((2, n), int), np.array([[0, 1, 0, 2], [1, 1, 0, 0]])
    scorer = TransformerScorer(6, 2, layers=0, pair_width=8, dropout=0.5, reach=reach)
    p = random_params(scorer, h, ids, speakers)
    found = scorer.apply({"params": p}, h, ids, speakers, deterministic=True)
    assert found.shape == (2, n, n, 2)
    assert p["product"]["kernel"].shape == (2, 8), "the factors are a quarter as wide"
    x = norm(p["norm"], h.astype(np.float64))
    for row, i, j in np.ndindex(2, n, n):
        emotion, cause = x[row, i], x[row, j]
        factors = dense(p["emotion_factor"], emotion) * dense(p["cause_factor"], cause)
        cell = dense(p["emotion"], emotion) + dense(p["cause"], cause)
        cell += dense(p["product"], factors)
        cell += p["distance"][min(max(i - j, -reach), reach) + reach]
        cell += p["same_speaker"][int(speakers[row, i] == speakers[row, j])]
        wanted = dense(p["logits"], gelu(cell))
        np.testing.assert_allclose(found[row, i, j], wanted, rtol=1e-4, atol=1e-5)
    rngs = {"dropout": np.array([0, 7], np.uint32)}
    dropped = scorer.apply({"params": p}, h, ids, speakers, deterministic=False, rngs=rngs)
    assert np.abs(dropped - found).max() > 1e-3
