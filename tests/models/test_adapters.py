"""Low-rank adapters against a dense layer with the product added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rpcl_jax.models.adapters import combine, merge_adapters, separate_adapters
from rpcl_jax.models.text_encoder import Dense, TextEncoder, TextEncoderConfig
from rpcl_jax.training.mesh import AXIS, make_mesh


def drawn(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_dense_layer_with_the_product_added(parts):
    rank, size = 2, 12
    layer = Dense(size, jnp.float32, rank, parts)
    x, outer = drawn((5, 8), 0), drawn((5, size), 1)
    params = layer.init(jax.random.key(0), x)["params"]
    assert not params["lora_b"].any()  # so that training begins at the pretrained model
    plain = x @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, x), plain, atol=1e-6)

    a, b = drawn((8, parts, rank), 2), drawn((parts, rank, size // parts), 3)
    params = params | {"lora_a": a, "lora_b": b}
    added = np.concatenate(  # each part has an A and a B of its own
        [a[:, p] @ b[p] for p in range(parts)], axis=1
    )
    dense = {"kernel": params["kernel"] + added, "bias": params["bias"]}

    def outputs(params, x, rank):
        out = Dense(size, jnp.float32, rank, parts).apply({"params": params}, x)
        return (out * outer).sum(), out

    (gradient, d_x), got = jax.grad(outputs, (0, 1), has_aux=True)(params, x, rank)
    (of_dense, want_x), want = jax.grad(outputs, (0, 1), has_aux=True)(dense, x, 0)
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(d_x, want_x, atol=1e-4)
    np.testing.assert_allclose(gradient["bias"], of_dense["bias"], atol=1e-5)
    assert not gradient["kernel"].any()
    # The chain rule from the gradient of the dense layer's kernel.
    d_kernel = np.split(np.asarray(of_dense["kernel"]), parts, axis=1)
    want_a = np.stack([d @ part.T for d, part in zip(d_kernel, b, strict=True)], axis=1)
    want_b = np.stack([a[:, p].T @ d for p, d in enumerate(d_kernel)])
    np.testing.assert_allclose(gradient["lora_a"], want_a, atol=1e-4)
    np.testing.assert_allclose(gradient["lora_b"], want_b, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("rows", [5, 6])  # an odd number has no explicit derivative
def test_a_layer_in_bfloat16_has_the_gradients_of_float32(rank, rows):
    x, outer = drawn((rows, 32), 0), drawn((rows, 48), 1)
    layer = Dense(48, jnp.float32, rank, 3)
    params = layer.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: 0.3 * drawn(leaf.shape, leaf.size), params)

    def gradients(dtype):
        def total(params, x):
            out = Dense(48, dtype, rank, 3).apply({"params": params}, x)
            return (out.astype(jnp.float32) * outer).sum()

        return jax.jit(jax.grad(total, (0, 1)))(params, x)

    def near(got, want):
        assert got.dtype == jnp.float32
        assert np.linalg.norm(got - want) <= 0.01 * np.linalg.norm(want)  # 8 bits

    jax.tree.map(near, gradients(jnp.bfloat16), gradients(jnp.float32))


@pytest.mark.parametrize("relative", ["", "disentangled"])
def test_a_merged_encoder_computes_the_same(relative):
    config = TextEncoderConfig(
        *(20, 16, 2, 2, 24, 8), relative=relative, relative_buckets=4, relative_furthest=8,
        lora_rank=3,
    )  # fmt: skip
    ids = np.arange(8)[None] % 5
    inputs = (ids, np.ones_like(ids), np.arange(8)[None])
    params = TextEncoder(config).init(jax.random.key(0), *inputs)["params"]
    adapters, others = separate_adapters(params)
    for number, layer in enumerate(adapters.values()):
        assert layer.keys() == {"query_key_value", "attention_output", "intermediate", "output"}
        for module in layer.values():
            module["lora_b"] = drawn(module["lora_b"].shape, number)
    params = combine(adapters, others)
    merged = merge_adapters(params)
    assert jax.tree.structure(merged) == jax.tree.structure(others)
    got = TextEncoder(config).apply({"params": params}, *inputs)
    plain = TextEncoder(TextEncoderConfig(**{**vars(config), "lora_rank": 0}))
    np.testing.assert_allclose(got, plain.apply({"params": merged}, *inputs), atol=2e-5)
    without = plain.apply({"params": others}, *inputs)
    assert np.abs(got - without).max() > 0.1  # the adapters do something


@pytest.mark.parametrize(
    ("relative", "rank", "dtype"),
    [
        ("", 2, "float32"),
        ("bias", 2, "float32"),
        ("bias", 0, "bfloat16"),
        ("disentangled", 2, "float32"),
    ],
)
def test_gradients_are_summed_over_devices(relative, rank, dtype):
    """Of adapters, and of what attention knows of distances, which no batch is part of."""
    config = TextEncoderConfig(
        *(20, 8, 1, 2, 12, 8), relative=relative, relative_buckets=4, relative_furthest=8,
        lora_rank=rank,
    )  # fmt: skip
    module, rng = TextEncoder(config, jnp.dtype(dtype)), np.random.default_rng(0)
    ids = rng.integers(0, 20, (4, 8)).astype(np.int32)
    inputs = (ids, np.ones_like(ids), np.tile(np.arange(8), (4, 1)))
    outer = drawn((4, 8, 8), 1)
    params = module.init(jax.random.key(0), *inputs)["params"]
    params = jax.tree.map(lambda leaf: 0.3 * drawn(leaf.shape, leaf.size), params)

    def gradient(devices):
        mesh = make_mesh(devices)

        def loss(params, outer, *inputs):
            out = module.apply({"params": params}, *inputs)
            return jax.lax.psum((out * outer).sum(), AXIS)

        specs = (P(), *[P(AXIS)] * 4)
        sharded = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=specs, out_specs=P())
        return jax.jit(sharded)(params, outer, *inputs)

    one, two = gradient(1), gradient(2)
    atol = {"float32": 1e-4, "bfloat16": 0.2}[dtype]  # half of most of them is more than 0.2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, two)
    assert all(leaf.any() for leaf in jax.tree.leaves(separate_adapters(one)[0]))
    if relative:
        of_distances = [v for k, v in one.items() if k.startswith("relative")]
        assert all(leaf.any() for leaf in jax.tree.leaves(of_distances))
