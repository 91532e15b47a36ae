"""RPCL's losses and its corruption for a trainer in PyTorch: `rpcl_jax.losses` on torch tensors.

JAX computes the losses and their gradients; to PyTorch each loss is one differentiable operation.
Requires PyTorch, which nothing else in training or prediction imports.

Tensors may have any float dtype, strides and device. Labels and masks are bool or 0/1. Inputs are
copied and padded to few shapes (`_padded_size`), so that JAX compiles rarely: half a second to a
second for each new shape. Neither library sees the other's memory after a call returns.

- The gradient is computed in the forward pass, unless none is needed, and is first order only.
- Each loss is the mean over the tensors it is given; `docs/trainer.md` shows the mean over the
  ranks of DistributedDataParallel.
- Tensors on a device that JAX does not have are copied to the CPU and the results back.
- On GPUs, JAX would by default reserve three quarters of the memory when it starts. Importing this
  module prevents that by XLA_PYTHON_CLIENT_PREALLOCATE=false, unless the variable is set; it is too
  late, and a warning says so, if JAX has already started.
- A process that is forked after the first call cannot call these functions.
"""

import contextlib
import functools
import math
import os
import warnings
from collections.abc import Callable
from typing import Any

# Read when JAX first looks for devices, which importing it does not do.
_MEMORY_IS_CHOSEN = "XLA_PYTHON_CLIENT_PREALLOCATE" in os.environ
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from rpcl_jax import corruption, losses  # noqa: E402
from rpcl_jax.errors import InputError  # noqa: E402

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"rpcl_jax.torch_losses requires PyTorch ({error}); pip install torch"
    ) from error

_process: int | None = None  # that made the first call


@torch.compiler.disable
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
    """Returns the confidence-difference margin ranking loss (eq. 5-11), `losses.cdmr_loss`.

    Where `candidate_mask` is False, logits and labels may hold any value, NaN included. The loss is
    0 if no row has both a gold and another candidate.

    Args:
      pair_logits: [b, n, n, 2]; row = emotion, column = cause, class 1 = "j causes i". The only
        argument that a gradient flows to.
      cause_logits: [b, n, 2]; used as if detached.
      pair_labels: [b, n, n]; gold pairs outside the candidates are ignored.
      candidate_mask: V, [b, n, n].
      top_k: hard negatives per row, at least 1, fewer if the row has fewer; None: all negatives.
        Compiled in.
      base_margin: m0.
      adaptive_margin: if False, every margin is m0. Compiled in.

    Returns:
      float32 scalar on the device of `pair_logits`.

    Raises:
      InputError: an argument is not a tensor of the right shape and kind, a mask or the label of a
        candidate is neither 0 nor 1, or a number is wrong.

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
    _check_values("candidate_mask", candidate_mask)
    _check_values("pair_labels", pair_labels, candidate_mask)
    return _loss(
        losses.cdmr_loss,
        (pair_logits, cause_logits, pair_labels > 0, candidate_mask),
        {"base_margin": _number("base_margin", base_margin)},
        (("top_k", top_k), ("adaptive_margin", bool(adaptive_margin))),
    )


@torch.compiler.disable
def ccps_loss(
    corrupted_pair_logits: torch.Tensor,
    clean_pair_logits: torch.Tensor,
    pair_labels: torch.Tensor,
    candidate_mask: torch.Tensor,
    *,
    corruption_weight: float = 0.75,
    alignment_weight: float = 0.2,
) -> torch.Tensor:
    """Returns the corrupted-context pair stability loss (eq. 14-15), `losses.ccps_loss`.

    Where `candidate_mask` is False, logits and labels may hold any value, NaN included.

    Args:
      corrupted_pair_logits: s̃, [b, n, n, 2]. The only argument that a gradient flows to.
      clean_pair_logits: s, [b, n, n, 2]; used as if detached.
      pair_labels: [b, n, n]; gold pairs outside the candidates are ignored.
      candidate_mask: V, [b, n, n].
      corruption_weight: λ_cor.
      alignment_weight: λ_ali.

    Returns:
      float32 scalar on the device of `corrupted_pair_logits`.

    Raises:
      InputError: an argument is not a tensor of the right shape and kind, a mask or the label of a
        candidate is neither 0 nor 1, or a number is wrong.

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
    _check_values("candidate_mask", candidate_mask)
    _check_values("pair_labels", pair_labels, candidate_mask)
    return _loss(
        losses.ccps_loss,
        (corrupted_pair_logits, clean_pair_logits, pair_labels > 0, candidate_mask),
        {
            "corruption_weight": _number("corruption_weight", corruption_weight),
            "alignment_weight": _number("alignment_weight", alignment_weight),
        },
        (),
    )


