"""One rank of DistributedDataParallel: prints RPCL's losses and their gradients.

python ddp_rank.py RANK RANKS FOLDER CALLS; FOLDER is where the ranks meet. With two CALLS, the
wrapped module is the scorer, called for each view; with one, a whole model, which returns both.
"""

import json
import sys

import torch
from reference import make_batch
from test_trainer_docs import FEATURES, example
from torch import distributed
from torch_scorer import Scorer


class Model(torch.nn.Module):
    """An encoder and a scorer, which it calls twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.scorer = torch.nn.Linear(5, 5), Scorer()

    def forward(
        self, features: torch.Tensor, zeroed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.encoder(features)
        return self.scorer(h), self.scorer(h.masked_fill(zeroed, 0))


def main() -> None:
    rank, ranks, calls = (int(sys.argv[i]) for i in (1, 2, 4))
    store = f"file://{sys.argv[3]}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    torch.manual_seed(0)
    model = Scorer() if calls == 2 else Model()
    trained = torch.nn.parallel.DistributedDataParallel(model)
    names, x = example("PyTorch"), {k: torch.tensor(v) for k, v in make_batch(3).items()}
    # Ranks with unequal counts; a single one has all dialogues.
    mine = slice(None) if ranks == 1 else (slice(0, 1), slice(1, None))[rank]
    features, cause, labels, candidates = (
        each[mine] for each in (torch.tensor(FEATURES), x["cause"], x["labels"], x["candidates"])
    )
    zeroed = (torch.arange(features.shape[1]) == 0)[:, None]
    if calls == 2:
        clean, corrupted = trained(features), trained(features.masked_fill(zeroed, 0))
    else:
        clean, corrupted = trained(features, zeroed)
    triples, cells = names["counts"](labels, candidates, top_k=2)
    over_ranks = names["mean_over_ranks"]
    ranking = names["cdmr_loss"](clean, cause, labels, candidates, top_k=2, base_margin=0.5)
    stability = names["ccps_loss"](corrupted, clean, labels, candidates)
    (over_ranks(ranking, triples) + over_ranks(stability, cells)).backward()
    gradients = [p.grad.tolist() for p in model.parameters()]
    print(json.dumps([[ranking.item(), stability.item()], gradients]))


if __name__ == "__main__":
    main()
