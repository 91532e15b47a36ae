"""The fusion backbone: word vectors and features of a dialogue -> {h_t}, one per utterance."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.data.features import MODALITIES, Features
from rpcl_jax.models.dropout import dropout

FURTHEST = 10.0  # standard deviations that a feature may be from its mean


def pool_utterances(hidden: jax.Array, utterance_ids: jax.Array, slots: int) -> jax.Array:
    """Mean of each utterance's word pieces.

    Args:
      hidden: [rows, length, d], word-piece vectors.
      utterance_ids: int [rows, length], the slot of each, `slots` for none.
      slots: number of utterances, b · n.

    Returns:
      float32 [slots, d]; zeros for a slot without word pieces.
    """
    ids = utterance_ids.reshape(-1)
    hidden = hidden.reshape(-1, hidden.shape[-1]).astype(jnp.float32)
    total = jax.ops.segment_sum(hidden, ids, num_segments=slots + 1)[:slots]
    count = jax.ops.segment_sum(jnp.ones_like(ids), ids, num_segments=slots + 1)[:slots]
    return total / jnp.maximum(count, 1)[:, None]


def encode_utterances(encode: Callable[..., jax.Array], batch) -> jax.Array:
    """Text vectors of the utterances of a `rpcl_jax.batching.batch.Batch`, float32 [b, n, d].

    `encode` is a text encoder: token, segment and position ids -> [rows, length, d].
    """
    text = batch.text
    words = encode(text.token_ids, text.segment_ids, text.position_ids)
    b, n = batch.utterance_mask.shape
    return pool_utterances(words, text.utterance_ids, b * n).reshape(b, n, -1)


def pack_utterances(x: jax.Array, slots: jax.Array) -> jax.Array:
    """[b, n, ...] -> [rows, n, ...], what lies at each place of the rows, 0 where nothing does.

    `slots` is that of `rpcl_jax.batching.packing.DialogueRows`; with its `places` for `slots` this
    goes back from [rows, n, ...] to [b, n, ...].
    """
    return jnp.take(x.reshape(-1, *x.shape[2:]), slots, axis=0, mode="fill", fill_value=0)


def unpack_pairs(pairs: jax.Array, places: jax.Array) -> jax.Array:
    """[rows, n, n, ...] -> [b, n, n, ...], 0 where one of the two is no utterance."""
    n = pairs.shape[1]
    row, column = jnp.divmod(places, n)  # of no utterance, a row too many
    row = jnp.maximum(row[:, :, None], row[:, None, :])
    return pairs.at[row, column[:, :, None], column[:, None, :]].get(mode="fill", fill_value=0)


def relative_positions(n: int, reach: int) -> jax.Array:
    """Int [n, n], the distance i - j clipped to ±reach and shifted to 0 … 2 · reach."""
    place = jnp.arange(n)
    return jnp.clip(place[:, None] - place[None, :], -reach, reach) + reach


class DialogueLayer(nn.Module):
    """A pre-norm transformer layer over the utterances of a dialogue.

    Dialogues may lie end to end in a row: an utterance attends to those with its `dialogue_ids`.
    A bias per head says how far apart two utterances are and whether one person speaks both.
    """

    width: int
    heads: int
    dropout: float
    reach: int = 10

    @nn.compact
    def __call__(self, x, dialogue_ids, speakers, *, deterministic: bool):
        """[rows, n, width], int [rows, n], int [rows, n] -> [rows, n, width]."""
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
        x = x + self._drop(y, deterministic)

        y = nn.LayerNorm(name="feed_forward_norm")(x)
        y = nn.gelu(nn.Dense(2 * self.width, name="feed_forward_in")(y))
        y = nn.Dense(self.width, name="feed_forward_out")(self._drop(y, deterministic))
        return x + self._drop(y, deterministic)

    def _drop(self, x, deterministic):
        if deterministic or not self.dropout:
            return x
        return dropout(x, self.dropout, self.make_rng("dropout"))


class FeatureProjection(nn.Module):
    """Features of a modality -> vectors of the model's width; a learned vector where it is absent.

    `mean` and `scale` standardise the features. They are not learned but set before the first step
    (`rpcl_jax.train.initial_state`); as parameters they travel with every checkpoint. The vector
    begins at 0, which adds nothing to the text, and stays there if no training utterance is without
    the modality.
    """

    width: int

    @nn.compact
    def __call__(self, features: Features):
        """Values [rows, n, d] and bool present [rows, n] -> [rows, n, width]."""
        values, present = features
        mean = self.param("mean", nn.initializers.zeros, values.shape[-1:])
        scale = self.param("scale", nn.initializers.ones, values.shape[-1:])
        values = (values - jax.lax.stop_gradient(mean)) / jax.lax.stop_gradient(scale)
        # openSMILE's functionals are now and then thousands of deviations away from their mean; and
        # what is absent must not come through as a number, nor as the gradient of one.
        values = jnp.clip(jnp.where(present[..., None], values, 0.0), -FURTHEST, FURTHEST)
        y = nn.LayerNorm(name="norm")(nn.Dense(self.width, name="dense")(values))
        absent = self.param("absent", nn.initializers.zeros, (self.width,))
        return jnp.where(present[..., None], y, absent)


class FusionBackbone(nn.Module):
    """Text, audio and vision of each utterance, gated together and read in the dialogue.

    Only the projections of the modalities in `modalities` exist ("t", "ta", "tv" or "tav").
    """

    modalities: str
    width: int
    heads: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(self, text, features, dialogue_ids, speakers, *, deterministic: bool):
        """Utterance representations.

        Args:
          text: [rows, n, d], pooled word vectors.
          features: `Features` of "audio" and "vision", [rows, n, …] each; None where not read.
          dialogue_ids: int [rows, n], equal for the utterances of a dialogue.
          speakers: int [rows, n], numbered inside the dialogue.
          deterministic: no dropout.

        Returns:
          h, [rows, n, width].
        """
        x = nn.LayerNorm(name="text_norm")(nn.Dense(self.width, name="text")(text))
        for modality in (MODALITIES[letter] for letter in "av" if letter in self.modalities):
            y = FeatureProjection(self.width, name=modality)(features[modality])
            gate = nn.Dense(self.width, name=f"{modality}_gate")(jnp.concatenate([x, y], -1))
            x = x + nn.sigmoid(gate) * y
        if not deterministic and self.dropout:
            x = dropout(x, self.dropout, self.make_rng("dropout"))
        for layer in range(self.layers):
            x = DialogueLayer(self.width, self.heads, self.dropout, name=f"layer_{layer}")(
                x, dialogue_ids, speakers, deterministic=deterministic
            )
        return nn.LayerNorm(name="norm")(x)
