"""The parts of the backbone, against loops over NumPy numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import dense, gated, gelu, norm, project, random_params, softmax

from rpcl_jax.batching.packing import assign_rows, pack_dialogues
from rpcl_jax.data.features import Features
from rpcl_jax.models.fusion import (
    FURTHEST,
    DialogueLayer,
    FeatureProjection,
    FusionBackbone,
    pack_utterances,
    pool_utterances,
    relative_positions,
    unpack_pairs,
)

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


def test_modalities_are_added_through_gates():
    rng = np.random.default_rng(1)
    text, audio = (rng.normal(size=(2, 5, d)).astype(np.float32) for d in (6, 3))
    features = {"audio": Features(audio, np.ones((2, 5), bool)), "vision": None}
    fusion = FusionBackbone("ta", 8, HEADS, layers=0, dropout=0.5)
    inputs = text, features, IDS, SPEAKERS
    p = random_params(fusion, *inputs)
    p["audio"]["scale"] = np.abs(p["audio"]["scale"]) + 1
    x = gated(p, *project(p, text, audio))
    found = fusion.apply({"params": p}, *inputs, deterministic=True)
    np.testing.assert_allclose(found, norm(p["norm"], x), rtol=1e-4, atol=1e-5)


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


def test_relative_positions_by_hand():
    assert relative_positions(4, 2).tolist() == [
        [2, 1, 0, 0],
        [3, 2, 1, 0],
        [4, 3, 2, 1],
        [4, 4, 3, 2],
    ]


def test_pooling_is_the_mean_of_an_utterances_own_pieces():
    hidden = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    ids = np.array([[0, 0, 3, 1], [3, 0, 3, 3]])
    pooled = pool_utterances(jnp.asarray(hidden), jnp.asarray(ids), 3)
    expected = [
        (hidden[0, 0] + hidden[0, 1] + hidden[1, 1]) / 3,
        hidden[0, 3],
        np.zeros(3),
    ]
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


def test_utterances_and_pairs_come_back_from_the_rows():
    lengths, b, n = [3, 5, 2, 1], 5, 5
    rows = pack_dialogues(lengths, assign_rows(lengths, n), b, 3, n)
    x = np.random.default_rng(0).normal(size=(b, n, 2)).astype(np.float32)
    mask = np.arange(n) < np.array([*lengths, 0])[:, None]
    packed = pack_utterances(x, rows.slots)
    assert packed.shape == (3, n, 2)
    np.testing.assert_array_equal(
        pack_utterances(packed, rows.places), np.where(mask[..., None], x, 0)
    )
    pairs = packed[:, :, None] - 2 * packed[:, None]
    both = (mask[:, :, None] & mask[:, None, :])[..., None]
    np.testing.assert_allclose(
        unpack_pairs(pairs, rows.places), np.where(both, x[:, :, None] - 2 * x[:, None], 0)
    )


@pytest.mark.slow
def test_features_are_standardised_and_absent_ones_are_a_vector_of_their_own():
    values = np.random.default_rng(0).normal(50, 3, size=(2, 4, 5)).astype(np.float32)
    present = np.array([[True] * 4, [True, False, True, False]])
    module = FeatureProjection(16)
    params = module.init(jax.random.key(0), Features(values, present))["params"]
    assert (params["absent"] == 0).all()
    params = params | {"absent": jnp.linspace(-1, 1, 16)}
    mean, scale = values.mean((0, 1)), values.std((0, 1))
    apply = lambda p, v: module.apply({"params": p}, Features(v, present))  # noqa: E731
    standardised = apply(params | {"mean": mean, "scale": scale}, values)
    np.testing.assert_allclose(standardised, apply(params, (values - mean) / scale), atol=1e-5)
    np.testing.assert_array_equal(standardised[~present], [params["absent"]] * 2)
    assert not np.isclose(standardised[present], params["absent"]).all(-1).any()
    # The statistics are never learned; the absent vector is.
    gradient = jax.grad(lambda p: (apply(p, values) ** 2).sum())(params)
    assert (gradient["mean"] == 0).all()
    assert (gradient["scale"] == 0).all()
    assert (gradient["absent"] != 0).all()
    # What is absent reaches neither value nor gradient, whatever the statistics make of it.
    huge = params | {"mean": np.full(5, 1e20, np.float32), "scale": np.full(5, 1e-20, np.float32)}
    gradient = jax.grad(lambda p: (apply(p, values) ** 2).sum())(huge)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    # An outlier counts as FURTHEST deviations.
    outlier, capped = values.copy(), values.copy()
    outlier[0, 0, 0], capped[0, 0, 0] = 1e9, (mean + FURTHEST * scale)[0]
    standard = params | {"mean": mean, "scale": scale}
    np.testing.assert_allclose(apply(standard, outlier), apply(standard, capped), atol=1e-5)
