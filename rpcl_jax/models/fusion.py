"""What all backbones share: pooled words, packed rows, projected and fused modalities."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.data.features import MODALITIES, Features

FURTHEST = 10.0  # features are clipped this many standard deviations from their mean


def pool_utterances(hidden: jax.Array, utterance_ids: jax.Array, slots: int) -> jax.Array:
    """Returns the mean vector of each utterance's word pieces.

    Args:
      hidden: [rows, length, d], word-piece vectors.
      utterance_ids: int [rows, length], the utterance slot of each word piece; `slots` for none.
      slots: number of utterance slots, b · n.

    Returns:
      float32 [slots, d]; zeros for a slot without word pieces.
    """
    ids = utterance_ids.reshape(-1)
    hidden = hidden.reshape(-1, hidden.shape[-1]).astype(jnp.float32)
    total = jax.ops.segment_sum(hidden, ids, num_segments=slots + 1)[:slots]
    count = jax.ops.segment_sum(jnp.ones_like(ids), ids, num_segments=slots + 1)[:slots]
    return total / jnp.maximum(count, 1)[:, None]


def encode_utterances(encode: Callable[..., jax.Array], batch) -> jax.Array:
    """Returns the text vectors of a `rpcl_jax.batching.batch.Batch`, float32 [b, n, d].

    `encode` maps token, segment and position ids [rows, length] to vectors [rows, length, d].
    """
    text = batch.text
    words = encode(text.token_ids, text.segment_ids, text.position_ids)
    b, n = batch.utterance_mask.shape
    return pool_utterances(words, text.utterance_ids, b * n).reshape(b, n, -1)


def pack_utterances(x: jax.Array, slots: jax.Array) -> jax.Array:
    """Packs [b, n, ...] into rows [rows, n, ...]; empty places are 0.

    `slots` comes from `rpcl_jax.batching.packing.DialogueRows`. With its `places` as `slots`, this
    function unpacks [rows, n, ...] into [b, n, ...].
    """
    return jnp.take(x.reshape(-1, *x.shape[2:]), slots, axis=0, mode="fill", fill_value=0)


def unpack_pairs(pairs: jax.Array, places: jax.Array) -> jax.Array:
    """Unpacks cells [rows, n, n, ...] into [b, n, n, ...]; cells in the padding are 0."""
    n = pairs.shape[1]
    row, column = jnp.divmod(places, n)  # padding gets a row index past the last row
    row = jnp.maximum(row[:, :, None], row[:, None, :])
    return pairs.at[row, column[:, :, None], column[:, None, :]].get(mode="fill", fill_value=0)


def same(ids: jax.Array) -> jax.Array:
    """Returns whether two utterances have the same id, bool [rows, n, n], from int [rows, n]."""
    return ids[:, :, None] == ids[:, None, :]


def relative_positions(n: int, reach: int) -> jax.Array:
    """Returns int [n, n], the distance i - j clipped to ±reach and shifted to 0 … 2 · reach."""
    place = jnp.arange(n)
    return jnp.clip(place[:, None] - place[None, :], -reach, reach) + reach


class FeatureProjection(nn.Module):
    """Projects a modality's features to the model's width; absent ones become a learned vector.

    `mean` and `scale` standardise the features. They are set before the first step and not trained;
    being parameters, they are part of every checkpoint. The learned vector `absent` starts at 0,
    which adds nothing to the text, and stays 0 if every training utterance has the modality.
    """

    width: int

    @nn.compact
    def __call__(self, features: Features):
        """Maps values [rows, n, d] and bool present [rows, n] to [rows, n, width]."""
        values, present = features
        mean = self.param("mean", nn.initializers.zeros, values.shape[-1:])
        scale = self.param("scale", nn.initializers.ones, values.shape[-1:])
        values = (values - jax.lax.stop_gradient(mean)) / jax.lax.stop_gradient(scale)
        # openSMILE's functionals occasionally are thousands of deviations from their mean. Absent
        # features must contribute neither to the value nor to the gradient.
        values = jnp.clip(jnp.where(present[..., None], values, 0.0), -FURTHEST, FURTHEST)
        y = nn.LayerNorm(name="norm")(nn.Dense(self.width, name="dense")(values))
        absent = self.param("absent", nn.initializers.zeros, (self.width,))
        return jnp.where(present[..., None], y, absent)


def project_modalities(
    modalities: str, width: int, text: jax.Array, features: dict[str, Features | None]
) -> dict[str, jax.Array]:
    """Returns the vectors of "text" and then of "audio" and "vision", each [rows, n, width].

    The compact module that calls this function gets the parameters.

    Args:
      modalities: "t", "ta", "tv" or "tav".
      width: of the vectors.
      text: [rows, n, d], pooled word vectors.
      features: `Features` [rows, n, …] of "audio" and "vision"; None for a modality not read.
    """
    vectors = {"text": nn.LayerNorm(name="text_norm")(nn.Dense(width, name="text")(text))}
    for modality in (MODALITIES[letter] for letter in "av" if letter in modalities):
        vectors[modality] = FeatureProjection(width, name=modality)(features[modality])
    return vectors


def fuse(vectors: dict[str, jax.Array]) -> jax.Array:
    """Adds the vectors of the other modalities to the first, each through its own gate.

    The compact module that calls this function gets the parameters.
    """
    (_, x), *others = vectors.items()
    for modality, y in others:
        gate = nn.Dense(x.shape[-1], name=f"{modality}_gate")(jnp.concatenate([x, y], -1))
        x = x + nn.sigmoid(gate) * y
    return x


def apply_layers(
    module: nn.Module, layer: type[nn.Module], x: jax.Array, *context: Any, deterministic: bool
) -> jax.Array:
    """Passes x through `module.layers` layers of a kind, each of which also reads `context`.

    `module`, the compact module that calls this function, gets the parameters.
    """
    for number in range(module.layers):
        x = layer(module.width, module.heads, module.dropout, name=f"layer_{number}")(
            x, *context, deterministic=deterministic
        )
    return x
