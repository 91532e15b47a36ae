"""The encoder against Transformers' own models, packed rows against single ones."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from shared import MINILM, import_or_skip, needs_minilm
from transformers import AutoConfig

from rpcl_jax.models.families import FAMILIES
from rpcl_jax.models.pretrained import load_pretrained
from rpcl_jax.models.text_encoder import TextEncoder, TextEncoderConfig

torch = import_or_skip("torch")
pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 34,
    "initializer_range": 0.3,  # far from a model that passes its input through
    "pad_token_id": 1,
}
DISENTANGLED = {
    "relative_attention": True,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 6,  # so that far distances share buckets
    "max_relative_positions": 30,
}
# The family and what differs from SIZES, a variant after "-".
MODELS = {
    "bert": {},
    "bert-tanh": {"hidden_act": "gelu_new", "type_vocab_size": 3},
    "roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "roberta-relu": {"type_vocab_size": 1, "hidden_act": "relu"},
    "electra": {"embedding_size": 16},
    "electra-wide": {"embedding_size": 24},  # without a projection
    "distilbert": {
        "dim": 24,
        "n_layers": 4,
        "n_heads": 4,
        "hidden_dim": 40,
    },
    "mpnet": {"layer_norm_eps": 1e-5},
    "deberta-v2": DISENTANGLED | {"position_biased_input": False},
    # Position and type tables, and the furthest distance is that of the longest text.
    "deberta-v2-tables": DISENTANGLED
    | {"type_vocab_size": 2, "max_relative_positions": -1, "position_buckets": 16},
    "modernbert": {"local_attention": 8, "pad_token_id": 0},
    "modernbert-global": {"global_attn_every_n_layers": 1, "pad_token_id": 0},
}
FAMILY = {k: max((f for f in FAMILIES if f"{k}-".startswith(f"{f}-")), key=len) for k in MODELS}


def random_model(kind: str) -> transformers.PreTrainedModel:
    """A small random model, every parameter of it random: norms and biases too."""
    special = {f"{name}_token_id": 0 for name in ("bos", "eos", "cls", "sep")}
    config = AutoConfig.for_model(FAMILY[kind], **(SIZES | special | MODELS[kind]))
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
            assert parameter.std() > 0.05, name
    return model


def reference(model, segments: list[np.ndarray]) -> list[np.ndarray]:
    """Transformers' vectors, each segment by itself: no padding, no packing."""
    with torch.no_grad():
        return [
            model(torch.tensor(ids[None]).long()).last_hidden_state[0].numpy() for ids in segments
        ]


def random_segments(seed: int, lengths: list[int], vocabulary: range) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(vocabulary.start, vocabulary.stop, n).astype(np.int32) for n in lengths]


def lay_out(rows: list[list[np.ndarray]], length: int):
    """Rows of segments -> token, segment and position ids, and where each segment lies."""
    tokens, numbers, positions = np.zeros((3, len(rows), length), np.int32)
    places = []
    for r, segments in enumerate(rows):
        start = 0
        for number, ids in enumerate(segments, 1):
            place = (r, slice(start, start + len(ids)))
            tokens[place], numbers[place] = ids, number
            positions[place] = np.arange(len(ids))
            places.append(place)
            start += len(ids)
    return (tokens, numbers, positions), places


