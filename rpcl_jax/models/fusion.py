"""The fusion backbone: word vectors and features of a dialogue -> {h_t}, one per utterance."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.models.dropout import dropout

MODALITIES = {"a": "audio", "v": "vision"}  # beside text, "t", which every model reads


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


def pack_utterances(x: jax.Array, slots: jax.Array) -> jax.Array:
    """[b, n, ...] -> [rows, n, ...], what lies at each place of the rows, 0 where nothing does.

    `slots` is that of `rpcl_jax.data.packing.DialogueRows`; with its `places` for `slots` this
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
        bias = (
            distance[relative_positions(n, self.reach)] + same_speaker[same]
        )  # [rows, n, n, heads]

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
          features: {"audio": [rows, n, da], "vision": [rows, n, dv]} or fewer.
          dialogue_ids: int [rows, n], equal for the utterances of a dialogue.
          speakers: int [rows, n], numbered inside the dialogue.
          deterministic: no dropout.

        Returns:
          h, [rows, n, width].
        """
        x = nn.LayerNorm(name="text_norm")(nn.Dense(self.width, name="text")(text))
        for modality in (MODALITIES[letter] for letter in "av" if letter in self.modalities):
            y = nn.Dense(self.width, name=modality)(features[modality])
            y = nn.LayerNorm(name=f"{modality}_norm")(y)
            gate = nn.Dense(self.width, name=f"{modality}_gate")(jnp.concatenate([x, y], -1))
            x = x + nn.sigmoid(gate) * y
        if not deterministic and self.dropout:
            x = dropout(x, self.dropout, self.make_rng("dropout"))
        for layer in range(self.layers):
            x = DialogueLayer(self.width, self.heads, self.dropout, name=f"layer_{layer}")(
                x, dialogue_ids, speakers, deterministic=deterministic
            )
        return nn.LayerNorm(name="norm")(x)