gold_utterances = corruption.gold_utterances  # of tensors, too


@torch.compiler.disable
def corrupt_context(
    utterances: torch.Tensor,
    protected: torch.Tensor,
    *,
    rate: float,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Returns h̃: h_t if t is protected, otherwise 0 with probability ρ, independently (eq. 13).

    One number below 2³¹ is drawn from the generator; the rest is `corruption.corrupt_context` with
    `jax.random.key` of this number, so padding and device do not change what is zeroed.

    Args:
      utterances: h, [b, n, d].
      protected: G, [b, n], bool or 0/1.
      rate: ρ.
      generator: None: torch's global generator of the CPU, which `torch.manual_seed` seeds and
        which gradient checkpointing restores. It restores no other generator.

    Returns:
      [b, n, d] with the dtype and the device of `utterances`. A zeroed row is 0 even if it held
      NaN, and passes no gradient; every other row passes its own.

    Raises:
      InputError: an argument is not a tensor of the right shape, `protected` is neither bool nor
        0/1, or the rate is wrong.

    >>> _ = torch.manual_seed(0)
    >>> corrupt_context(torch.ones(1, 6, 1), torch.tensor([[1, 1, 0, 0, 0, 0]]), rate=0.5)[0, :, 0]
    tensor([1., 1., 1., 1., 1., 0.])
    """
    _check(utterances=utterances, protected=protected)
    _check_values("protected", protected)
    rate = _number("rate", rate, 1)
    device = "cpu" if generator is None else generator.device
    seed = torch.randint(2**31, (), generator=generator, device=device).item()
    b, n, _ = utterances.shape
    drawn = np.array(_draw(_padded_size(b, 8), _padded_size(n, 4), seed, rate))[:b, :n]
    zeroed = torch.from_numpy(drawn).to(utterances.device) & ~protected.bool()
    return utterances.masked_fill(zeroed[..., None], 0)


class _Loss(torch.autograd.Function):
    """The value of a loss as a function of the logits, whose gradient is known beforehand."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        value_and_gradient: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    ) -> torch.Tensor:
        value, gradient = value_and_gradient()
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return value

    @staticmethod
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor, None]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the losses of rpcl_jax.torch_losses have no second derivatives; take their "
                "gradient without create_graph=True"
            )
        (gradient,) = ctx.saved_tensors
        # Multiplied in float32: a mean's gradient is below what float16 holds until it is scaled.
        return (gradient * factor).to(ctx.dtype), None


def _loss(
    loss: Callable[..., jax.Array],
    tensors: tuple[torch.Tensor, ...],
    weights: dict[str, float],
    switches: tuple[tuple[str, Any], ...],
) -> torch.Tensor:
    """Returns the loss of the tensors, differentiable with respect to the first."""
    logits = tensors[0]
    run = functools.partial(_run, loss, tensors, weights, switches)
    if torch.is_grad_enabled() and logits.requires_grad:
        return _Loss.apply(logits, functools.partial(run, True))
    return run(False)[0]


@torch.no_grad()
def _run(
    loss: Callable[..., jax.Array],
    tensors: tuple[torch.Tensor, ...],
    weights: dict[str, float],
    switches: tuple[tuple[str, Any], ...],
    differentiate: bool,
) -> tuple[torch.Tensor, ...]:
    """Returns the value of the loss and, if asked for, its gradient in float32.

    JAX reads private copies, so neither a change in place nor the end of a tensor can reach it, and
    PyTorch gets copies too. All work on them is done on return: each library's allocator may reuse
    memory at once that the other's kernels still use.
    """
    logits = tensors[0]
    device = _device_of_jax(logits.device)
    b, n = logits.shape[:2]
    dtypes = (torch.float32, torch.float32, torch.bool, torch.bool)
    # PyTorch exports only tensors of the current GPU.
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        padded = [_padded(x, dtype, device) for x, dtype in zip(tensors, dtypes, strict=True)]
        _wait_for_torch(device)
        arrays = [jax.dlpack.from_dlpack(x) for x in padded]
        results = _program(loss, differentiate, switches, arrays, weights)
        value, *gradients = map(torch.from_dlpack, jax.block_until_ready(results))
        copies = tuple(
            x.to(logits.device, copy=True, memory_format=torch.contiguous_format)
            for x in (value, *(gradient[:b, :n, :n] for gradient in gradients))
        )
        _wait_for_torch(device)
    return copies


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _program(
    loss: Callable[..., jax.Array],
    differentiate: bool,
    switches: tuple[tuple[str, Any], ...],
    arrays: list[jax.Array],
    weights: dict[str, float],
) -> tuple[jax.Array, ...]:
    """Weights are not compiled in: they may follow a schedule."""

    def of_logits(logits: jax.Array) -> jax.Array:
        return loss(logits, *arrays[1:], **weights, **dict(switches))

    if not differentiate:
        return (of_logits(arrays[0]),)
    value, pullback = jax.vjp(of_logits, arrays[0])
    return value, *pullback(jnp.ones_like(value))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(b: int, n: int, seed: int, rate: float) -> jax.Array:
    """Returns which of b · n unprotected utterances `corruption.corrupt_context` zeroes."""
    key = jax.random.key(seed)
    kept = corruption.corrupt_context(key, jnp.ones((b, n, 1)), jnp.zeros((b, n)), rate=rate)
    return kept[..., 0] == 0


