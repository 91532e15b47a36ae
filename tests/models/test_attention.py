"""Attention against the book, on a GPU's path too, and what it knows of distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared import import_or_skip

from rpcl_jax.models.attention import (
    attend,
    by_distance,
    deberta_buckets,
    masked_attention,
    mpnet_buckets,
    rotate,
    same_segment,
)

SEGMENT_IDS = np.array([[1, 1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 2, 0, 0]])


def plain_attention(query, key, value, mask, bias, keep):
    """The same by the book, derivative left to JAX."""
    logits = jnp.einsum("rhid,rhjd->rhij", query, key)
    logits = jnp.where(mask, logits if bias is None else logits + bias, -jnp.inf)
    weights = jax.nn.softmax(logits)
    return jnp.einsum("rhij,rhjd->rhid", weights if keep is None else weights * keep, value)


def test_who_attends_to_whom():
    """Padding attends to padding, and a window reaches so many pieces in both directions."""
    within = [[1, 1, 1, 0, 0, 0, 0]] * 3 + [[0, 0, 0, 1, 1, 1, 1]] * 4
    np.testing.assert_array_equal(same_segment(SEGMENT_IDS)[0, 0], np.array(within, bool))
    assert same_segment(SEGMENT_IDS)[1, 0, 5].tolist() == [False] * 5 + [True] * 2
    near = same_segment(SEGMENT_IDS, window=2)[0, 0]
    assert near[3].tolist() == [False] * 3 + [True] * 3 + [False]
    assert near[6].tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize("bias_rows", [0, 1, 2])
@pytest.mark.parametrize("dropped", [False, True])
def test_attention_and_its_derivative(dropped, bias_rows):
    rng = np.random.default_rng(4)
    query, key, value, outer = rng.normal(size=(4, 2, 3, 7, 5))
    bias = rng.normal(size=(bias_rows, 3, 7, 7)) if bias_rows else None
    keep = (rng.random((2, 3, 7, 7)) < 0.7) / 0.7 if dropped else None
    mask = same_segment(SEGMENT_IDS)

    def weighed(attention, query, key, value, bias):
        return (attention(query, key, value, mask, bias, keep) * outer).sum()

    with jax.enable_x64(True):
        got, want = (
            jax.value_and_grad(weighed, argnums=(1, 2, 3, *([4] if bias_rows else [])))(
                f, query * 2, key, value, bias
            )
            for f in (masked_attention, plain_attention)
        )
        # Logits and sums are float32 whatever the input is.
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4), got, want)


def test_values_by_distance():
    x = np.random.default_rng(0).normal(size=(2, 4, 7)).astype(np.float32)
    y = by_distance(x)
    for i in range(4):
        for j in range(4):
            np.testing.assert_array_equal(y[:, i, j], x[:, i, 3 + j - i])


def test_buckets_equal_those_of_transformers():
    torch = import_or_skip("torch")
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distance = torch.arange(-511, 512)
    want = MPNetEncoder.relative_position_bucket(distance, num_buckets=32)
    np.testing.assert_array_equal(mpnet_buckets(512, 32), want)
    want = make_log_bucket_position(distance, 256, 512).long() + 256
    np.testing.assert_array_equal(deberta_buckets(512, 256, 512), want)


def test_rotation_keeps_lengths_and_turns_products_by_distance_only():
    x, y = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)[:, :4]
    turned_x, turned_y = (rotate(jnp.tile(v, (9, 1)), 100.0) for v in (x, y))
    np.testing.assert_allclose((turned_x**2).sum(-1), (x**2).sum(), rtol=1e-5)
    np.testing.assert_array_equal(turned_x[0], x)
    products = turned_x @ turned_y.T
    for distance in range(-8, 9):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    # By hand: two planes, of coordinates 0, 2 and 1, 3, which turn by 1 and 0.1.
    for first, frequency in ((0, 1.0), (1, 0.1)):
        plane = complex(x[first], x[first + 2]) * np.exp(1j * 3 * frequency)
        assert turned_x[3, first] == pytest.approx(plane.real, abs=1e-5)
        assert turned_x[3, first + 2] == pytest.approx(plane.imag, abs=1e-5)


class FakeDevice:
    def __init__(self, compute_capability):
        self.compute_capability = compute_capability


@pytest.mark.parametrize("biased", [False, True])
def test_attention_of_a_gpu_is_that_of_a_cpu(monkeypatch, biased):
    """What runs on a GPU in float32 is computed by XLA, so it runs here too."""
    rng = np.random.default_rng(5)
    query, key, value, outer = rng.normal(size=(4, 2, 3, 7, 5)).astype(np.float32)
    bias = rng.normal(size=(1, 3, 7, 7)).astype(np.float32) if biased else None
    mask = same_segment(SEGMENT_IDS)

    def weighed(*args):
        return (attend(*args, mask, bias) * outer).sum()

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
    attend(x, x, x, same_segment(np.ones((1, length), int)))
    assert [options["implementation"] for options in used] == [implementation]
