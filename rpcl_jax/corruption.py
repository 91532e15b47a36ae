"""Protected context corruption, equations 12-13 of the paper, as pure functions of key and arrays.

Whether an utterance is drawn depends only on the key, the position of its dialogue in the batch and
its position in the dialogue, not on padding or on how the batch is split over devices.
"""

import jax
import jax.numpy as jnp

from rpcl_jax.errors import InputError
from rpcl_jax.shapes import check_shapes


def gold_utterances(pair_labels: jax.Array) -> jax.Array:
    """Returns G, the utterances that take part in a gold pair, as emotion or as cause (eq. 12).

    Args:
      pair_labels: [b, n, n], row = emotion, column = cause; true or above 0 for every gold pair,
        candidate or not. Anything else, such as a negative index to ignore or NaN, is none.

    Returns:
      bool [b, n].

    Raises:
      InputError: the labels have another shape.

    >>> print(gold_utterances(jnp.array([[[0, 0, 0], [0, 0, 0], [1, 0, 0]]])))
    [[ True False  True]]
    """
    check_shapes(pair_labels=pair_labels)
    gold = pair_labels > 0
    return gold.any(axis=-1) | gold.any(axis=-2)


def corrupt_context(
    key: jax.Array,
    utterances: jax.Array,
    protected: jax.Array,
    *,
    rate: float,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns h̃: h_t if t is protected, otherwise 0 with probability ρ, independently (eq. 13).

    Args:
      key: decides what is zeroed. With `axis_name`, every device must pass the same key.
      utterances: h, [b, n, d].
      protected: G, [b, n], bool or 0/1.
      rate: ρ.
      axis_name: mesh axis that dialogues are split over in equal parts. The position of a
        dialogue is then its position in the global batch.

    Returns:
      [b, n, d] with the dtype of `utterances`. A zeroed row is 0 even if it held NaN, and passes
      no gradient.

    Raises:
      InputError: shapes do not fit each other, or the rate is a number outside of 0 to 1.

    >>> h = jnp.ones((1, 6, 1))
    >>> protected = jnp.array([[1, 1, 0, 0, 0, 0]])
    >>> print(corrupt_context(jax.random.key(0), h, protected, rate=0.5)[0, :, 0])
    [1. 1. 0. 1. 1. 1.]
    """
    check_shapes(utterances=utterances, protected=protected)
    if isinstance(rate, int | float) and not 0 <= rate <= 1:
        raise InputError(f"rate: is {rate:g}, expected a number from 0 to 1")
    b, n, _ = utterances.shape
    places = jnp.arange(b)
    if axis_name is not None:
        places += jax.lax.axis_index(axis_name) * b

    # One key per utterance, so that padding does not change the draws: n draws from one key equal
    # the first n of n + 1 draws only under jax_threefry_partitionable.
    def draw(place: jax.Array, t: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(key, place), t), rate)

    drawn = jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(places, jnp.arange(n))
    zeroed = drawn & ~protected.astype(bool)
    # A product would not do: 0 · NaN is NaN.
    return jnp.where(zeroed[..., None], 0, utterances)
