"""The encoder against Transformers' own models, packed rows against single ones."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from shared import MINILM, import_or_skip, needs_minilm

from rpcl_jax.models.pretrained import load_pretrained
from rpcl_jax.models.text_encoder import (
    TextEncoder,
    TextEncoderConfig,
    attend_within_segments,
    segment_attention,
)

torch = import_or_skip("torch")
pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "initializer_range": 0.3,  # far from a model that passes its input through
}
MODELS = {
    "bert": (transformers.BertConfig, {"max_position_embeddings": 32}),
    "bert-tanh": (
        transformers.BertConfig,
        {"max_position_embeddings": 32, "hidden_act": "gelu_new", "type_vocab_size": 3},
    ),
    "roberta": (
        transformers.RobertaConfig,
        {"max_position_embeddings": 34, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ),
    "roberta-relu": (
        transformers.RobertaConfig,
        {"max_position_embeddings": 34, "type_vocab_size": 1, "hidden_act": "relu"},
    ),
}


def random_model(kind: str) -> transformers.PreTrainedModel:
    """A small random model, every parameter of it random: norms and biases too."""
    config_class, options = MODELS[kind]
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config_class(**SIZES, **options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
            assert parameter.std() > 0.1, name
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


@pytest.mark.parametrize("layout", ["packed", "unpacked"])
@pytest.mark.parametrize("kind", MODELS)
def test_equals_transformers(kind, layout, tmp_path):
    model = random_model(kind)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1  # sharded
    config, params, _ = load_pretrained(tmp_path)
    # 32 pieces: the longest that the position table has room for. From 2: 1 pads in RoBERTa.
    segments = random_segments(1, [7, 32, 12, 1, 9], range(2, 60))
    a, b, c, d, e = segments
    rows = [[a, c, e], [b], [d]] if layout == "packed" else [[s] for s in segments]
    order = [0, 2, 4, 1, 3] if layout == "packed" else range(5)
    inputs, places = lay_out(rows, 32)
    got = TextEncoder(config).apply({"params": params}, *inputs)
    want = reference(model, segments)
    for place, index in zip(places, order, strict=True):
        np.testing.assert_allclose(got[place], want[index], atol=1e-4, rtol=0)


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


def plain_attention(query, key, value, segment_ids, keep):
    """The same by the book, derivative left to JAX."""
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    logits = jnp.where(same, jnp.einsum("rhid,rhjd->rhij", query, key), -jnp.inf)
    weights = jax.nn.softmax(logits)
    return jnp.einsum("rhij,rhjd->rhid", weights if keep is None else weights * keep, value)


@pytest.mark.parametrize("dropped", [False, True])
def test_attention_and_its_derivative(dropped):
    rng = np.random.default_rng(4)
    query, key, value, outer = rng.normal(size=(4, 2, 3, 7, 5))
    segment_ids = np.array([[1, 1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 2, 0, 0]])
    keep = (rng.random((2, 3, 7, 7)) < 0.7) / 0.7 if dropped else None

    def weighed(attention, *args):
        return (attention(*args, segment_ids, keep) * outer).sum()

    with jax.enable_x64(True):
        got, want = (
            jax.value_and_grad(weighed, argnums=(1, 2, 3))(f, query * 2, key, value)
            for f in (segment_attention, plain_attention)
        )
        # Logits and sums are float32 whatever the input is.
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4), got, want)


class FakeDevice:
    def __init__(self, compute_capability):
        self.compute_capability = compute_capability


def test_attention_of_a_gpu_is_that_of_a_cpu(monkeypatch):
    """What runs on a GPU in float32 is computed by XLA, so it runs here too."""
    rng = np.random.default_rng(5)
    query, key, value, outer = rng.normal(size=(4, 2, 3, 7, 5)).astype(np.float32)
    segment_ids = np.array([[1, 1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 2, 0, 0]])

    def weighed(*args):
        return (attend_within_segments(*args, segment_ids, None) * outer).sum()

    on_cpu = jax.value_and_grad(weighed, argnums=(0, 1, 2))(query, key, value)
    used = []
    theirs = jax.nn.dot_product_attention
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [FakeDevice("9.0")])
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda *args, **options: used.append(options) or theirs(*args, **options),
    )
    on_gpu = jax.value_and_grad(weighed, argnums=(0, 1, 2))(query, key, value)
    assert [options["implementation"] for options in used] == ["xla"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), on_cpu, on_gpu)


@pytest.mark.parametrize(
    ("capability", "dtype", "length", "width", "implementation"),
    [
        ("9.0", "bfloat16", 512, 64, "cudnn"),
        ("10.0", "bfloat16", 512, 64, "cudnn"),
        ("9.0", "bfloat16", 256, 64, "cudnn"),
        ("9.0", "bfloat16", 254, 64, "xla"),
        ("9.0", "bfloat16", 512, 136, "xla"),
        ("7.5", "bfloat16", 512, 64, "xla"),
        ("9.0", "float32", 512, 64, "xla"),
        ("9.0", "bfloat16", 512, 20, "xla"),
        ("9.0", "bfloat16", 511, 64, "xla"),
        ("gfx942", "bfloat16", 512, 64, "xla"),
        (None, "bfloat16", 512, 64, "xla"),
    ],
)
def test_flash_attention_where_it_is_faster(
    monkeypatch, capability, dtype, length, width, implementation
):
    used = []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [FakeDevice(capability)])
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda q, k, v, **options: used.append(options) or v
    )
    x = jnp.zeros((1, 2, length, width), dtype)
    attend_within_segments(x, x, x, np.ones((1, length), int), None)
    assert [options["implementation"] for options in used] == [implementation]


def test_attention_dropout_reaches_the_output():
    encoder, params, inputs, places = small_encoder(dropout=0.0, attention_dropout=0.5)

    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return encoder.apply({"params": params}, *inputs, deterministic=False, rngs=rngs)

    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1) - run(2))[places[0]].max() > 0.01
    assert np.abs(run(1) - encoder.apply({"params": params}, *inputs))[places[0]].max() > 0.01
