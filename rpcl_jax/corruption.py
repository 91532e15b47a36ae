"""Protected context corruption, equations 12-13 of the paper: pure functions of a key and arrays.

The draw for an utterance depends on the key, the place of its dialogue in the batch and its own
place in the dialogue, and on nothing else: neither padding nor the number of devices changes it.
"""

import jax
import jax.numpy as jnp


def gold_utterances(pair_labels: jax.Array) -> jax.Array:
    """G, the utterances that take part in a gold pair, as emotion or as cause (eq. 12).

    Args:
      pair_labels: [b, n, n], bool or 0/1, row = emotion, column = cause: all gold pairs, whether
        or not they are candidates, and 0 wherever there is no utterance.

    Returns:
      bool [b, n].

    >>> print(gold_utterances(jnp.array([[[0, 0, 0], [0, 0, 0], [1, 0, 0]]])))
    [[ True False  True]]
    """
    gold = pair_labels.astype(bool)
    return gold.any(axis=-1) | gold.any(axis=-2)


def corrupt_context(
    key: jax.Array,
    utterances: jax.Array,
    protected: jax.Array,
    *,
    rate: float,
    axis_name: str | None = None,
) -> jax.Array:
    """h̃_t: h_t where protected, otherwise zeroed with probability ρ, each on its own (eq. 13).

    Args:
      key: decides what is zeroed; with `axis_name`, the same key on every device.
      utterances: h, [b, n, d].
      protected: G, [b, n], bool or 0/1.
      rate: ρ.
      axis_name: mesh axis over which dialogues are split in equal parts; a dialogue's place is
        then that in the global batch.

    Returns:
      [b, n, d], of the type of `utterances`. A zeroed row is 0 whatever it held, NaN included,
      and passes no gradient on.

    >>> h = jnp.ones((1, 6, 1))
    >>> protected = jnp.array([[1, 1, 0, 0, 0, 0]])
    >>> print(corrupt_context(jax.random.key(0), h, protected, rate=0.5)[0, :, 0])
    [1. 1. 0. 1. 1. 1.]
    """
    b, n, _ = utterances.shape
    places = jnp.arange(b)
    if axis_name is not None:
        places += jax.lax.axis_index(axis_name) * b

    # A key for each utterance rather than n draws from one key: the first of n + 1 draws are the
    # first of n only under jax_threefry_partitionable.
    def draw(place: jax.Array, t: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(key, place), t), rate)

    drawn = jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(places, jnp.arange(n))
    zeroed = drawn & ~protected.astype(bool)
    # Not a product: 0 · NaN would be NaN.
    return jnp.where(zeroed[..., None], 0, utterances)