@pytest.fixture(scope="module", params=MODELS)
def saved(request, tmp_path_factory):
    """A small random model, and the folder where it is saved in several files."""
    model = random_model(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return model, folder


# 32 pieces: the longest that RoBERTa's position table has room for. From 2: 1 pads in RoBERTa.
SEGMENTS = random_segments(1, [7, 32, 12, 1, 9], range(2, 60))
LAYOUTS = {
    # Several in a row and padding; one that fills its row; one and padding.
    "packed": ([0, 2, 4, 1, 3], [[0, 2, 4], [1], [3]], 32),
    "in longer rows": ([1, 3, 0, 2, 4], [[1, 3, 0], [2, 4]], 48),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_transformers(saved, layout):
    model, folder = saved
    config, params, heads = load_pretrained(folder)
    assert heads == []
    order, rows, length = LAYOUTS[layout]
    inputs, places = lay_out([[SEGMENTS[i] for i in row] for row in rows], length)
    got = jax.jit(TextEncoder(config).apply)({"params": params}, *inputs)
    want = reference(model, SEGMENTS)
    for place, index in zip(places, order, strict=True):
        np.testing.assert_allclose(got[place], want[index], atol=1e-5, rtol=0)


def test_gradients_equal_those_of_transformers(saved, tmp_path):
    """PyTorch's gradients are saved as if they were weights, so that they are read as ours."""
    model, folder = saved
    config, params, _ = load_pretrained(folder)
    outer = [np.random.default_rng(i).normal(size=(len(s), 24)) for i, s in enumerate(SEGMENTS)]
    model.zero_grad()
    for ids, weights in zip(SEGMENTS, outer, strict=True):
        out = model(torch.tensor(ids[None]).long()).last_hidden_state[0]
        (out * torch.tensor(weights, dtype=torch.float32)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            gradient = parameter.grad if parameter.grad is not None else 0 * parameter
            parameter.copy_(gradient)  # a pooler has none
    model.save_pretrained(tmp_path)
    _, want, _ = load_pretrained(tmp_path)

    order, rows, length = LAYOUTS["packed"]
    inputs, places = lay_out([[SEGMENTS[i] for i in row] for row in rows], length)

    @jax.jit
    @jax.grad
    def gradient(params):
        got = TextEncoder(config).apply({"params": params}, *inputs)
        return sum((got[p] * outer[i]).sum() for p, i in zip(places, order, strict=True))

    got = gradient(params)
    for (path, g), w in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        if path[0].key == "position_embeddings" and config.position_offset:
            g, w = g[2:], w[2:]  # PyTorch skips the row of the padding
        scale = np.abs(w).max()
        name = jax.tree_util.keystr(path)
        if path[-1].key == "embedding" and path[0].key == "token_type_embeddings":
            assert scale > 0, name
        np.testing.assert_allclose(g, w, atol=1e-5 * max(scale, 1), rtol=0, err_msg=name)


@needs_minilm
def test_equals_transformers_on_minilm():
    config, params, _ = load_pretrained(MINILM)
    model = transformers.AutoModel.from_pretrained(MINILM).eval()
    segments = random_segments(2, [20, 64, 33], range(1000, 30000))
    rows = [[segments[0], segments[2]], [segments[1]]]
    inputs, places = lay_out(rows, 64)
    got = TextEncoder(config).apply({"params": params}, *inputs)
    want = reference(model, segments)
    for place, index in zip(places, [0, 2, 1], strict=True):
        np.testing.assert_allclose(got[place], want[index], atol=1e-4, rtol=0)


def small_encoder(**changes):
    config = TextEncoderConfig(
        **{
            "vocab_size": 50,
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 4,
            "intermediate_size": 32,
            "max_positions": 16,
            **changes,
        }
    )
    segments = random_segments(3, [6, 5, 9], range(50))
    inputs, places = lay_out([segments[:2], segments[2:], []], 16)  # the last row is all padding
    encoder = TextEncoder(config)
    params = encoder.init(jax.random.key(0), *inputs)["params"]
    # Larger than at the start of training, so that attention is not uniform.
    params = jax.tree.map(lambda leaf: leaf * 10 if leaf.ndim > 1 else leaf, params)
    return encoder, params, inputs, places


def test_config_travels_as_json():
    config = TextEncoderConfig(50, 16, 2, 4, 32, 16, hidden_act="relu", layer_norm_eps=1e-5)
    back = TextEncoderConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert back == config
    assert hash(back) == hash(config)


def test_garbage_in_another_segment_changes_nothing():
    encoder, params, (tokens, numbers, positions), places = small_encoder()

    @jax.jit
    def run(tokens):
        return encoder.apply({"params": params}, tokens, numbers, positions)

    row, piece = places[0][0], places[0][1]
    other = tokens.copy()
    inside = np.zeros_like(tokens, bool)
    inside[row, piece] = True
    other[~inside] = (other[~inside] + 17) % 50
    before, after = run(tokens), run(other)
    np.testing.assert_array_equal(before[row, piece], after[row, piece])
    assert np.abs(before[places[1]] - after[places[1]]).max() > 0.1  # it would show

    @jax.jit
    @jax.grad
    def first_segment(table):
        changed = params | {"word_embeddings": {"embedding": table}}
        out = encoder.apply({"params": changed}, tokens, numbers, positions)
        return (out[row, piece] ** 2 * np.arange(16)).sum()

    reached = jnp.abs(first_segment(params["word_embeddings"]["embedding"])).sum(-1) > 0
    assert set(np.flatnonzero(reached)) == set(tokens[row, piece])


def test_padding_gives_no_nan():
    encoder, params, inputs, _ = small_encoder()

    @jax.jit
    @jax.value_and_grad
    def loss(params, key):
        out = encoder.apply({"params": params}, *inputs, deterministic=False, rngs={"dropout": key})
        return (out**2).sum()

    value, gradient = loss(params, jax.random.key(1))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_bfloat16_is_close():
    encoder, params, inputs, places = small_encoder()
    half = TextEncoder(encoder.config, dtype=jnp.bfloat16)
    exact = encoder.apply({"params": params}, *inputs)
    rough = half.apply({"params": params}, *inputs)
    assert rough.dtype == jnp.bfloat16
    for place in places:
        # The last layer norm brings every vector to unit variance; bfloat16 has 8 bits.
        error = np.asarray(rough[place], np.float32) - exact[place]
        assert np.sqrt((error**2).mean()) < 0.03
    initial = half.init(jax.random.key(0), *inputs)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}


def test_attention_dropout_reaches_the_output():
    encoder, params, inputs, places = small_encoder(dropout=0.0, attention_dropout=0.5)

    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return encoder.apply({"params": params}, *inputs, deterministic=False, rngs=rngs)

    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1) - run(2))[places[0]].max() > 0.01
    assert np.abs(run(1) - encoder.apply({"params": params}, *inputs))[places[0]].max() > 0.01
