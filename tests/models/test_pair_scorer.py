"""The pair scorer, against a loop over cells."""

import numpy as np
import pytest
from numpy_layers import dense, gelu, norm, random_params

from rpcl_jax.models.pair_scorer import PairScorer


@pytest.mark.slow
def test_a_cell_combines_its_two_utterances():
    """Without dialogue layers, which tests/models/test_fusion.py has."""
    reach, n = 2, 4
    h = np.random.default_rng(1).normal(size=(2, n, 6)).astype(np.float32)
    ids, speakers = np.zeros((2, n), int), np.array([[0, 1, 0, 2], [1, 1, 0, 0]])
    scorer = PairScorer(6, 2, layers=0, pair_width=8, dropout=0.5, reach=reach)
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
