"""The pair scorer: from the utterance representations h of a dialogue to s[i, j] (eq. 3)."""

import flax.linen as nn
import jax.numpy as jnp

from rpcl_jax.models.dropout import drop
from rpcl_jax.models.fusion import DialogueLayer, apply_layers, relative_positions


class PairScorer(nn.Module):
    """Scores every (emotion i, cause j) of a dialogue.

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
        """Maps h [rows, n, width], with int ids [rows, n] and speakers [rows, n], to pair logits.

        Returns:
          [rows, n, n, 2].
        """
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
        same = (speakers[:, :, None] == speakers[:, None, :]).astype(jnp.int32)
        pairs = (
            emotion[:, :, None, :]
            + cause[:, None, :, :]
            + nn.Dense(self.pair_width, use_bias=False, name="product")(product)
            + distance[relative_positions(n, self.reach)]
            + same_speaker[same]
        )
        return nn.Dense(2, name="logits")(drop(self, nn.gelu(pairs), deterministic))
