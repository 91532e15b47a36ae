"""The text encoder: BERT and RoBERTa as Flax modules, over packed rows of word pieces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.models.dropout import dropout


def erf_gelu(x):
    """x · Φ(x). Through erf, as BERT has it: JAX's own, through erfc, is slower."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


ACTIVATIONS: dict[str, Callable] = {
    "gelu": erf_gelu,
    "gelu_new": partial(nn.gelu, approximate=True),  # with tanh
    "relu": nn.relu,
}
_init = nn.initializers.normal(0.02)  # BERT's


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes and choices of an encoder; `dataclasses.asdict` of it is JSON.

    `max_positions` is the longest segment. `position_offset` is how many rows of the position
    table come before the row of position 0: 2 for RoBERTa, 0 for BERT.
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


@jax.custom_vjp
def segment_attention(query, key, value, segment_ids, keep):
    """Softmax attention of every piece to the pieces of its segment.

    Written with its own derivative, because the one JAX finds keeps every weight of every layer
    and multiplies by transposes of them, which costs a CPU twice the time of this.

    Args:
      query, key, value: [rows, heads, length, d]; the query is already divided by sqrt(d).
      segment_ids: int [rows, length]; 0, padding, is a segment like any other, so that no row of
        the softmax is empty.
      keep: [rows, heads, length, length], what to multiply the weights by (dropout), or None.

    Returns:
      [rows, heads, length, d].
    """
    return _attend(query, key, value, segment_ids, keep)[0]


def _attend(query, key, value, segment_ids, keep):
    logits = _segment_logits("rhid,rhjd->rhij", query, key, segment_ids)
    peak = logits.max(-1)
    weights = jnp.exp(logits - peak[..., None])
    total = weights.sum(-1)
    if keep is not None:
        weights *= keep
    out = _product("rhij,rhjd->rhid", weights.astype(value.dtype), value) / total[..., None]
    out = out.astype(value.dtype)
    return out, (query, key, value, segment_ids, keep, out, peak, total)


def _attend_backward(saved, gradient):
    query, key, value, segment_ids, keep, out, peak, total = saved
    # Everything with two length axes is [..., j, i], its transpose never needed. The weights are
    # those of `_attend` before the division by their total, which the gradient takes over.
    gradient = gradient / total[..., None]
    shift = (gradient * out).sum(-1)
    gradient = gradient.astype(value.dtype)
    logits = _segment_logits("rhjd,rhid->rhji", key, query, segment_ids)
    weights = jnp.exp(logits - peak[..., None, :])
    upstream = _product("rhjd,rhid->rhji", value, gradient)
    kept = weights
    if keep is not None:
        keep = keep.swapaxes(-1, -2)
        kept, upstream = weights * keep, upstream * keep
    d_value = jnp.einsum("rhji,rhid->rhjd", kept.astype(value.dtype), gradient)
    d_logits = (weights * (upstream - shift[..., None, :])).astype(value.dtype)
    d_key = jnp.einsum("rhji,rhid->rhjd", d_logits, query)
    # The barriers keep XLA from turning this into a product with the transpose of `d_logits`.
    key = jax.lax.optimization_barrier(key.swapaxes(-1, -2))
    d_query = jax.lax.optimization_barrier(jnp.einsum("rhdj,rhji->rhdi", key, d_logits))
    return d_query.swapaxes(-1, -2), d_key, d_value, None, None


def _product(subscripts, x, y):
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _segment_logits(subscripts, x, y, segment_ids):
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    return jnp.where(same, _product(subscripts, x, y), -1e9)


segment_attention.defvjp(_attend, _attend_backward)


class EncoderLayer(nn.Module):
    """A post-norm transformer layer: attention inside segments, then a feed-forward network."""

    config: TextEncoderConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, segment_ids, *, deterministic: bool):
        """[rows * length, hidden], int [rows, length] -> [rows * length, hidden]."""
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
        y = segment_attention(query * head_width**-0.5, key, value, segment_ids, keep)
        y = y.transpose(0, 2, 1, 3).reshape(x.shape)
        x = add_and_norm(x, dense(c.hidden_size, "attention_output")(y), "attention_norm")

        y = ACTIVATIONS[c.hidden_act](dense(c.intermediate_size, "intermediate")(x))
        return add_and_norm(x, dense(c.hidden_size, "output")(y), "output_norm")


class TextEncoder(nn.Module):
    """BERT or RoBERTa without its pooler.

    Parameters are float32; `dtype` is that of the matrix products. Layer norms and softmax are
    computed in float32.
    """

    config: TextEncoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, token_ids, segment_ids, position_ids, *, deterministic: bool = True):
        """Vectors of word pieces, each read among the pieces of its own segment only.

        Args:
          token_ids: int [rows, length].
          segment_ids: int [rows, length], 1 and up; 0 for padding.
          position_ids: int [rows, length], from 0 in each segment, below `max_positions`.
          deterministic: no dropout.

        Returns:
          `dtype` [rows, length, hidden]; meaningless, but finite, at padding.
        """
        c = self.config
        shape = token_ids.shape

        def table(size, name):
            return nn.Embed(size, c.hidden_size, embedding_init=_init, name=name)

        # Two axes throughout: XLA multiplies [rows, length, hidden] at half the speed on a CPU.
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
