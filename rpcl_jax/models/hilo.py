"""A backbone after HiLo: recurrence, attention under three masks, a biaffine and rotary score.

It follows the description of HiLo; docs/method.md, "Backbones", has the equations.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.models.attention import rotate
from rpcl_jax.models.dropout import drop
from rpcl_jax.models.fusion import apply_layers, fuse, project_modalities
from rpcl_jax.models.packed import same
from rpcl_jax.models.recurrent import BidirectionalGRU

NEAR = 2  # neighbours are at most this many utterances apart
LONGEST = 100.0  # utterances in which the slowest rotation turns by about a radian; the fastest: 1


def views(dialogue_ids: jax.Array, speakers: jax.Array) -> jax.Array:
    """Returns the three masks, bool [rows, 3, n, n], from int ids and speakers [rows, n].

    An utterance sees those of its dialogue: all, its speaker's, and its neighbours. It always sees
    itself.
    """
    place = jnp.arange(dialogue_ids.shape[1])
    near = jnp.abs(place[:, None] - place[None, :]) <= NEAR
    together = same(dialogue_ids)
    return jnp.stack([together, together & same(speakers), together & near], axis=1)


class ViewLayer(nn.Module):
    """Attention under each of the three masks over all copies of the utterances.

    What is found is added through a gate, which sees it and the copy itself.
    """

    width: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x, masks, *, deterministic: bool):
        """Maps x [rows, copies, n, width] to the same shape; masks are bool [rows, 3, n, n]."""
        rows, copies, n, _ = x.shape
        y = nn.LayerNorm(name="norm")(x)
        y = nn.Dense(9 * self.width, name="query_key_value")(y)
        query, key, value = jnp.split(y.reshape(rows, copies * n, 3, self.heads, -1), 3, axis=-1)
        masks = jnp.tile(masks, (1, 1, copies, copies))[:, :, None]
        logits = jnp.einsum("rqvhd,rkvhd->rvhqk", query, key) / jnp.sqrt(query.shape[-1])
        attention = nn.softmax(jnp.where(masks, logits, -1e9))
        y = jnp.einsum("rvhqk,rkvhd->rqvhd", attention, value).reshape(rows, copies, n, -1)
        y = nn.Dense(self.width, name="views_out")(y)
        gate = nn.sigmoid(nn.Dense(self.width, name="gate")(jnp.concatenate([x, y], -1)))
        return x + gate * drop(self, y, deterministic)


class HiloBackbone(nn.Module):
    """A bidirectional GRU over each modality, then attention over the modalities' copies.

    Every modality has a copy of each utterance. The gates of `fuse` make one vector of the copies.
    """

    modalities: str
    width: int  # even
    heads: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(self, text, features, dialogue_ids, speakers, *, deterministic: bool):
        """Returns h, [rows, n, width]; the arguments are those of `TransformerBackbone`."""
        vectors = project_modalities(self.modalities, self.width, text, features)
        x = drop(self, jnp.stack(list(vectors.values())), deterministic)
        x += drop(
            self, BidirectionalGRU(self.width, name="recurrent")(x, dialogue_ids), deterministic
        )
        x, masks = jnp.moveaxis(x, 0, 1), views(dialogue_ids, speakers)
        x = apply_layers(self, ViewLayer, x, masks, deterministic=deterministic)
        x = nn.LayerNorm(name="copies_norm")(x)
        h = fuse({name: x[:, copy] for copy, name in enumerate(vectors)})
        return nn.LayerNorm(name="norm")(h)


class HiloScorer(nn.Module):
    """Attention under the three masks, then a biaffine and a rotary score of every cell.

    The attention layers (`layers` ≥ 1) are ours: HiLo scores h as it is, so that corrupting a
    bystander could not change a gold pair's confidence.
    """

    width: int
    heads: int
    layers: int
    pair_width: int
    dropout: float

    @nn.compact
    def __call__(self, h, dialogue_ids, speakers, *, deterministic: bool):
        """Returns pair logits, [rows, n, n, 2]; the arguments are those of `TransformerScorer`."""
        x, masks = h[:, None], views(dialogue_ids, speakers)
        x = apply_layers(self, ViewLayer, x, masks, deterministic=deterministic)
        x = nn.LayerNorm(name="norm")(x[:, 0])
        emotion, cause = (
            drop(self, nn.gelu(nn.Dense(self.pair_width, name=name)(x)), deterministic)
            for name in ("emotion", "cause")
        )
        # As in attention: otherwise the products grow with the width.
        scale = 1 / jnp.sqrt(self.pair_width)

        biaffine = nn.DenseGeneral((2, self.pair_width), use_bias=False, name="biaffine")(emotion)
        logits = scale * jnp.einsum("ricd,rjd->rijc", biaffine, cause)
        logits += nn.Dense(2, name="emotion_logits")(emotion)[:, :, None]
        logits += nn.Dense(2, use_bias=False, name="cause_logits")(cause)[:, None]

        def turned(x, name):
            shape, bias_init = (2, 2 * (self.pair_width // 2)), nn.initializers.normal(1.0)
            y = nn.DenseGeneral(shape, bias_init=bias_init, name=name)(x)
            return rotate(y.swapaxes(1, 2), LONGEST)

        query, key = turned(emotion, "query"), turned(cause, "key")
        return logits + scale * jnp.einsum("rcid,rcjd->rijc", query, key)
