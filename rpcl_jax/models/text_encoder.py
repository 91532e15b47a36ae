"""The text encoder: a Flax module that reads packed rows of word pieces, for several families.

Families differ in how a layer is built, in what the tables hold and in how attention knows
distances; `rpcl_jax.models.families` has what `TextEncoderConfig` is for each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.models.attention import (
    attend,
    by_distance,
    deberta_buckets,
    disentangled_bias,
    mpnet_buckets,
    of_batch,
    rotate,
    same_segment,
)
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
ENCODER = "text_encoder"  # the name of its parameters in a model
_init = nn.initializers.normal(0.02)  # as in BERT


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes and options of an encoder; `dataclasses.asdict` of it is JSON-serialisable.

    The defaults of the options are BERT's, and dropout is where BERT has it in all families.

    Attributes:
      max_positions: the longest segment, in word pieces.
      position_offset: the row of position 0 in the position table: 2 for RoBERTa, 0 for BERT.
      position_table: whether there is one.
      type_vocab_size: rows of the table of token types, of which the first is used; 0: no table.
      embedding_size: width of the tables, if they are projected to `hidden_size` (ELECTRA); else 0.
      relative: how attention knows distances: "" not at all, "bias" added to the logits (MPNet),
        "disentangled" (DeBERTa) or "rotary" (ModernBERT).
      relative_buckets: rows of MPNet's table, half the rows of DeBERTa's.
      relative_furthest: distances beyond it share DeBERTa's last bucket.
      pre_norm: whether layers are ModernBERT's: layer norms before the products, a gated
        feed-forward network, no biases.
      rotary_base, local_rotary_base: see `rpcl_jax.models.attention.rotate`.
      local_window: pieces that a local layer's attention reaches in both directions.
      global_every: every how many layers one attends to the whole segment, from the first on.
      lora_rank: of the adapters; 0 for none.
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
    position_table: bool = True
    embedding_size: int = 0
    relative: str = ""
    relative_buckets: int = 0
    relative_furthest: int = 0
    pre_norm: bool = False
    rotary_base: float = 0.0
    local_rotary_base: float = 0.0
    local_window: int = 0
    global_every: int = 1
    lora_rank: int = 0


class Dense(nn.Module):
    """A dense layer, with adapters of a rank: y = x (W + A B) + b (Hu et al. 2022, LoRA).

    Where the layer is several products side by side, as of queries, keys and values, each has an
    A and a B of its own. B starts at 0. With adapters, W has no gradient.
    """

    size: int
    dtype: jax.typing.DTypeLike
    rank: int = 0
    parts: int = 1  # products side by side
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        """Maps [n, d] to [n, size]."""
        kernel = self.param("kernel", _init, (x.shape[-1], self.size))
        bias = 0
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.size,)).astype(self.dtype)
        x = x.astype(self.dtype)
        if not self.rank:
            return product(x, kernel) + bias
        a = self.param("lora_a", _lora_init, (x.shape[-1], self.parts, self.rank))
        shape = (self.parts, self.rank, self.size // self.parts)
        b = self.param("lora_b", nn.initializers.zeros, shape)
        return adapted_product(x, kernel, of_batch(a, x), of_batch(b, x)) + bias


def product(x, kernel):
    """Returns x W, [n, size], in the dtype of x, from x [n, d] and a float32 W [d, size]."""
    fast = x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu" and len(x) % 2 == 0
    return _bfloat16_product(x, of_batch(kernel, x)) if fast else x @ kernel.astype(x.dtype)


@jax.custom_vjp
def _bfloat16_product(x, kernel):
    """Computes `product`, with a derivative that XLA can compute in bfloat16 on a CPU.

    It computes JAX's own in float32, several times slower where a CPU has products in bfloat16.
    """
    return x @ kernel.astype(x.dtype)


def _bfloat16_product_backward(saved, gradient):
    x, kernel = saved
    d_x = jnp.einsum("nm,dm->nd", gradient, kernel.astype(x.dtype))
    # To sum over two axes, XLA transposes x first, and the product of that is a fast one.
    x, gradient = x.reshape(2, -1, x.shape[-1]), gradient.reshape(2, -1, gradient.shape[-1])
    return d_x, jnp.einsum("bnd,bnm->dm", x, gradient, preferred_element_type=kernel.dtype)


_bfloat16_product.defvjp(lambda *args: (_bfloat16_product(*args), args), _bfloat16_product_backward)


_lora_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2))


@jax.custom_vjp
def adapted_product(x, kernel, a, b):
    """Returns x (W + A B), [n, size], in the dtype of x.

    The derivative is explicit so that W has none, and so that, forward and backward, there is one
    large product and not one beside a thin one.

    Args:
      x: [n, d].
      kernel: W, [d, size].
      a: A of `parts` products side by side, [d, parts, rank].
      b: B of them, [parts, rank, size / parts].
    """
    return x @ merged_kernel(kernel, a, b).astype(x.dtype)


def merged_kernel(kernel, a, b):
    """Returns W + A B, [d, size]; arguments of `adapted_product`."""
    return kernel + jnp.einsum("dpr,pro->dpo", a, b).reshape(kernel.shape)


def _adapted_product_backward(saved, gradient):
    x, kernel, a, b = saved
    d_x = jnp.einsum("no,do->nd", gradient, merged_kernel(kernel, a, b).astype(x.dtype))
    of_parts = gradient.reshape(len(x), len(b), -1)
    d_low = jnp.einsum("npo,pro->npr", of_parts, b.astype(x.dtype))
    low = jnp.einsum("nd,dpr->npr", x, a.astype(x.dtype))
    # In float32: these are thin, and a CPU lacks them in bfloat16 with a float32 result.
    d_a = jnp.einsum("nd,npr->dpr", x.astype(a.dtype), d_low.astype(a.dtype))
    d_b = jnp.einsum("npr,npo->pro", low.astype(b.dtype), of_parts.astype(b.dtype))
    return d_x, None, d_a, d_b


adapted_product.defvjp(lambda *args: (adapted_product(*args), args), _adapted_product_backward)


class EncoderLayer(nn.Module):
    """A transformer layer: attention within segments, then a feed-forward network.

    Layer norms follow the residual sums, as in BERT, or with `config.pre_norm` precede the
    products, as in ModernBERT, which has none before its first.
    """

    config: TextEncoderConfig
    dtype: jax.typing.DTypeLike
    number: int  # of the layer, from 0

    @nn.compact
    def __call__(self, x, mask, relative, *, deterministic: bool):
        """Maps x [rows * length, hidden] to the same shape.

        Args:
          mask: bool [rows, 1, length, length], from `same_segment`.
          relative: [1, heads, length, length], the bias of "bias"; [2 length - 1, hidden], the
            vectors of distances of "disentangled"; else None.
        """
        c = self.config

        def dense(size, name, parts=1):
            return Dense(size, self.dtype, c.lora_rank, parts, not c.pre_norm, name=name)

        def drop(x, rate):
            return x if deterministic or not rate else dropout(x, rate, self.make_rng("dropout"))

        def norm(x, name):
            return _layer_norm(c, name)(x).astype(self.dtype)

        def attention(x):
            query_key_value = dense(3 * c.hidden_size, "query_key_value", parts=3)
            heads = (c.num_heads, c.hidden_size // c.num_heads)
            packed = query_key_value(x).reshape(*mask.shape[::3], 3, *heads)
            query, key, value = packed.transpose(2, 0, 3, 1, 4)
            bias = relative
            if c.relative == "rotary":
                base = c.local_rotary_base if self.number % c.global_every else c.rotary_base
                query, key = rotate(query, base), rotate(key, base)
            scale = heads[1] ** -0.5
            if c.relative == "disentangled":
                scale = (3 * heads[1]) ** -0.5  # three terms: content, and the two of the bias
                # The values of distances are not needed; they are few.
                about = query_key_value(drop(relative, c.dropout)).reshape(-1, 3, *heads)
                bias = disentangled_bias(query * scale, key * scale, *about.swapaxes(0, 1)[:2])
            keep = None
            if not deterministic and c.attention_dropout:
                length = mask.shape[-1]
                keep = jnp.ones((*key.shape[:2], length, length), self.dtype)
                keep = drop(keep, c.attention_dropout)
            y = attend(query * scale, key, value, mask, bias, keep)
            y = y.transpose(0, 2, 1, 3).reshape(x.shape)
            return drop(dense(c.hidden_size, "attention_output")(y), c.dropout)

        def feed_forward(x):
            y = dense(c.intermediate_size * (1 + c.pre_norm), "intermediate")(x)
            if c.pre_norm:
                y, gate = jnp.split(y, 2, axis=-1)
                y = ACTIVATIONS[c.hidden_act](y) * gate
            else:
                y = ACTIVATIONS[c.hidden_act](y)
            return drop(dense(c.hidden_size, "output")(y), c.dropout)

        if c.pre_norm:
            x += attention(norm(x, "attention_norm") if self.number else x)
            return x + feed_forward(norm(x, "output_norm"))
        x = norm(x + attention(x), "attention_norm")
        return norm(x + feed_forward(x), "output_norm")


def _layer_norm(c: TextEncoderConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=c.layer_norm_eps, use_bias=not c.pre_norm, dtype=jnp.float32, name=name
    )


class TextEncoder(nn.Module):
    """A pretrained encoder without its pooler.

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

        Returns:
          `dtype` [rows, length, hidden]; values in the padding are finite but meaningless.
        """
        c = self.config
        shape = token_ids.shape

        def table(rows, name, width=c.embedding_size or c.hidden_size):
            return nn.Embed(rows, width, embedding_init=_init, name=name)

        # Keep two axes: on a CPU, XLA multiplies [rows, length, hidden] at half the speed.
        x = table(c.vocab_size, "word_embeddings")(token_ids.reshape(-1))
        if c.position_table:
            positions = table(c.max_positions + c.position_offset, "position_embeddings")
            x += positions(position_ids.reshape(-1) + c.position_offset)
        if c.type_vocab_size:
            x += table(c.type_vocab_size, "token_type_embeddings").embedding[0]
        x = _layer_norm(c, "embeddings_norm")(x)
        if not deterministic and c.dropout:
            x = dropout(x, c.dropout, self.make_rng("dropout"))
        x = x.astype(self.dtype)
        if c.embedding_size:
            x = Dense(c.hidden_size, self.dtype, name="embeddings_projection")(x)

        relative = None
        if c.relative == "bias":
            buckets = table(c.relative_buckets, "relative_bias", c.num_heads)
            bias = buckets(mpnet_buckets(shape[1], c.relative_buckets)).T[:, None]
            relative = by_distance(jnp.repeat(bias, shape[1], axis=1))[None]
        elif c.relative == "disentangled":
            buckets = table(2 * c.relative_buckets, "relative_embeddings", c.hidden_size).embedding
            near = deberta_buckets(shape[1], c.relative_buckets, c.relative_furthest)
            relative = _layer_norm(c, "relative_norm")(buckets)[near].astype(self.dtype)
        mask = same_segment(segment_ids)
        near_mask = same_segment(segment_ids, c.local_window) if c.local_window else mask
        for number in range(c.num_layers):
            x = EncoderLayer(c, self.dtype, number, name=f"layer_{number}")(
                x,
                near_mask if number % c.global_every else mask,
                relative,
                deterministic=deterministic,
            )
        if c.pre_norm:
            x = _layer_norm(c, "final_norm")(x).astype(self.dtype)
        return x.reshape(*shape, c.hidden_size)
