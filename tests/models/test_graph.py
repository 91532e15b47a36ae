"""The graph backbone's message passing and kernels, against loops over edges."""

import numpy as np
import pytest
from numpy_layers import dense, gelu, norm, random_params, softmax

from rpcl_jax.models.graph import (
    RELATIONS,
    GraphBackbone,
    GraphLayer,
    GraphScorer,
    edge_types,
    smoothed,
)

HEADS, REACH = 2, 2
# A row of two dialogues, and one of a single dialogue and padding.
IDS = np.array([[0, 0, 0, 1, 1], [2, 2, 2, 2, 9]])
SPEAKERS = np.array([[0, 1, 0, 0, 1], [1, 1, 2, 0, 0]])


def test_the_types_of_edges_by_hand():
    assert edge_types(SPEAKERS)[0].tolist() == [
        [0, 4, 3, 3, 4],
        [2, 0, 4, 4, 3],
        [1, 2, 0, 3, 4],
        [1, 2, 1, 0, 4],
        [2, 1, 2, 2, 0],
    ]


def clipped(distance, reach=REACH):
    return min(max(distance, -reach), reach) + reach


def reference_layer(p, x, ids, types, reach=REACH):
    """`GraphLayer` on a row [n, width], one edge and one head at a time."""
    n, width = x.shape
    head = width // HEADS
    y = norm(p["norm"], x)
    sent = (y @ p["messages"]["kernel"]).reshape(n, RELATIONS, HEADS, head)
    receiver, sender = dense(p["receiver"], y), dense(p["sender"], y)
    received = np.zeros((n, HEADS, head))
    for i, h in np.ndindex(n, HEADS):
        others = [j for j in range(n) if ids[j] == ids[i]]
        logits = np.array(
            [
                receiver[i, h]
                + sender[j, h]
                + p["distance"][clipped(i - j, reach), h]
                + p["type"][types[i, j], h]
                for j in others
            ]
        )
        weights = softmax(np.where(logits > 0, logits, 0.2 * logits))
        for j, weight in zip(others, weights, strict=True):
            received[i, h] += weight * sent[j, types[i, j], h]
    return x + dense(p["out"], gelu(received.reshape(n, width)))


@pytest.mark.slow
def test_a_layer_passes_messages_of_each_type_within_the_dialogue():
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    layer, types = GraphLayer(8, HEADS, dropout=0.5, reach=REACH), edge_types(SPEAKERS)
    params = random_params(layer, x, IDS, types)
    found = layer.apply({"params": params}, x, IDS, types, deterministic=True)
    for row in range(2):
        wanted = reference_layer(
            params, x[row].astype(np.float64), IDS[row], np.asarray(types[row])
        )
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_backbone_is_a_projection_then_messages():
    text = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    backbone = GraphBackbone("t", 8, HEADS, layers=1, dropout=0.5)
    p = random_params(backbone, text, {}, IDS, SPEAKERS)
    found = backbone.apply({"params": p}, text, {}, IDS, SPEAKERS, deterministic=True)
    x, types = norm(p["text_norm"], dense(p["text"], text.astype(float))), edge_types(SPEAKERS)
    for row in range(2):
        wanted = reference_layer(p["layer_0"], x[row], IDS[row], np.asarray(types[row]), reach=10)
        np.testing.assert_allclose(found[row], norm(p["norm"], wanted), rtol=1e-3, atol=1e-4)


def kernel_sum(table, entry):
    return sum(np.exp(-((entry - other) ** 2)) * row for other, row in enumerate(table))


@pytest.mark.slow
def test_a_cell_ranks_its_two_utterances_and_their_smoothed_distance():
    """Without message passing, which is tested above."""
    n = 4
    h = np.random.default_rng(1).normal(size=(2, n, 6)).astype(np.float32)
    ids, speakers = np.zeros((2, n), int), np.zeros((2, n), int)
    scorer = GraphScorer(6, HEADS, layers=0, pair_width=8, dropout=0.5, reach=REACH)
    p = random_params(scorer, h, ids, speakers)
    found = scorer.apply({"params": p}, h, ids, speakers, deterministic=True)
    assert found.shape == (2, n, n, 2)
    x = norm(p["norm"], h.astype(np.float64))
    for row, i, j in np.ndindex(2, n, n):
        cell = dense(p["emotion"], x[row, i]) + dense(p["cause"], x[row, j])
        cell += kernel_sum(p["distance"], clipped(i - j))
        np.testing.assert_allclose(
            found[row, i, j], dense(p["logits"], gelu(cell)), rtol=1e-4, atol=1e-5
        )
    rngs = {"dropout": np.array([0, 7], np.uint32)}
    dropped = scorer.apply({"params": p}, h, ids, speakers, deterministic=False, rngs=rngs)
    assert np.abs(dropped - found).max() > 1e-3


def test_smoothing_by_hand():
    table = np.array([[1.0], [0.0], [10.0]], np.float32)
    near, far = np.exp(-1), np.exp(-4)
    wanted = [1 + 10 * far, near + 10 * near, far + 10]
    np.testing.assert_allclose(smoothed(table)[:, 0], wanted, rtol=1e-6)
