"""Attention of word pieces within their segments, and how it knows the distance of two pieces.

In packed rows, the distance of two pieces of a segment is the difference of their places, so what
depends on distances is the same for every row.
"""

import jax
import jax.numpy as jnp
import numpy as np

_LONG_ROW = 256  # word pieces; a guess, between 64 and 512


def same_segment(segment_ids: jax.Array, window: int = 0) -> jax.Array:
    """Returns which pieces attend to which, bool [rows, 1, length, length].

    Padding, 0, is treated as a segment, so that no row of a softmax is empty.

    Args:
      segment_ids: int [rows, length].
      window: how many pieces away a piece still attends; 0: the whole segment.
    """
    mask = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    if window:
        mask &= abs(distances(segment_ids.shape[1])) <= window
    return mask


def of_batch(parameter: jax.Array, x: jax.Array) -> jax.Array:
    """Returns a parameter as if it depended on x, an array of the batch.

    Or `shard_map` would not sum over the devices the gradient that an explicit derivative returns.
    """
    return jnp.where((x[(0,) * x.ndim] == 0) | True, parameter, 0)


def attend(query, key, value, mask, bias=None, keep=None):
    """Computes attention by what is fastest on these devices; arguments of `masked_attention`.

    On a CPU, and with dropout of the weights, which `jax.nn.dot_product_attention` lacks, that is
    our own `masked_attention`.
    """
    if bias is not None:
        bias = of_batch(bias, query)
    if keep is not None or jax.default_backend() == "cpu":
        return masked_attention(query, key, value, mask, bias, keep)
    fused = bias is None and _prefers_cudnn(key)
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    out = jax.nn.dot_product_attention(
        query,
        key,
        value,
        bias=bias,
        mask=mask,
        scale=1.0,
        implementation="cudnn" if fused else "xla",
    )
    return out.swapaxes(1, 2)


def _prefers_cudnn(key: jax.Array) -> bool:
    """Returns whether cuDNN's fused attention takes these shapes, and the rows are long."""
    # On an H100 it was slower than XLA in rows of 48 and 64, and 2.4 times as fast as
    # `masked_attention` in rows of 512; see docs/performance.md.
    # NVIDIA's GPUs have one such as "9.0", AMD's such as "gfx942", others none.
    major, _, _ = str(getattr(jax.local_devices()[0], "compute_capability", "")).partition(".")
    if not major.isdigit() or int(major) < 8 or key.dtype != jnp.bfloat16:
        return False
    length, width = key.shape[-2:]
    return length >= _LONG_ROW and length % 2 == 0 and width % 8 == 0 and width <= 128


@jax.custom_vjp
def masked_attention(query, key, value, mask, bias=None, keep=None):
    """Computes softmax attention.

    The derivative is explicit: JAX's own multiplies by transposes of arrays with two length axes,
    which makes attention in rows of 512 15 to 30 % slower on a CPU.

    Args:
      query, key, value: [rows, heads, length, d]; the query is already divided by sqrt(d).
      mask: bool [rows, 1, length, length], which pieces attend to which; none to nothing.
      bias: [rows or 1, heads, length, length], added to the logits, or None.
      keep: [rows, heads, length, length], factors of the weights (dropout), or None.

    Returns:
      [rows, heads, length, d].
    """
    return _attend(query, key, value, mask, bias, keep)[0]


def _attend(query, key, value, mask, bias, keep):
    logits = _product("rhid,rhjd->rhij", query, key)
    if bias is not None:
        logits += bias
    logits = jnp.where(mask, logits, -1e9)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(value.dtype)
    kept = weights if keep is None else weights * keep
    out = (_product("rhij,rhjd->rhid", kept, value) / total).astype(value.dtype)
    return out, (query, key, value, bias, keep, weights, total, out)


def _attend_backward(saved, gradient):
    query, key, value, bias, keep, weights, total, out = saved
    # The forward pass divides the output, not the weights, by their total; so does the gradient.
    gradient = gradient / total
    shift = (gradient * out).sum(-1, keepdims=True)
    gradient = gradient.astype(value.dtype)
    upstream = _product("rhid,rhjd->rhij", gradient, value)
    kept = weights
    if keep is not None:
        kept, upstream = weights * keep, upstream * keep
    d_logits = weights * (upstream - shift)
    d_bias = None
    if bias is not None:
        d_bias = d_logits.sum(0, keepdims=True) if len(bias) < len(query) else d_logits
        d_bias = d_bias.astype(bias.dtype)
    d_logits = d_logits.astype(value.dtype)
    d_query = jnp.einsum("rhij,rhjd->rhid", d_logits, key)
    # The barriers stop XLA from rewriting these as products with transposes of the large factor.
    gradient, query = jax.lax.optimization_barrier(
        (gradient.swapaxes(-1, -2), query.swapaxes(-1, -2))
    )
    d_value = jnp.einsum("rhdi,rhij->rhdj", gradient, kept)
    d_key = jnp.einsum("rhdi,rhij->rhdj", query, d_logits)
    d_value, d_key = jax.lax.optimization_barrier((d_value, d_key))
    return d_query, d_key.swapaxes(-1, -2), d_value.swapaxes(-1, -2), None, d_bias, None


