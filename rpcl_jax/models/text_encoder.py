"""The text encoder: BERT and RoBERTa as Flax modules, over packed rows of word pieces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from rpcl_jax.models.dropout import dropout

ACTIVATIONS: dict[str, Callable] = {
    "gelu": partial(nn.gelu, approximate=False),  # with erf
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


class EncoderLayer(nn.Module):
    """A post-norm transformer layer: attention inside segments, then a feed-forward network."""

    config: TextEncoderConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, same_segment, *, deterministic: bool):
        """[rows, length, hidden], bool [rows, 1, length, length] -> [rows, length, hidden]."""
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
        heads = heads.reshape(*x.shape[:2], 3, c.num_heads, head_width)
        query, key, value = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
        logits = jnp.einsum(
            "rihd,rjhd->rhij", query * head_width**-0.5, key, preferred_element_type=jnp.float32
        )
        # A padding piece attends to padding, so no row of the softmax is empty.
        weights = nn.softmax(jnp.where(same_segment, logits, -1e9))
        weights = drop(weights, c.attention_dropout).astype(self.dtype)
        y = jnp.einsum("rhij,rjhd->rihd", weights, value).reshape(x.shape)
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

        def table(size, name):
            return nn.Embed(size, c.hidden_size, embedding_init=_init, name=name)

        x = table(c.vocab_size, "word_embeddings")(token_ids)
        positions = table(c.max_positions + c.position_offset, "position_embeddings")
        x += positions(position_ids + c.position_offset)
        x += table(c.type_vocab_size, "token_type_embeddings").embedding[0]
        x = nn.LayerNorm(epsilon=c.layer_norm_eps, dtype=jnp.float32, name="embeddings_norm")(x)
        if not deterministic and c.dropout:
            x = dropout(x, c.dropout, self.make_rng("dropout"))
        x = x.astype(self.dtype)
        same_segment = (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]
        for layer in range(c.num_layers):
            x = EncoderLayer(c, self.dtype, name=f"layer_{layer}")(
                x, same_segment, deterministic=deterministic
            )
        return x
