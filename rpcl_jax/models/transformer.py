"""Our own backbone: layers over the dialogue, and a pair scorer that reads the context too.

docs/method.md, "Backbones", has the equations.
"""

import flax.linen as nn
import jax.numpy as jnp

from rpcl_jax.models.dropout import drop
from rpcl_jax.models.fusion import apply_layers, fuse, project_modalities
from rpcl_jax.models.packed import relative_positions, same


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
        # [rows, n, n, heads]
        bias = (
            distance[relative_positions(n, self.reach)]
            + same_speaker[same(speakers).astype(jnp.int32)]
        )

        y = nn.LayerNorm(name="attention_norm")(x)
        query, key, value = jnp.split(nn.Dense(3 * self.width, name="query_key_value")(y), 3, -1)
        query, key, value = (
            part.reshape(*part.shape[:2], self.heads, head_width) for part in (query, key, value)
        )
        logits = jnp.einsum("bihd,bjhd->bijh", query, key) / jnp.sqrt(head_width) + bias
        logits = jnp.where(same(dialogue_ids)[..., None], logits, -1e9)
        attention = nn.softmax(logits, axis=2)
        y = jnp.einsum("bijh,bjhd->bihd", attention, value).reshape(x.shape)
        y = nn.Dense(self.width, name="attention_out")(y)
        x = x + drop(self, y, deterministic)

        y = nn.LayerNorm(name="feed_forward_norm")(x)
        y = nn.gelu(nn.Dense(2 * self.width, name="feed_forward_in")(y))
        y = nn.Dense(self.width, name="feed_forward_out")(drop(self, y, deterministic))
        return x + drop(self, y, deterministic)


class TransformerBackbone(nn.Module):
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
        """Returns utterance representations h, [rows, n, width].

        Args:
          text: [rows, n, d], pooled word vectors.
          features: `Features` [rows, n, …] of "audio" and "vision"; None for a modality not read.
          dialogue_ids: int [rows, n], equal for the utterances of a dialogue.
          speakers: int [rows, n], numbered within the dialogue.
        """
        x = fuse(project_modalities(self.modalities, self.width, text, features))
        x = drop(self, x, deterministic)
        x = apply_layers(
            self, DialogueLayer, x, dialogue_ids, speakers, deterministic=deterministic
        )
        return nn.LayerNorm(name="norm")(x)


class TransformerScorer(nn.Module):
    """Scores every (emotion i, cause j) of a dialogue: s[i, j] of equation 3.

    Its dialogue layers (`layers` ≥ 1) come first: without them, corrupting a bystander could not
    change a pair's confidence (docs/method.md, "Backbones"). Each cell then combines a projection
    of its emotion utterance, one of its cause utterance, their product, the distance between them
    and whether both have the same speaker.
    """

    width: int
    heads: int
    layers: int
    pair_width: int
    dropout: float
    reach: int = 10

    @nn.compact
    def __call__(self, h, dialogue_ids, speakers, *, deterministic: bool):
        """Maps h [rows, n, width] to pair logits [rows, n, n, 2]; ids, speakers: int [rows, n]."""
        n = h.shape[1]
        x = apply_layers(
            self, DialogueLayer, h, dialogue_ids, speakers, deterministic=deterministic
        )
        x = nn.LayerNorm(name="norm")(x)
        emotion = nn.Dense(self.pair_width, name="emotion")(x)
        cause = nn.Dense(self.pair_width, name="cause")(x)
        factor = self.pair_width // 4
        product = (
            nn.Dense(factor, name="emotion_factor")(x)[:, :, None, :]
            * nn.Dense(factor, name="cause_factor")(x)[:, None, :, :]
        )
        # The tables start at the scale of the projections they are added to. If they started at
        # BERT's 0.02, distance, the best single predictor of a cause, would have no effect for most
        # of a run.
        distance = self.param(
            "distance", nn.initializers.normal(1.0), (2 * self.reach + 1, self.pair_width)
        )
        same_speaker = self.param("same_speaker", nn.initializers.normal(1.0), (2, self.pair_width))
        pairs = (
            emotion[:, :, None, :]
            + cause[:, None, :, :]
            + nn.Dense(self.pair_width, use_bias=False, name="product")(product)
            + distance[relative_positions(n, self.reach)]
            + same_speaker[same(speakers).astype(jnp.int32)]
        )
        return nn.Dense(2, name="logits")(drop(self, nn.gelu(pairs), deterministic))
