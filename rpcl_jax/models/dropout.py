"""Dropout that draws few random bits."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each element of `x` with probability `rate` and scales the rest to keep the mean.

    Each 32-bit random word serves two elements, because drawing random words dominates the cost of
    dropout on a CPU. The rate is therefore rounded to a multiple of 1/65536; the scale is computed
    from the rounded rate.
    """
    threshold = round(rate * 65536)
    words = jax.random.bits(key, (-(-x.size // 2),), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    scale = jnp.float32(65536 / (65536 - threshold))  # bfloat16 would be off by up to 0.4 %
    return jnp.where(bits >= threshold, x * scale, 0).astype(x.dtype)
