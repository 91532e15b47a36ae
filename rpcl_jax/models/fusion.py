"""The fusion backbone: from word vectors and features of a dialogue to one h_t per utterance."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.data.features import MODALITIES, Features
from rpcl_jax.models.dropout import drop

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


def relative_positions(n: int, reach: int) -> jax.Array:
    """Returns int [n, n], the distance i - j clipped to ±reach and shifted to 0 … 2 · reach."""
    place = jnp.arange(n)
    return jnp.clip(place[:, None] - place[None, :], -reach, reach) + reach


class DialogueLayer(nn.Module):
    """A pre-norm transformer layer over the utterances of a dialogue.

    A row may hold several dialogues; an utterance attends only to utterances with the same dialogue
    id. Each head has learned biases for the distance of two utterances and for whether both have
    the same speaker.
    """

    width: int
    heads: int
    dropout: float
    reach: int = 10

    @nn.compact
    def __call__(self, x, dialogue_ids, speakers, *, deterministic: bool):
        """Maps x [rows, n, width] to the same shape; ids and speakers are int [rows, n]."""
        n, head_width = x.shape[1], self.width // self.heads
        distance = self.param("distance", nn.initializers.zeros, (2 * self.reach + 1, self.heads))
        same_speaker = self.param("same_speaker", nn.initializers.zeros, (2, self.heads))
        same = (speakers[:, :, None] == speakers[:, None, :]).astype(jnp.int32)
        # [rows, n, n, heads]
        bias = distance[relative_positions(n, self.reach)] + same_speaker[same]

        y = nn.LayerNorm(name="attention_norm")(x)
        query, key, value = jnp.split(nn.Dense(3 * self.width, name="query_key_value")(y), 3, -1)
        query, key, value = (
            part.reshape(*part.shape[:2], self.heads, head_width) for part in (query, key, value)
        )
        logits = jnp.einsum("bihd,bjhd->bijh", query, key) / jnp.sqrt(head_width) + bias
        together = dialogue_ids[:, :, None] == dialogue_ids[:, None, :]
        logits = jnp.where(together[..., None], logits, -1e9)
        attention = nn.softmax(logits, axis=2)
        y = jnp.einsum("bijh,bjhd->bihd", attention, value).reshape(x.shape)
        y = nn.Dense(self.width, name="attention_out")(y)
        x = x + drop(self, y, deterministic)

        y = nn.LayerNorm(name="feed_forward_norm")(x)
        y = nn.gelu(nn.Dense(2 * self.width, name="feed_forward_in")(y))
        y = nn.Dense(self.width, name="feed_forward_out")(drop(self, y, deterministic))
        return x + drop(self, y, deterministic)


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

    The compact module that calls this function gets the parameters. The arguments are those of
    `FusionBackbone`.
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


class FusionBackbone(nn.Module):
    """Fuses text, audio and vision of each utterance by gates, then applies dialogue layers.

    Only the modalities in `modalities` ("t", "ta", "tv" or "tav") have parameters.
    """

    modalities: str
    width: int
    heads: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(self, text, features, dialogue_ids, speakers, *, deterministic: bool):
        """Returns utterance representations.

        Args:
          text: [rows, n, d], pooled word vectors.
          features: `Features` [rows, n, …] of "audio" and "vision"; None for a modality not read.
          dialogue_ids: int [rows, n], equal for the utterances of a dialogue.
          speakers: int [rows, n], numbered within the dialogue.
          deterministic: True disables dropout.

        Returns:
          h, [rows, n, width].
        """
        x = fuse(project_modalities(self.modalities, self.width, text, features))
        x = drop(self, x, deterministic)
        x = apply_layers(
            self, DialogueLayer, x, dialogue_ids, speakers, deterministic=deterministic
        )
        return nn.LayerNorm(name="norm")(x)
