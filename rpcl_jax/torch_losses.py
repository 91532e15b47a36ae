"""RPCL's losses and its corruption for a trainer in PyTorch: equations 5 to 15 on torch tensors.

`rpcl_jax.losses` and `rpcl_jax.corruption` say more of the equations. Neither is used here: this
module needs PyTorch, not JAX.

The tensors of a call are on one device. Logits may have any float type; what is below float32 is
converted to it. Labels and masks are bool or 0/1. Where `candidate_mask` is False, logits and
labels may hold any value, NaN included. Each loss is a mean over the tensors it is given, and a
mean over nothing is 0 with zero gradient.

Arguments must be tensors of the right shape and kind, and masks and the labels of candidates must
be 0 or 1; otherwise an InputError is raised. In a graph of `torch.compile`, a wrong value of a mask
or label raises a RuntimeError.
"""

import math

from rpcl_jax.errors import InputError
from rpcl_jax.shapes import check_shapes

try:
    import torch
    from torch.nn.functional import logsigmoid
except ImportError as error:
    raise ImportError(
        f"rpcl_jax.torch_losses requires PyTorch ({error}); pip install torch"
    ) from error


def cdmr_loss(
    pair_logits: torch.Tensor,
    cause_logits: torch.Tensor,
    pair_labels: torch.Tensor,
    candidate_mask: torch.Tensor,
    *,
    top_k: int | None = 8,
    base_margin: float = 0.05,
    adaptive_margin: bool = True,
) -> torch.Tensor:
    """Returns the confidence-difference margin ranking loss (eq. 5-11), as `losses.cdmr_loss`.

    Args:
      pair_logits: [b, n, n, 2]; row = emotion, column = cause, class 1 = "j causes i". The only
        argument that a gradient flows to.
      cause_logits: [b, n, 2]; used as if detached.
      pair_labels: [b, n, n]; gold pairs outside the candidates are ignored.
      candidate_mask: V, [b, n, n].
      top_k: hard negatives per row, at least 1, fewer if the row has fewer; None: all negatives.
      base_margin: m0.
      adaptive_margin: if False, every margin is m0.

    Returns:
      Scalar: float64 if logits are, otherwise float32.

    >>> pair_logits = torch.zeros(1, 2, 2, 2)
    >>> cause_logits = torch.tensor([[[0.0, 0.0], [0.0, 2.0]]])
    >>> labels = torch.tensor([[[0, 0], [0, 1]]])
    >>> candidates = torch.tensor([[[1, 0], [1, 1]]])
    >>> loss = cdmr_loss(pair_logits, cause_logits, labels, candidates)
    >>> print(f"{loss:.4f}")  # 0.05 · exp(0.5 - 0.8808) - (0.5 - 0.5)
    0.0342
    """
    _check(
        pair_logits=pair_logits,
        cause_logits=cause_logits,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask,
    )
    if top_k is not None and not (type(top_k) is int and top_k > 0):
        raise InputError(f"top_k: is {top_k!r}, expected a whole number from 1, or None for all")
    margin: float | torch.Tensor = _number("base_margin", base_margin)
    gold, candidates = _gold(pair_labels, candidate_mask)
    p = _log_odds(pair_logits).masked_fill(~candidates, 0).sigmoid()
    # q may be NaN for an utterance outside every candidate; such a q reaches no triple.
    q = _log_odds(cause_logits.detach()).sigmoid()

    # [b, n, top_k]. A stable sort, unlike `topk`, puts the earlier of equal columns first.
    hard = candidates & ~gold
    order = p.masked_fill(~hard, -math.inf).argsort(stable=True, descending=True)
    columns = order[..., :top_k]
    hard, p_hard, q_hard = (x.gather(-1, columns) for x in (hard, p, q[:, None].expand(p.shape)))
    if adaptive_margin:
        margin = margin * (q_hard[:, :, None] - q[:, None, :, None]).exp()
    violation = margin - (p[..., None] - p_hard[:, :, None])  # [b, i, j+, j-]
    return _masked_mean(violation.relu(), gold[..., None] & hard[:, :, None])


def ccps_loss(
    corrupted_pair_logits: torch.Tensor,
    clean_pair_logits: torch.Tensor,
    pair_labels: torch.Tensor,
    candidate_mask: torch.Tensor,
    *,
    corruption_weight: float = 0.75,
    alignment_weight: float = 0.2,
) -> torch.Tensor:
    """Returns the corrupted-context pair stability loss (eq. 14-15), as `losses.ccps_loss`.

    Args:
      corrupted_pair_logits: s̃, [b, n, n, 2]. The only argument that a gradient flows to.
      clean_pair_logits: s, [b, n, n, 2]; used as if detached.
      pair_labels: [b, n, n]; gold pairs outside the candidates are ignored.
      candidate_mask: V, [b, n, n].
      corruption_weight: λ_cor.
      alignment_weight: λ_ali.

    Returns:
      Scalar: float64 if logits are, otherwise float32.

    >>> corrupted, clean = torch.tensor([[[[0.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    >>> loss = ccps_loss(corrupted, clean, torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    >>> print(f"{loss:.4f}")  # 0.75 · log 2 + 0.2 · 2 · (0.8808 - 0.5)²
    0.5779
    """
    _check(
        corrupted_pair_logits=corrupted_pair_logits,
        clean_pair_logits=clean_pair_logits,
        pair_labels=pair_labels,
        candidate_mask=candidate_mask,
    )
    corruption_weight = _number("corruption_weight", corruption_weight)
    alignment_weight = _number("alignment_weight", alignment_weight)
    gold, candidates = _gold(pair_labels, candidate_mask)
    corrupted = _log_odds(corrupted_pair_logits).masked_fill(~candidates, 0)
    clean = _log_odds(clean_pair_logits.detach()).masked_fill(~candidates, 0)
    log_likelihood = logsigmoid(torch.where(gold, corrupted, -corrupted))
    distance = 2 * (corrupted.sigmoid() - clean.sigmoid()).square()  # of both classes
    cross_entropy = _masked_mean(-log_likelihood, candidates)
    return corruption_weight * cross_entropy + alignment_weight * _masked_mean(distance, candidates)


