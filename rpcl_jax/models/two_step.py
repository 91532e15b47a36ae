"""A backbone after MECPE-2steps, trained end to end: two encoders and a purely pairwise scorer.

It follows the description of that system; docs/method.md, "Backbones", has the equations.
"""

import flax.linen as nn
import jax.numpy as jnp

from rpcl_jax.models.dropout import drop
from rpcl_jax.models.fusion import fuse, project_modalities
from rpcl_jax.models.packed import relative_positions
from rpcl_jax.models.recurrent import BidirectionalGRU


class TwoStepBackbone(nn.Module):
    """Two independent encoders, bidirectional GRUs: one for emotions, one for causes.

    h is the vector of the emotion encoder and that of the cause encoder, side by side.
    """

    modalities: str
    width: int  # of either vector, even
    heads: int  # unused: there is no attention
    layers: int  # of either encoder, at least 1
    dropout: float

    @nn.compact
    def __call__(self, text, features, dialogue_ids, speakers, *, deterministic: bool):
        """Returns h, [rows, n, 2 · width]; the arguments are those of `TransformerBackbone`.

        `speakers` are not read.
        """
        x = fuse(project_modalities(self.modalities, self.width, text, features))
        x = jnp.stack(2 * [drop(self, x, deterministic)])
        for layer in range(self.layers):
            y = BidirectionalGRU(self.width, name=f"layer_{layer}")(x, dialogue_ids)
            x += drop(self, y, deterministic)
        emotion, cause = x
        return jnp.concatenate(
            [nn.LayerNorm(name="emotion_norm")(emotion), nn.LayerNorm(name="cause_norm")(cause)], -1
        )


class TwoStepScorer(nn.Module):
    """Scores a cell from its emotion vector, its cause vector and their distance alone.

    Corruption cannot move a gold pair here: its two utterances are protected, and nothing else is
    read. docs/method.md, "What they share, and what RPCL can do", says what CCPS then does.
    """

    width: int
    heads: int  # unused
    layers: int  # unused
    pair_width: int
    dropout: float
    reach: int = 10

    @nn.compact
    def __call__(self, h, dialogue_ids, speakers, *, deterministic: bool):
        """Returns pair logits, [rows, n, n, 2]; the arguments are those of `TransformerScorer`.

        `dialogue_ids` and `speakers` are not read.
        """
        emotion, cause = jnp.split(h, 2, -1)
        distance = self.param(
            "distance", nn.initializers.normal(1.0), (2 * self.reach + 1, self.pair_width)
        )
        pairs = (
            nn.Dense(self.pair_width, name="emotion")(emotion)[:, :, None, :]
            + nn.Dense(self.pair_width, use_bias=False, name="cause")(cause)[:, None, :, :]
            + distance[relative_positions(h.shape[1], self.reach)]
        )
        return nn.Dense(2, name="logits")(drop(self, nn.gelu(pairs), deterministic))
