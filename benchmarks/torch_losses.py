"""How long RPCL's losses take in a PyTorch trainer, beside the same equations in plain PyTorch.

    python -m benchmarks.torch_losses

Forward and backward of both losses for one batch of dialogues as long as ECF's longest. The plain
port is what someone writes who knows PyTorch well: no loop, `topk` over masked cells.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

try:
    import torch
    from torch.nn.functional import cross_entropy
except ImportError as error:
    raise SystemExit(f"torch_losses: requires PyTorch ({error}); pip install torch") from error

from benchmarks import measure
from benchmarks.measure import Figure

_PROCESSES, _TABLE = measure.define_flags()
_DIALOGUES, _UTTERANCES = 32, 35
_GOLD = 0.03  # share of the candidates, as in ECF
_SECONDS = 3.0  # for which batches are computed


class Batch(NamedTuple):
    """Logits, labels and candidates of dialogues, as `rpcl_jax.torch_losses` takes them."""

    pair: torch.Tensor
    corrupted: torch.Tensor
    cause: torch.Tensor
    labels: torch.Tensor
    candidates: torch.Tensor


Losses = Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    parts = {name: partial(_time, losses) for name, losses in IMPLEMENTATIONS.items()}
    measure.run_benchmark("torch_losses", _measure, parts, lambda: None)


def _measure() -> None:
    starts = {name: partial(measure.run_part, "torch_losses", name) for name in IMPLEMENTATIONS}
    ended = measure.alternated(starts, _PROCESSES.value)
    seconds = {name: [one.printed["seconds"] for one in of] for name, of in ended.items()}
    ours, port = (np.array(seconds[name]) for name in IMPLEMENTATIONS)
    figures = [Figure(name, "ms", [1e3 * s for s in of]) for name, of in seconds.items()]
    figures.append(
        Figure("ours / plain port", "", list(ours / port), np.median(ours) / np.median(port))
    )
    device = f"PyTorch {torch.__version__}"
    config = f"{_DIALOGUES} dialogues of {_UTTERANCES} utterances"
    measure.say("torch_losses", config, device, figures, "", _TABLE.value)


def _time(losses: Losses) -> dict[str, Any]:
    """Returns the median seconds of a forward and a backward pass."""
    batch = make_batch(_DIALOGUES, _UTTERANCES)

    def step() -> None:
        cdmr, ccps = losses(batch)
        torch.autograd.grad(0.3 * cdmr + ccps, (batch.pair, batch.corrupted))

    step()  # compiles
    taken: list[float] = []
    ends = time.perf_counter() + _SECONDS
    while time.perf_counter() < ends:
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return {"seconds": float(np.median(taken))}


def make_batch(b: int, n: int) -> Batch:
    """Returns random logits and labels of b dialogues of n utterances each."""
    random = torch.Generator().manual_seed(0)
    pair, corrupted = (torch.randn(b, n, n, 2, generator=random).requires_grad_() for _ in range(2))
    cause = torch.randn(b, n, 2, generator=random)
    candidates = torch.ones(n, n, dtype=torch.bool).tril().repeat(b, 1, 1)
    labels = (torch.rand(b, n, n, generator=random) < _GOLD) & candidates
    return Batch(pair, corrupted, cause, labels, candidates)


def ours(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    from rpcl_jax.torch_losses import ccps_loss, cdmr_loss  # not in the port's process

    pair, corrupted, cause, labels, candidates = batch
    return (
        cdmr_loss(pair, cause, labels, candidates),
        ccps_loss(corrupted, pair, labels, candidates),
    )


def plain_port(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    pair, corrupted, cause, labels, candidates = batch
    p, q = pair.softmax(-1)[..., 1], cause.detach().softmax(-1)[..., 1]
    hardest, columns = p.masked_fill(labels | ~candidates, -torch.inf).topk(8)  # [b, n, k]
    margin = (
        0.05 * (q[:, None].expand_as(p).gather(-1, columns)[:, :, None] - q[:, None, :, None]).exp()
    )
    violation = (margin - (p[..., None] - hardest[:, :, None])).relu()  # [b, n, n, k]
    cdmr = violation[labels[..., None] & (hardest > -torch.inf)[:, :, None]].mean()
    corrupted, clean = corrupted[candidates], pair.detach()[candidates]
    moved = (corrupted.softmax(-1) - clean.softmax(-1)).square().sum(-1).mean()
    ccps = 0.75 * cross_entropy(corrupted, labels[candidates].long()) + 0.2 * moved
    return cdmr, ccps


IMPLEMENTATIONS: dict[str, Losses] = {"ours": ours, "plain port": plain_port}


if __name__ == "__main__":
    main()
