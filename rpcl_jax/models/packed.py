"""What every layer over a batch needs: pooled words, packed rows, and who is near whom in them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def pool_utterances(hidden: jax.Array, utterance_ids: jax.Array, slots: int) -> jax.Array:
    """Returns the mean of each utterance's word-piece vectors [rows, length, d].

    `utterance_ids` [rows, length] is the utterance slot of each piece, of b · n `slots`; `slots` is
    none. The result is float32 [slots, d], zeros for a slot without word pieces.
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
