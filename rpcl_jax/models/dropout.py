"""Dropout that draws few random bits."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each element of `x` with probability `rate` and scales the rest to keep the mean.

    Two decisions are made with each 32-bit random word, 16 bits each: drawing the words is what
    dropout costs on a CPU. The rate is rounded to a multiple of 1/65536, and the scale goes with
    the rounded rate.
    """
    threshold = round(rate * 65536)
    words = jax.random.bits(key, (-(-x.size // 2),), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    scale = jnp.float32(65536 / (65536 - threshold))  # in bfloat16 it would be off by up to 0.4 %
    return jnp.where(bits >= threshold, x * scale, 0).astype(x.dtype)
