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
