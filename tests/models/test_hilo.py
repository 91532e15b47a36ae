"""The HiLo-like backbone's attention and score, against loops and complex numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import dense, gated, gelu, norm, project, random_params, softmax

from rpcl_jax.data.features import Features
from rpcl_jax.models.attention import rotate
from rpcl_jax.models.hilo import LONGEST, HiloBackbone, HiloScorer, ViewLayer, views
from rpcl_jax.models.recurrent import BidirectionalGRU

HEADS = 2
# A row of two dialogues, and one of a single dialogue and padding.
IDS = np.array([[0, 0, 0, 0, 1, 1], [2, 2, 2, 2, 2, 9]])
SPEAKERS = np.array([[0, 1, 0, 1, 0, 1], [1, 1, 2, 0, 0, 0]])


def test_the_three_masks_by_hand():
    everyone, speaker, near = np.asarray(views(IDS, SPEAKERS)[0]).astype(int)
    assert everyone.tolist() == [[1, 1, 1, 1, 0, 0]] * 4 + [[0, 0, 0, 0, 1, 1]] * 2
    assert speaker.tolist() == [
        [1, 0, 1, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert near.tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


def reference_layer(p, x, ids, speakers):
    """`ViewLayer` on a row [copies, n, width], one node, view and head at a time."""
    copies, n, width = x.shape
    head = width // HEADS
    # By utterance, view and head, then query, key and value.
    projected = dense(p["query_key_value"], norm(p["norm"], x)).reshape(
        copies, n, 3, HEADS, 3, head
    )
    found = np.zeros((copies, n, 3, HEADS, head))
    sees = (
        lambda i, j: True,
        lambda i, j: speakers[i] == speakers[j],
        lambda i, j: abs(i - j) <= 2,
    )
    for copy, i, view, h in np.ndindex(copies, n, 3, HEADS):
        nodes = [
            (c, j) for c in range(copies) for j in range(n) if ids[i] == ids[j] and sees[view](i, j)
        ]
        query = projected[copy, i, view, h, 0]
        keys, values = (np.array([projected[c, j, view, h, k] for c, j in nodes]) for k in (1, 2))
        found[copy, i, view, h] = softmax(keys @ query / np.sqrt(head)) @ values
    y = dense(p["views_out"], found.reshape(copies, n, -1))
    return x + y / (1 + np.exp(-dense(p["gate"], np.concatenate([x, y], -1))))


@pytest.mark.slow
def test_a_layer_attends_under_three_masks_to_all_copies():
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 8)).astype(np.float32)
    layer, masks = ViewLayer(8, HEADS, dropout=0.5), views(IDS, SPEAKERS)
    params = random_params(layer, x, masks)
    found = layer.apply({"params": params}, x, masks, deterministic=True)
    for row in range(2):
        wanted = reference_layer(params, x[row].astype(np.float64), IDS[row], SPEAKERS[row])
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_backbone_is_recurrence_then_views_of_all_copies_then_gates():
    """The GRU is tested by itself."""
    rng = np.random.default_rng(1)
    text, audio = (rng.normal(size=(2, 6, d)).astype(np.float32) for d in (5, 3))
    features = {"audio": Features(audio, np.ones((2, 6), bool)), "vision": None}
    backbone = HiloBackbone("ta", 8, HEADS, layers=1, dropout=0.5)
    inputs = text, features, IDS, SPEAKERS
    p = random_params(backbone, *inputs)
    copies = np.stack(project(p, text, audio))
    read = BidirectionalGRU(8).apply({"params": p["recurrent"]}, np.float32(copies), IDS)
    copies += np.asarray(read)
    for row in range(2):
        copies[:, row] = reference_layer(p["layer_0"], copies[:, row], IDS[row], SPEAKERS[row])
    x = gated(p, *norm(p["copies_norm"], copies))
    found = backbone.apply({"params": p}, *inputs, deterministic=True)
    np.testing.assert_allclose(found, norm(p["norm"], x), rtol=1e-3, atol=1e-4)


def turned(query, key, distance):
    """The product of a query and a key turned by their distance, as complex numbers."""
    d = len(query) // 2
    query, key = (x[:d] + 1j * x[d:] for x in (query, key))
    speed = LONGEST ** -(np.arange(d) / d)
    return (query * np.exp(1j * distance * speed) * key.conj()).real.sum()


def test_a_rotary_product_depends_on_the_distance_alone():
    query, key = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    n = 5
    queries, keys = (rotate(jnp.tile(x, (n, 1)), LONGEST) for x in (query, key))
    wanted = [[turned(query, key, i - j) for j in range(n)] for i in range(n)]
    np.testing.assert_allclose(queries @ keys.T, wanted, rtol=1e-4)


@pytest.mark.slow
def test_a_cell_is_biaffine_and_rotary():
    """Without attention, which is tested above."""
    n, d = 4, 7  # an odd width leaves 6 numbers to turn
    h = np.random.default_rng(1).normal(size=(2, n, 6)).astype(np.float32)
    ids, speakers = np.zeros((2, n), int), np.zeros((2, n), int)
    scorer = HiloScorer(6, HEADS, layers=0, pair_width=d, dropout=0.5)
    p = random_params(scorer, h, ids, speakers)
    found = scorer.apply({"params": p}, h, ids, speakers, deterministic=True)
    assert found.shape == (2, n, n, 2)
    x = norm(p["norm"], h.astype(np.float64))
    for row, i, j, c in np.ndindex(2, n, n, 2):
        emotion = gelu(dense(p["emotion"], x[row, i]))
        cause = gelu(dense(p["cause"], x[row, j]))
        query, key = (
            x @ p[name]["kernel"][:, c] + p[name]["bias"][c]
            for name, x in (("query", emotion), ("key", cause))
        )
        assert len(query) == 6
        product = emotion @ p["biaffine"]["kernel"][:, c] @ cause + turned(query, key, i - j)
        wanted = dense(p["emotion_logits"], emotion)[c] + dense(p["cause_logits"], cause)[c]
        wanted += product / np.sqrt(d)
        np.testing.assert_allclose(found[row, i, j, c], wanted, rtol=1e-4, atol=1e-5)
    rngs = {"dropout": np.array([0, 7], np.uint32)}
    dropped = scorer.apply({"params": p}, h, ids, speakers, deterministic=False, rngs=rngs)
    assert np.abs(dropped - found).max() > 1e-3
