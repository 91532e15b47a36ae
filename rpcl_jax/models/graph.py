"""A backbone after M3HG and RankCP: message passing over typed edges, and kernels of distance.

It follows the descriptions of these systems; docs/method.md, "Backbones", has the equations.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.models.dropout import drop
from rpcl_jax.models.fusion import apply_layers, fuse, project_modalities
from rpcl_jax.models.packed import relative_positions, same

RELATIONS = 5  # types of edges


def edge_types(speakers: jax.Array) -> jax.Array:
    """Returns the type of every edge from j to i, int [rows, n, n], from speakers [rows, n].

    0: i itself; 1 and 2: earlier ones, of the same speaker and of another; 3 and 4: later ones.
    """
    place = jnp.arange(speakers.shape[1])
    later = (place[:, None] < place[None, :]).astype(jnp.int32)
    other = (~same(speakers)).astype(jnp.int32)
    return jnp.where(place[:, None] == place[None, :], 0, 1 + 2 * later + other)


def smoothed(table: jax.Array) -> jax.Array:
    """Returns a table of distances [2 · reach + 1, d] smoothed by a radial kernel.

    Each entry becomes the sum of all entries times exp(-(difference)²), as in RankCP, so that a
    rare distance learns from those beside it.
    """
    distance = jnp.arange(len(table))
    kernel = jnp.exp(-jnp.square(distance[:, None] - distance[None, :]).astype(table.dtype))
    return kernel @ table


class GraphLayer(nn.Module):
    """Message passing over the complete graph of a dialogue's utterances.

    A message is weighted by the two utterances, by the type of the edge and by its distance
    (graph attention), and transformed by a matrix of the edge's type.
    """

    width: int
    heads: int
    dropout: float
    reach: int = 10

    @nn.compact
    def __call__(self, x, dialogue_ids, types, *, deterministic: bool):
        """Maps x [rows, n, width] to the same shape; ids are [rows, n], types [rows, n, n]."""
        rows, n, _ = x.shape
        y = nn.LayerNorm(name="norm")(x)
        zeros = nn.initializers.zeros
        distance = self.param("distance", zeros, (2 * self.reach + 1, self.heads))
        of_type = self.param("type", zeros, (RELATIONS, self.heads))
        is_type = nn.one_hot(types, RELATIONS, dtype=x.dtype)  # [rows, i, j, type]
        logits = (
            nn.Dense(self.heads, name="receiver")(y)[:, :, None]
            + nn.Dense(self.heads, use_bias=False, name="sender")(y)[:, None]
            + distance[relative_positions(n, self.reach)]
            + is_type @ of_type
        )
        logits = jnp.where(same(dialogue_ids)[..., None], nn.leaky_relu(logits, 0.2), -1e9)
        weights = nn.softmax(logits, axis=2)[:, :, :, None] * is_type[..., None]
        messages = nn.Dense(RELATIONS * self.width, use_bias=False, name="messages")(y)
        messages = messages.reshape(rows, n, RELATIONS, self.heads, -1)
        y = jnp.einsum("rijth,rjthd->rihd", weights, messages).reshape(x.shape)
        y = nn.Dense(self.width, name="out")(nn.gelu(y))
        return x + drop(self, y, deterministic)


class GraphBackbone(nn.Module):
    """Fuses the modalities of each utterance, then passes messages between utterances."""

    modalities: str
    width: int
    heads: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(self, text, features, dialogue_ids, speakers, *, deterministic: bool):
        """Returns h, [rows, n, width]; the arguments are those of `TransformerBackbone`."""
        x = fuse(project_modalities(self.modalities, self.width, text, features))
        x, types = drop(self, x, deterministic), edge_types(speakers)
        x = apply_layers(self, GraphLayer, x, dialogue_ids, types, deterministic=deterministic)
        return nn.LayerNorm(name="norm")(x)


class GraphScorer(nn.Module):
    """Passes messages, then scores every cell from its two utterances and their distance.

    The message passing (`layers` ≥ 1) is ours: RankCP scores h as it is, so that corrupting a
    bystander could not change a gold pair's confidence.
    """

    width: int
    heads: int
    layers: int
    pair_width: int
    dropout: float
    reach: int = 10

    @nn.compact
    def __call__(self, h, dialogue_ids, speakers, *, deterministic: bool):
        """Returns pair logits, [rows, n, n, 2]; the arguments are those of `TransformerScorer`."""
        types = edge_types(speakers)
        x = apply_layers(self, GraphLayer, h, dialogue_ids, types, deterministic=deterministic)
        x = nn.LayerNorm(name="norm")(x)
        distance = self.param(
            "distance", nn.initializers.normal(1.0), (2 * self.reach + 1, self.pair_width)
        )
        pairs = (
            nn.Dense(self.pair_width, name="emotion")(x)[:, :, None, :]
            + nn.Dense(self.pair_width, use_bias=False, name="cause")(x)[:, None, :, :]
            + smoothed(distance)[relative_positions(h.shape[1], self.reach)]
        )
        return nn.Dense(2, name="logits")(drop(self, nn.gelu(pairs), deterministic))
