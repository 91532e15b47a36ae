"""Dropout that draws few random bits, and dropout of whole modalities."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.data.features import Features


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each element of `x` with probability `rate` and scales the rest to keep the mean.

    Each 32-bit random word serves two elements, because drawing random words dominates the cost of
    dropout on a CPU. The rate is therefore rounded to a multiple of 1/65536 below 1; the scale is
    computed from the rounded rate.
    """
    threshold = min(round(rate * 65536), 65535)
    words = random_words(key, -(-x.size // 2))
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    scale = jnp.float32(65536 / (65536 - threshold))  # bfloat16 would be off by up to 0.4 %
    return jnp.where(bits >= threshold, x * scale, 0).astype(x.dtype)


def drop(module: nn.Module, x: jax.Array, deterministic: bool) -> jax.Array:
    """Returns x after the dropout of a module with a field `dropout`, its rate."""
    if deterministic or not module.dropout:
        return x
    return dropout(x, module.dropout, module.make_rng("dropout"))


def random_words(key: jax.Array, size: int) -> jax.Array:
    """Returns `jax.random.bits(key, (size,))`, several times faster on a CPU.

    For a CPU, JAX compiles Threefry (Salmon et al. 2011) as a loop whose every round reads and
    writes arrays; written out, it becomes one pass over the result.
    """
    if jax.random.key_impl(key) != "threefry2x32":  # JAX's default, which users can change
        return jax.random.bits(key, (size,), jnp.uint32)
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ jnp.uint32(0x1BD11BDA))
    rotations = ((13, 15, 26, 6), (17, 29, 16, 24))
    a, b = jnp.full(size, keys[0]), jnp.arange(size, dtype=jnp.uint32) + keys[1]
    for group in range(5):
        for bits in rotations[group % 2]:
            a += b
            b = a ^ (b << bits | b >> (32 - bits))
        a += keys[(group + 1) % 3]
        b += keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return a ^ b


def drop_modality(
    key: jax.Array, features: Features, rate: float, axis_name: str | None = None
) -> Features:
    """Marks the features of whole dialogues as absent, each dialogue with probability `rate`.

    With `axis_name`, dialogues are split over that mesh axis in equal parts, and every device must
    pass the same key: what is drawn for a dialogue depends on its place in the global batch, not on
    how that is split.
    """
    places = jnp.arange(len(features.present))
    if axis_name is not None:
        places += jax.lax.axis_index(axis_name) * len(places)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    return features._replace(present=features.present & kept[:, None])