def _product(subscripts, x, y):
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


masked_attention.defvjp(_attend, _attend_backward)


def distances(length: int) -> np.ndarray:
    """Returns int [length, length], i - j of two places i and j in a row."""
    return np.arange(length)[:, None] - np.arange(length)


def by_distance(x: jax.Array) -> jax.Array:
    """Returns y [..., n, n] where y[i, j] = x[i, n - 1 + j - i], from x [..., n, 2 n - 1].

    So x has a value for each of the distances j - i from 1 - n to n - 1. Unlike a gather, this is a
    reshape, and so is its derivative (Dai et al. 2019, Transformer-XL, appendix B).
    """
    n = x.shape[-2]
    flat = x.reshape(*x.shape[:-2], -1)[..., n - 1 : n - 1 + n * (2 * n - 2)]
    return flat.reshape(*x.shape[:-1], 2 * n - 2)[..., :n]


def disentangled_bias(query, key, about_query, about_key):
    """Returns DeBERTa's terms of distances, [rows, heads, n, n] (He et al. 2021).

    bias[i, j] = query[i] · about_key[d] + key[j] · about_query[d], where d is the distance i - j.

    Args:
      query, key: [rows, heads, n, width], both scaled.
      about_query, about_key: [2 n - 1, heads, width], queries and keys of the distances from
        1 - n to n - 1.
    """
    of_query = _product("rhid,mhd->rhim", query, about_key[::-1])
    of_key = _product("rhjd,mhd->rhjm", key, about_query)
    return by_distance(of_query) + by_distance(of_key).swapaxes(-1, -2)


def mpnet_buckets(length: int, buckets: int, furthest: int = 128) -> np.ndarray:
    """Returns the bucket of each distance j - i from 1 - length to length - 1, int [2 length - 1].

    Half of the buckets are for j > i. In each half, the first half of the buckets is one distance
    each; the others grow with the distance, up to `furthest` (Raffel et al. 2020, T5).
    """
    distance = np.arange(1 - length, length)
    half, away = buckets // 2, abs(distance)
    exact = half // 2
    with np.errstate(divide="ignore"):
        # In float32, as Transformers does: the bucket of a distance at a border depends on it.
        grown = np.log(away.astype(np.float32) / np.float32(exact)) / np.float32(
            np.log(furthest / exact)
        )
    far = np.minimum(exact + np.trunc(np.maximum(grown * (half - exact), 0)), half - 1)
    return (np.where(away < exact, away, far) + half * (distance > 0)).astype(np.int32)


def deberta_buckets(length: int, buckets: int, furthest: int) -> np.ndarray:
    """Returns the bucket of each distance from 1 - length to length - 1, int [2 length - 1].

    Buckets go from 0 to 2 `buckets` - 1, with distance 0 at `buckets`. Distances up to half of
    `buckets` have one each; the others grow with the distance, up to `furthest` (He et al. 2021).
    """
    distance = np.arange(1 - length, length)
    middle, away = buckets // 2, np.maximum(abs(distance), 1).astype(np.float32)
    grown = np.log(away / np.float32(middle)) / np.log(np.float32((furthest - 1) / middle))
    far = (np.ceil(grown * (middle - 1)) + middle) * np.sign(distance)
    bucket = np.where(abs(distance) <= middle, distance, far)
    return np.clip(bucket + buckets, 0, 2 * buckets - 1).astype(np.int32)


def rotate(x: jax.Array, base: float) -> jax.Array:
    """Rotates queries or keys by their places (rotary positions, Su et al. 2021).

    Args:
      x: [..., length, d]; elements k and k + d / 2 are the coordinates of a plane, which turns by
        base^(-2 k / d) from place to place.
      base: the slowest plane needs nearly 2 π · base places for a turn.
    """
    length, d = x.shape[-2:]
    frequencies = base ** -(np.arange(0, d, 2) / d)
    angles = np.outer(np.arange(length), frequencies)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    first, second = jnp.split(x, 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
