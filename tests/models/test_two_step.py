"""The two-step backbone's score, against a loop over cells, and what corruption does to it."""

import jax
import numpy as np
import pytest
from numpy_layers import dense, gelu, norm, random_params

from rpcl_jax.corruption import corrupt_context, gold_utterances
from rpcl_jax.models.recurrent import BidirectionalGRU
from rpcl_jax.models.two_step import TwoStepBackbone, TwoStepScorer

N, WIDTH = 5, 4
IDS, SPEAKERS = np.zeros((2, N), int), np.array([[0, 1, 0, 2, 0], [1, 1, 0, 0, 0]])


@pytest.fixture(scope="module")
def scorer():
    h = np.random.default_rng(1).normal(size=(2, N, 2 * WIDTH)).astype(np.float32)
    module = TwoStepScorer(WIDTH, 1, 1, pair_width=8, dropout=0.5, reach=2)
    return module, random_params(module, h, IDS, SPEAKERS), h


def apply(scorer, h, **options):
    module, params, _ = scorer
    options = {"deterministic": True} | options
    return np.asarray(module.apply({"params": params}, h, IDS, SPEAKERS, **options))


@pytest.mark.slow
def test_a_cell_is_its_two_vectors_and_their_distance(scorer):
    _, p, h = scorer
    found = apply(scorer, h)
    assert found.shape == (2, N, N, 2)
    for row, i, j in np.ndindex(2, N, N):
        emotion, cause = h[row, i, :WIDTH].astype(float), h[row, j, WIDTH:].astype(float)
        cell = dense(p["emotion"], emotion) + dense(p["cause"], cause)
        cell += p["distance"][min(max(i - j, -2), 2) + 2]
        wanted = dense(p["logits"], gelu(cell))
        np.testing.assert_allclose(found[row, i, j], wanted, rtol=1e-4, atol=1e-5)


def test_corruption_moves_the_cells_of_zeroed_bystanders_and_no_other(scorer):
    """What the docstring of `TwoStepScorer` says of CCPS."""
    _, _, h = scorer
    labels = np.zeros((2, N, N), bool)
    labels[0, 2, 1] = labels[0, 3, 1] = labels[1, 0, 0] = True
    protected = np.asarray(gold_utterances(labels))
    assert protected.tolist() == [[False, True, True, True, False], [True] + [False] * 4]
    corrupted = np.asarray(corrupt_context(jax.random.key(2), h, protected, rate=0.6))
    zeroed = (corrupted == 0).all(-1)
    assert zeroed.sum() >= 3
    assert not (zeroed & protected).any()
    rngs = {"dropout": jax.random.key(3)}
    clean, other = (apply(scorer, x, deterministic=False, rngs=rngs) for x in (h, corrupted))
    moved = (clean != other).any(-1)
    touched = zeroed[:, :, None] | zeroed[:, None, :]
    np.testing.assert_array_equal(moved, touched)
    assert not moved[labels].any()
    assert moved[0, 2].any(), "a gold row's negatives do move"


@pytest.mark.slow
def test_the_backbone_adds_what_two_recurrences_read():
    """The GRU is tested by itself."""
    text = np.random.default_rng(0).normal(size=(2, N, 6)).astype(np.float32)
    module = TwoStepBackbone("t", WIDTH, 1, layers=2, dropout=0.5)
    p = random_params(module, text, {}, IDS, SPEAKERS)
    x = np.stack(2 * [norm(p["text_norm"], dense(p["text"], text.astype(np.float64)))])
    for layer in ("layer_0", "layer_1"):
        x += BidirectionalGRU(WIDTH).apply({"params": p[layer]}, np.float32(x), IDS)
    wanted = [norm(p["emotion_norm"], x[0]), norm(p["cause_norm"], x[1])]
    found = module.apply({"params": p}, text, {}, IDS, SPEAKERS, deterministic=True)
    np.testing.assert_allclose(found, np.concatenate(wanted, -1), rtol=1e-3, atol=1e-4)