def _padded_size(size: int, step: int) -> int:
    """Rounds up: to a power of two up to `step`, to a multiple of `step` above it.

    >>> [_padded_size(n, 4) for n in (0, 1, 2, 3, 4, 5, 33)]
    [1, 1, 2, 4, 4, 8, 36]
    """
    return -(-size // step) * step if size > step else 1 << max(size - 1, 0).bit_length()


def _padded(x: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Returns a contiguous copy with b and n rounded up by `_padded_size`.

    Zeros follow, which the candidate mask makes padding that no loss reads.
    """
    b, *rest = x.shape
    shape = [_padded_size(b, 8), *(_padded_size(size, 4) for size in rest)]
    padded = torch.zeros(shape, dtype=dtype, device=device)
    padded[tuple(map(slice, x.shape))] = x
    return padded


@functools.cache
def _device_of_jax(device: torch.device) -> torch.device:
    """Returns the device itself if JAX has it, otherwise the CPU, and then warns once."""
    if device.type == "cpu":
        return device
    if device.type == "cuda":
        try:
            gpus = jax.local_devices(backend="gpu")
        except RuntimeError:  # JAX has no such backend
            gpus = []
        if device.index in {gpu.local_hardware_id for gpu in gpus}:
            return device
    warnings.warn(
        f"JAX does not have {device}, so RPCL's losses are computed on the CPU"
        + (f' (pip install "jax[cuda{_cuda_version()}]")' if device.type == "cuda" else ""),
        stacklevel=2,
    )
    return torch.device("cpu")


def _cuda_version() -> str:
    """The version of CUDA, such as "13", that PyTorch was built for; what JAX needs, too."""
    return (torch.version.cuda or "13").partition(".")[0]


def _wait_for_torch(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _check(**tensors: torch.Tensor) -> None:
    """Refuses what would be broadcast or read wrongly, and a process forked after the first call.

    JAX's threads do not survive a fork, so the call would wait for them for ever.
    """
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise RuntimeError(
            "rpcl_jax.torch_losses was used before this process was forked, which JAX does not "
            'survive; start processes with the method "spawn" or "forkserver"'
        )
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor):
            hint = "; without a classifier of causes, pass zeros" if name == "cause_logits" else ""
            raise InputError(f"{name}: is {type(x).__name__}, expected a torch.Tensor{hint}")
    losses.check_shapes(**tensors)
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
        wrong &= candidates.to(x.device).bool()
    if wrong.any():
        where = "" if candidates is None else " among the candidates"
        raise InputError(f"{name}: holds {x[wrong][0].item():g}{where}, expected bool or 0/1")


def _number(name: str, value: float, most: float = math.inf) -> float:
    """Returns a weight or a rate as a float.

    Raises:
      InputError: it is no number, NaN, infinite, below 0 or above `most`.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: is {value!r}, expected a number") from None
    if not (0 <= number <= most and math.isfinite(number)):
        wanted = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        raise InputError(f"{name}: is {number:g}, expected a number {wanted}")
    return number


def _warn_if_late() -> None:
    try:
        from jax._src import xla_bridge  # nothing public tells whether JAX has started

        started = xla_bridge.backends_are_initialized()
    except (ImportError, AttributeError):
        return  # a JAX that keeps it elsewhere: rather no warning than no losses
    if not _MEMORY_IS_CHOSEN and started and jax.default_backend() == "gpu":
        warnings.warn(
            "JAX started before rpcl_jax.torch_losses was imported, and reserves three quarters of "
            "the GPU's memory; import it first, or set XLA_PYTHON_CLIENT_PREALLOCATE=false",
            stacklevel=2,
        )


_warn_if_late()
