"""The losses of RPCL as pure functions of arrays: equations 4-11 and 14-16 of the paper.

`rpcl_jax.corruption` has equations 12-13, `rpcl_jax.objective` equation 17.

Arrays hold b dialogues of at most n utterances. Row i is the emotion utterance, column j the cause
utterance, and class 1 of a pair means "j causes i". The candidate set V is a mask. Labels and masks
are bool or 0/1; a pair is gold if its label is above 0. Logits may have any float type and are
converted to float32. Every loss is a float32 scalar and a mean over the whole mini-batch; a mean
over nothing is 0 and has zero gradient.

Where a mask is False, logits and labels may hold any value, NaN included, without changing the
value or the gradient of a loss.

If dialogues are split over devices, pass `axis_name`: sums and counts are then `psum`med over that
mesh axis before they are divided, so the loss on eight devices equals the loss on one. Two ways to
take its gradient with respect to replicated parameters (`in_specs=P()`) need no correction:

- `jax.grad` inside `jax.shard_map` with `check_vma=True`, the default. JAX then knows that the
  parameters are the same on every device and sums the devices' shares of the gradient; a further
  `psum` would multiply it by the number of devices.
- `jax.grad` of the `shard_map`ped loss, from outside, whatever `check_vma` is.

Inside `shard_map` with `check_vma=False`, `jax.grad` returns on each device that device's share
times the number of devices. In this case only, average the gradient with `jax.lax.pmean`.
"""

import jax
import jax.numpy as jnp

from rpcl_jax.errors import InputError
from rpcl_jax.shapes import check_shapes


def pair_confidence(pair_logits: jax.Array) -> jax.Array:
    """Returns p = softmax(s)[1], the confidence that j causes i (eq. 4).

    Args:
      pair_logits: [b, n, n, 2].

    Returns:
      float32 [b, n, n].

    >>> p = pair_confidence(jnp.array([[[[0.0, 0.0]]], [[[0.0, 2.0]]]]))
    >>> [f"{x:.4f}" for x in p.ravel()]
    ['0.5000', '0.8808']
    """
    return jax.nn.softmax(pair_logits.astype(jnp.float32))[..., 1]


