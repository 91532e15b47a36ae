"""One rank of DistributedDataParallel: prints the gradients of RPCL's losses in its scorer.

python ddp_rank.py RANK RANKS FOLDER; FOLDER is where the ranks meet.
"""

import json
import sys

import torch
from reference import make_batch
from test_trainer_docs import FEATURES, example
from torch import distributed
from torch_scorer import Scorer


def main() -> None:
    rank, ranks = int(sys.argv[1]), int(sys.argv[2])
    store = f"file://{sys.argv[3]}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    torch.manual_seed(0)
    scorer = Scorer()
    trained = torch.nn.parallel.DistributedDataParallel(scorer)
    names, x = example("PyTorch"), {k: torch.tensor(v) for k, v in make_batch(3).items()}
    h, corrupted = torch.tensor(FEATURES), torch.tensor(FEATURES)
    corrupted[:, 0] = 0
    # Ranks with unequal counts; a single one has all dialogues.
    mine = slice(None) if ranks == 1 else (slice(0, 1), slice(1, None))[rank]
    h, corrupted, cause, labels, candidates = (
        each[mine] for each in (h, corrupted, x["cause"], x["labels"], x["candidates"])
    )
    pair = trained(h)
    triples, cells = names["counts"](labels, candidates, top_k=2)
    over_ranks = names["mean_over_ranks"]
    ranking = names["cdmr_loss"](pair, cause, labels, candidates, top_k=2, base_margin=0.5)
    stability = names["ccps_loss"](trained(corrupted), pair, labels, candidates)
    (over_ranks(ranking, triples) + over_ranks(stability, cells)).backward()
    gradients = [p.grad.tolist() for p in scorer.parameters() if p.grad is not None]
    print(json.dumps([ranking.item() * stability.item(), gradients]))


if __name__ == "__main__":
    main()
