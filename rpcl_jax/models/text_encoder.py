"""The text encoder: BERT and RoBERTa as Flax modules that read packed rows of word pieces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.models.dropout import dropout


@jax.custom_vjp
def erf_gelu(x):
    """Computes GELU, x · Φ(x), with erf as BERT does; JAX's own version with erfc is slower.

    The derivative is explicit because JAX 0.12 cannot differentiate erf inside `shard_map`, and so
    that only x is kept for the backward pass.
    """
    return x * _normal_cdf(x)


def _normal_cdf(x):
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _erf_gelu_backward(x, gradient):
    """Uses d/dx (x Φ(x)) = Φ(x) + x φ(x), where φ is the standard normal density."""
    x = jax.lax.optimization_barrier(x)  # or XLA keeps Φ(x) of the forward pass as well
    density = jnp.exp(-0.5 * x * x) * (2 * jnp.pi) ** -0.5
    return (((_normal_cdf(x) + x * density) * gradient).astype(x.dtype),)


erf_gelu.defvjp(lambda x: (erf_gelu(x), x), _erf_gelu_backward)


ACTIVATIONS: dict[str, Callable] = {
    "gelu": erf_gelu,
    "gelu_new": partial(nn.gelu, approximate=True),  # the tanh approximation
    "relu": nn.relu,
}
_init = nn.initializers.normal(0.02)  # as in BERT
_LONG_ROW = 256  # word pieces; a guess, between 64 and 512


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes and options of an encoder; `dataclasses.asdict` of it is JSON-serialisable.

    `max_positions` is the longest segment, in word pieces. `position_offset` is the row of position
    0 in the position table: 2 for RoBERTa, 0 for BERT.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    position_offset: int = 0
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1


def attend_within_segments(query, key, value, segment_ids, keep):
    """Computes attention by what is fastest on these devices; arguments of `segment_attention`.

    On a CPU, and with dropout of the weights, which `jax.nn.dot_product_attention` lacks, that is
    our own `segment_attention`.
    """
    if keep is not None or jax.default_backend() == "cpu":
        return segment_attention(query, key, value, segment_ids, keep)
    fused = _prefers_cudnn(key)
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    out = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=_same_segment(segment_ids),
        scale=1.0,
        implementation="cudnn" if fused else "xla",
    )
    return out.swapaxes(1, 2)


def _prefers_cudnn(key: jax.Array) -> bool:
    """Returns whether to use cuDNN's fused attention: whether it takes these shapes, in long rows.

    On an H100 it was slower than XLA in rows of 48 and 64, and 2.4 times as fast as
    `segment_attention` in rows of 512; see docs/performance.md.
    """
    # NVIDIA's GPUs have one such as "9.0", AMD's such as "gfx942", others none.
    major, _, _ = str(getattr(jax.local_devices()[0], "compute_capability", "")).partition(".")
    if not major.isdigit() or int(major) < 8 or key.dtype != jnp.bfloat16:
        return False
    length, width = key.shape[-2:]
    return length >= _LONG_ROW and length % 2 == 0 and width % 8 == 0 and width <= 128


def _same_segment(segment_ids):
    return segment_ids[:, None, :, None] == segment_ids[:, None, None, :]


@jax.custom_vjp
def segment_attention(query, key, value, segment_ids, keep):
    """Computes softmax attention of every word piece to the pieces of its segment.

    The derivative is explicit: JAX's own multiplies by transposes of arrays with two length axes,
    which makes attention in rows of 512 15 to 30 % slower on a CPU.

    Args:
      query, key, value: [rows, heads, length, d]; the query is already divided by sqrt(d).
      segment_ids: int [rows, length]. Padding, 0, is treated as a segment, so that no row of the
        softmax is empty.
      keep: [rows, heads, length, length], factors of the weights (dropout), or None.

    Returns:
      [rows, heads, length, d].
    """
    return _attend(query, key, value, segment_ids, keep)[0]


def _attend(query, key, value, segment_ids, keep):
    logits = jnp.where(_same_segment(segment_ids), _product("rhid,rhjd->rhij", query, key), -1e9)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(value.dtype)
    kept = weights if keep is None else weights * keep
    out = (_product("rhij,rhjd->rhid", kept, value) / total).astype(value.dtype)
    return out, (query, key, value, keep, weights, total, out)


def _attend_backward(saved, gradient):
    query, key, value, keep, weights, total, out = saved
    # The forward pass divides the output, not the weights, by their total; so does the gradient.
    gradient = gradient / total
    shift = (gradient * out).sum(-1, keepdims=True)
    gradient = gradient.astype(value.dtype)
    upstream = _product("rhid,rhjd->rhij", gradient, value)
    kept = weights
    if keep is not None:
        kept, upstream = weights * keep, upstream * keep
    d_logits = (weights * (upstream - shift)).astype(value.dtype)
    d_query = jnp.einsum("rhij,rhjd->rhid", d_logits, key)
    # The barriers stop XLA from rewriting these as products with transposes of the large factor.
    gradient, query = jax.lax.optimization_barrier(
        (gradient.swapaxes(-1, -2), query.swapaxes(-1, -2))
    )
    d_value = jnp.einsum("rhdi,rhij->rhdj", gradient, kept)
    d_key = jnp.einsum("rhdi,rhij->rhdj", query, d_logits)
    d_value, d_key = jax.lax.optimization_barrier((d_value, d_key))
    return d_query, d_key.swapaxes(-1, -2), d_value.swapaxes(-1, -2), None, None


def _product(subscripts, x, y):
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


segment_attention.defvjp(_attend, _attend_backward)


class EncoderLayer(nn.Module):
    """A post-norm transformer layer: attention within segments, then a feed-forward network."""

    config: TextEncoderConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, segment_ids, *, deterministic: bool):
        """Maps x [rows * length, hidden] to the same shape; segment ids are int [rows, length]."""
        c = self.config

        def dense(size, name):
            return nn.Dense(size, dtype=self.dtype, kernel_init=_init, name=name)

        def add_and_norm(x, y, name):
            norm = nn.LayerNorm(epsilon=c.layer_norm_eps, dtype=jnp.float32, name=name)
            return norm(x + drop(y, c.dropout)).astype(self.dtype)

        def drop(x, rate):
            return x if deterministic or not rate else dropout(x, rate, self.make_rng("dropout"))

        head_width = c.hidden_size // c.num_heads
        heads = dense(3 * c.hidden_size, "query_key_value")(x)
        heads = heads.reshape(*segment_ids.shape, 3, c.num_heads, head_width)
        query, key, value = heads.transpose(2, 0, 3, 1, 4)
        keep = None
        if not deterministic and c.attention_dropout:
            length = segment_ids.shape[1]
            keep = drop(jnp.ones((*key.shape[:2], length, length), self.dtype), c.attention_dropout)
        y = attend_within_segments(query * head_width**-0.5, key, value, segment_ids, keep)
        y = y.transpose(0, 2, 1, 3).reshape(x.shape)
        x = add_and_norm(x, dense(c.hidden_size, "attention_output")(y), "attention_norm")

        y = ACTIVATIONS[c.hidden_act](dense(c.intermediate_size, "intermediate")(x))
        return add_and_norm(x, dense(c.hidden_size, "output")(y), "output_norm")


class TextEncoder(nn.Module):
    """BERT or RoBERTa without its pooler.

    Parameters are float32. Matrix products use `dtype`; layer norms and softmax use float32.
    """

    config: TextEncoderConfig
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, token_ids, segment_ids, position_ids, *, deterministic: bool = True):
        """Returns the vectors of word pieces; each attends only to the pieces of its segment.

        Args:
          token_ids: int [rows, length].
          segment_ids: int [rows, length], from 1; 0 for padding.
          position_ids: int [rows, length], from 0 in each segment, below `max_positions`.
          deterministic: True disables dropout.

        Returns:
          `dtype` [rows, length, hidden]; values in the padding are finite but meaningless.
        """
        c = self.config
        shape = token_ids.shape

        def table(size, name):
            return nn.Embed(size, c.hidden_size, embedding_init=_init, name=name)

        # Keep two axes: on a CPU, XLA multiplies [rows, length, hidden] at half the speed.
        x = table(c.vocab_size, "word_embeddings")(token_ids.reshape(-1))
        positions = table(c.max_positions + c.position_offset, "position_embeddings")
        x += positions(position_ids.reshape(-1) + c.position_offset)
        x += table(c.type_vocab_size, "token_type_embeddings").embedding[0]
        x = nn.LayerNorm(epsilon=c.layer_norm_eps, dtype=jnp.float32, name="embeddings_norm")(x)
        if not deterministic and c.dropout:
            x = dropout(x, c.dropout, self.make_rng("dropout"))
        x = x.astype(self.dtype)
        for layer in range(c.num_layers):
            x = EncoderLayer(c, self.dtype, name=f"layer_{layer}")(
                x, segment_ids, deterministic=deterministic
            )
        return x.reshape(*shape, c.hidden_size)