def pair_cross_entropy(
    pair_logits: jax.Array,
    pair_labels: jax.Array,
    candidate_mask: jax.Array,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns CE_V(s, y) = 1/|V| Σ_V -log softmax(s_ij)[y_ij], the last term of eq. 16.

    Args:
      pair_logits: s, [b, n, n, 2].
      pair_labels: y, [b, n, n]; gold pairs outside V are ignored.
      candidate_mask: V, [b, n, n].
      axis_name: mesh axis that dialogues are split over.

    Returns:
      Scalar.

    Raises:
      InputError: shapes do not fit each other.

    >>> logits = jnp.array([[[[0.0, 2.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 9.0]]]])
    >>> labels = jnp.array([[[1, 0], [0, 0]]])
    >>> candidates = jnp.array([[[1, 1], [1, 0]]])
    >>> print(f"{pair_cross_entropy(logits, labels, candidates):.4f}")  # softplus of -2, 0, -1
    0.3778
    """
    check_shapes(pair_logits=pair_logits, pair_labels=pair_labels, candidate_mask=candidate_mask)
    return _cross_entropy(pair_logits, pair_labels > 0, candidate_mask, axis_name)


def supervised_loss(
    emotion_logits: jax.Array,
    cause_logits: jax.Array,
    pair_logits: jax.Array,
    emotion_labels: jax.Array,
    cause_labels: jax.Array,
    pair_labels: jax.Array,
    utterance_mask: jax.Array,
    candidate_mask: jax.Array,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns L_sup = CE(z_emotion, y_emotion) + CE(z_cause, y_cause) + CE_V(s, y) (eq. 16).

    The first two terms are means over the real utterances of the mini-batch, the third over V.

    Args:
      emotion_logits: [b, n, emotions].
      cause_logits: [b, n, 2].
      pair_logits: [b, n, n, 2].
      emotion_labels: [b, n], valid class indices where `utterance_mask` is True.
      cause_labels: [b, n].
      pair_labels: [b, n, n]; gold pairs outside V are ignored.
      utterance_mask: [b, n], True for real utterances.
      candidate_mask: V, [b, n, n].
      axis_name: mesh axis that dialogues are split over.

    Returns:
      Scalar.

    Raises:
      InputError: shapes do not fit each other.

    >>> loss = supervised_loss(
    ...     jnp.zeros((1, 2, 7)), jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2, 2)),
    ...     jnp.array([[4, -1]]), jnp.array([[1, -1]]), jnp.zeros((1, 2, 2)),
    ...     jnp.array([[1, 0]]), jnp.array([[[1, 0], [0, 0]]]))
    >>> print(f"{loss:.4f}")  # log 7 + log 2 + log 2
    3.3322
    """
    check_shapes(
        emotion_logits=emotion_logits,
        cause_logits=cause_logits,
        pair_logits=pair_logits,
        emotion_labels=emotion_labels,
        cause_labels=cause_labels,
        utterance_mask=utterance_mask,
    )
    return (
        _cross_entropy(emotion_logits, emotion_labels, utterance_mask, axis_name)
        + _cross_entropy(cause_logits, cause_labels, utterance_mask, axis_name)
        + pair_cross_entropy(pair_logits, pair_labels, candidate_mask, axis_name=axis_name)
    )


def cdmr_loss(
    pair_logits: jax.Array,
    cause_logits: jax.Array,
    pair_labels: jax.Array,
    candidate_mask: jax.Array,
    *,
    top_k: int | None = 8,
    base_margin: float = 0.05,
    adaptive_margin: bool = True,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the confidence-difference margin ranking loss, CDMR (eq. 5-11).

    P_i and N_i are the gold and the non-gold candidates of row i. H_i holds the `top_k` members of
    N_i with the largest p; ties go to the earlier column. Ω = {(i, j+, j-) : j+ ∈ P_i, j- ∈ H_i}.
    The loss is 1/|Ω| Σ_Ω relu(m - (p[i, j+] - p[i, j-])) with m = m0 · exp(sg(q[j-] - q[j+])),
    where q = softmax(z_cause)[1]. No gradient flows through the selection or the margin, so the
    gradient with respect to `cause_logits` is exactly 0. The loss is 0 if Ω is empty.

    Args:
      pair_logits: s, [b, n, n, 2].
      cause_logits: z_cause, [b, n, 2].
      pair_labels: y, [b, n, n]; gold pairs outside V are ignored.
      candidate_mask: V, [b, n, n].
      top_k: hard negatives per row, at least 1, fewer if the row has fewer; None: all negatives.
      base_margin: m0.
      adaptive_margin: if False, every margin is m0.
      axis_name: mesh axis that dialogues are split over.

    Returns:
      Scalar.

    Raises:
      InputError: shapes do not fit each other, or `top_k` is no such number.

    >>> pair_logits = jnp.zeros((1, 2, 2, 2))
    >>> cause_logits = jnp.array([[[0.0, 0.0], [0.0, 2.0]]])
    >>> labels = jnp.array([[[0, 0], [0, 1]]])
    >>> candidates = jnp.array([[[1, 0], [1, 1]]])
    >>> loss = cdmr_loss(pair_logits, cause_logits, labels, candidates)
    >>> print(f"{loss:.4f}")  # 0.05 · exp(0.5 - 0.8808) - (0.5 - 0.5)
    0.0342
    """
    check_shapes(
        pair_logits=pair_logits,
        cause_logits=cause_logits,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask,
    )
    if top_k is not None and not (type(top_k) is int and top_k > 0):
        raise InputError(f"top_k: is {top_k!r}, expected a whole number from 1, or None for all")
    candidates = candidate_mask.astype(bool)
    gold = candidates & (pair_labels > 0)
    hard = candidates & ~gold
    p = pair_confidence(_fill(pair_logits, candidates))
    # q may be NaN for an utterance outside every candidate; such a q reaches no triple.
    q = jax.nn.softmax(jax.lax.stop_gradient(cause_logits).astype(jnp.float32))[..., 1]
    # [b, n, top_k]: the triples of a dialogue are then n²·top_k numbers instead of n³.
    p_hard, q_hard = p, q[:, None, :]
    if top_k is not None and top_k < p.shape[-1]:
        _, columns = jax.lax.top_k(jnp.where(hard, jax.lax.stop_gradient(p), -jnp.inf), top_k)
        hard, p_hard, q_hard = (
            jnp.take_along_axis(x, columns, axis=-1) for x in (hard, p_hard, q_hard)
        )

    margin: float | jax.Array = base_margin
    if adaptive_margin:
        margin = base_margin * jnp.exp(q_hard[:, :, None, :] - q[:, None, :, None])
    violation = margin - (p[..., None] - p_hard[:, :, None, :])  # [b, i, j+, j-]
    triples = gold[..., None] & hard[:, :, None, :]
    return _masked_mean(jax.nn.relu(violation), triples, axis_name)


def ccps_loss(
    corrupted_pair_logits: jax.Array,
    clean_pair_logits: jax.Array,
    pair_labels: jax.Array,
    candidate_mask: jax.Array,
    *,
    corruption_weight: float = 0.75,
    alignment_weight: float = 0.2,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the corrupted-context pair stability loss, CCPS (eq. 14-15).

    It is λ_cor · CE_V(s̃, y) + λ_ali · 1/|V| Σ_V ‖softmax(s̃) - sg(softmax(s))‖². The clean view is
    only a reference: the gradient with respect to `clean_pair_logits` is exactly 0.

    Args:
      corrupted_pair_logits: s̃, [b, n, n, 2].
      clean_pair_logits: s, [b, n, n, 2].
      pair_labels: y, [b, n, n]; gold pairs outside V are ignored.
      candidate_mask: V, [b, n, n].
      corruption_weight: λ_cor.
      alignment_weight: λ_ali.
      axis_name: mesh axis that dialogues are split over.

    Returns:
      Scalar.

    Raises:
      InputError: shapes do not fit each other.

    >>> corrupted, clean = jnp.array([[[[0.0, 0.0]]]]), jnp.array([[[[0.0, 2.0]]]])
    >>> loss = ccps_loss(corrupted, clean, jnp.ones((1, 1, 1)), jnp.ones((1, 1, 1)))
    >>> print(f"{loss:.4f}")  # 0.75 · log 2 + 0.2 · 2 · (0.8808 - 0.5)²
    0.5779
    """
    check_shapes(
        corrupted_pair_logits=corrupted_pair_logits,
        clean_pair_logits=clean_pair_logits,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask,
    )
    candidates = candidate_mask.astype(bool)
    corrupted = jax.nn.softmax(_fill(corrupted_pair_logits, candidates))
    clean = jax.nn.softmax(_fill(jax.lax.stop_gradient(clean_pair_logits), candidates))
    distance = jnp.square(corrupted - clean).sum(axis=-1)
    cross_entropy = pair_cross_entropy(
        corrupted_pair_logits, pair_labels, candidates, axis_name=axis_name
    )
    alignment = _masked_mean(distance, candidates, axis_name)
    return corruption_weight * cross_entropy + alignment_weight * alignment


def _cross_entropy(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, axis_name: str | None
) -> jax.Array:
    """Returns the mean of -log softmax(logits)[label] over `mask`.

    Logits are [..., classes], labels and mask [...].
    """
    mask = mask.astype(bool)
    log_probabilities = jax.nn.log_softmax(_fill(logits, mask))
    # A comparison instead of a gather: masked labels need not be valid classes, and the gradient
    # of a gather would be a scatter.
    is_label = labels[..., None] == jnp.arange(logits.shape[-1])
    chosen = jnp.where(is_label, log_probabilities, 0.0)
    return _masked_mean(-chosen.sum(axis=-1), mask, axis_name)


def _fill(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the logits [..., classes] in float32, with 0 outside `mask` [...].

    Masked values must be replaced before the softmax: masking only its result would leave 0 · NaN
    in the gradient.
    """
    return jnp.where(mask[..., None], logits.astype(jnp.float32), 0.0)


def _masked_mean(values: jax.Array, mask: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the mean of `values` where `mask` is True, over all devices; 0 if it never is."""
    total = jnp.where(mask, values, 0.0).sum()
    count = mask.sum(dtype=jnp.int32)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1)