def gold_utterances(pair_labels: torch.Tensor) -> torch.Tensor:
    """Returns G, the utterances that take part in a gold pair, as emotion or as cause (eq. 12).

    Args:
      pair_labels: [b, n, n], row = emotion, column = cause; true or above 0 for every gold pair,
        candidate or not. Anything else, such as a negative index to ignore or NaN, is none.

    Returns:
      bool [b, n].

    >>> gold_utterances(torch.tensor([[[0, 0, 0], [0, 0, 0], [1, 0, 0]]]))
    tensor([[ True, False,  True]])
    """
    _check(pair_labels=pair_labels)
    gold = pair_labels > 0
    return gold.any(-1) | gold.any(-2)


def corrupt_context(
    utterances: torch.Tensor,
    protected: torch.Tensor,
    *,
    rate: float,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Returns h̃: h_t if t is protected, otherwise 0 with probability ρ, independently (eq. 13).

    Args:
      utterances: h, [b, n, d].
      protected: G, [b, n], bool or 0/1.
      rate: ρ.
      generator: may be on another device. None: torch's global one of the device of `utterances`,
        which `torch.manual_seed` seeds and which gradient checkpointing restores. It restores no
        other generator.

    Returns:
      [b, n, d] with the dtype and the device of `utterances`. A zeroed row is 0 even if it held
      NaN, and passes no gradient; every other row passes its own.

    >>> _ = torch.manual_seed(0)
    >>> corrupt_context(torch.ones(1, 6, 1), torch.tensor([[1, 1, 0, 0, 0, 0]]), rate=0.5)[0, :, 0]
    tensor([1., 1., 0., 0., 0., 1.])
    """
    _check(utterances=utterances, protected=protected)
    _check_values("protected", protected)
    rate = _number("rate", rate, 1)
    device = utterances.device
    draws = torch.rand(
        protected.shape, generator=generator, device=generator.device if generator else device
    )
    zeroed = (draws < rate).to(device) & ~protected.bool()
    return utterances.masked_fill(zeroed[..., None], 0)


def _gold(
    pair_labels: torch.Tensor, candidate_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the gold candidates and the candidates, as bool."""
    _check_values("candidate_mask", candidate_mask)
    candidates = candidate_mask.bool()
    _check_values("pair_labels", pair_labels, candidates)
    return candidates & (pair_labels > 0), candidates


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Returns s[1] - s[0], whose sigmoid is softmax(s)[1], in at least float32.

    Fill what is masked before the sigmoid: masking only its result would leave 0 · NaN in the
    gradient. A sigmoid also takes a tenth of the time of a softmax over two classes.
    """
    no, yes = logits.to(torch.promote_types(logits.dtype, torch.float32)).unbind(-1)
    return yes - no


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns the mean of `values` where `mask` is True; 0 if it never is."""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _check(**tensors: torch.Tensor) -> None:
    """Refuses what would be broadcast or read wrongly."""
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor):
            hint = "; without a classifier of causes, pass zeros" if name == "cause_logits" else ""
            raise InputError(f"{name}: is {type(x).__name__}, expected a torch.Tensor{hint}")
    check_shapes(**tensors)
    for name, x in tensors.items():
        if name.endswith("logits") and not x.is_floating_point():
            raise InputError(f"{name}: is {x.dtype}, expected logits of a float type")


def _check_values(name: str, x: torch.Tensor, candidates: torch.Tensor | None = None) -> None:
    """Refuses what a conversion to bool would turn into something else, among the candidates.

    Such are a mask that is added to logits, 0 and -inf, and smoothed labels.
    """
    if x.dtype == torch.bool:
        return
    wrong = (x != 0) & (x != 1)
    if candidates is not None:
        wrong &= candidates
    where = "" if candidates is None else " among the candidates"
    if torch.compiler.is_compiling():
        # Nothing in a graph can depend on a value. On the CPU, where every device's assertion ends.
        torch._assert_async(~wrong.any().cpu(), f"{name}: holds others than bool or 0/1{where}")
    elif wrong.any():
        raise InputError(f"{name}: holds {x[wrong][0].item():g}{where}, expected bool or 0/1")


def _number(name: str, value: float, most: float = math.inf) -> float:
    """Returns a weight or a rate, from 0 to `most`, as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: is {value!r}, expected a number") from None
    if not (0 <= number <= most and number < math.inf):  # `isfinite` would break a graph
        wanted = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        raise InputError(f"{name}: is {number:g}, expected a number {wanted}")
    return number
