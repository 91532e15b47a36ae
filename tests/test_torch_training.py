"""RPCL's losses at work in PyTorch: they train a small scorer, and what they need."""

import subprocess
import sys

import pytest
from shared import ENVIRONMENT, ROOT, import_or_skip, run_python

torch = import_or_skip("torch")

from rpcl_jax.torch_losses import ccps_loss, cdmr_loss, corrupt_context, gold_utterances

B, N, D = 16, 6, 8
CANDIDATES = torch.ones(N, N, dtype=torch.bool).tril().repeat(B, 1, 1)


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads wait busily for each other, which takes long where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Scorer(torch.nn.Module):
    """Scores pairs from both utterances and from the mean of their dialogue."""

    def __init__(self):
        super().__init__()
        self.row, self.column = torch.nn.Linear(2 * D, 32), torch.nn.Linear(D, 32)
        self.pair, self.cause = torch.nn.Linear(32, 2), torch.nn.Linear(D, 2)

    def forward(self, h):
        rows = self.row(torch.cat([h, h.mean(1, keepdim=True).expand_as(h)], -1))
        return self.pair(torch.tanh(rows[:, :, None] + self.column(h)[:, None]))


def dialogues(seed):
    """Utterances whose first feature tells an emotion and whose second its cause, noisily.

    The mean of the third over the dialogue tells something too, so that context is worth reading.
    """
    random = torch.Generator().manual_seed(seed)
    h = torch.randn(B, N, D, generator=random)
    noise = 0.7 * torch.randn(B, N, N, generator=random)
    context = 3 * h[:, None, None, :, 2].mean(-1)
    labels = (h[:, :, None, 0] + h[:, None, :, 1] + context + noise > 2) & CANDIDATES
    return h, labels.long()  # 0 and 1, as PyTorch's users have them


def trained(terms, steps=80):
    torch.manual_seed(0)
    scorer = Scorer()
    optimizer = torch.optim.Adam(scorer.parameters(), 0.01)
    for step in range(steps):
        h, labels = dialogues(step)
        optimizer.zero_grad()
        terms(scorer, h, scorer(h), labels).backward()
        optimizer.step()
    return scorer


@torch.no_grad()
def gap_and_movement(scorer):
    """On new dialogues: by how much gold exceeds the other pairs of its row, and moves."""
    h, labels = dialogues(1000)
    p = scorer(h).softmax(-1)[..., 1]
    gold, others = labels.bool(), CANDIDATES & ~labels.bool()
    triples = gold[..., None] & others[:, :, None, :]
    gap = (p[..., None] - p[:, :, None, :])[triples].mean().item()
    corrupted = corrupt_context(h, gold_utterances(labels), rate=0.5)
    moved = (scorer(corrupted).softmax(-1)[..., 1] - p).abs()[gold].mean().item()
    return gap, moved


def supervised(scorer, h, pair_logits, labels):
    return torch.nn.functional.cross_entropy(pair_logits[CANDIDATES], labels[CANDIDATES])


def ranking(scorer, h, pair_logits, labels):
    return cdmr_loss(pair_logits, scorer.cause(h), labels, CANDIDATES, base_margin=0.5)


def stability(scorer, h, pair_logits, labels):
    corrupted = corrupt_context(h, gold_utterances(labels), rate=0.5)
    return ccps_loss(scorer(corrupted), pair_logits, labels, CANDIDATES, alignment_weight=100.0)


@pytest.mark.slow
def test_a_scorer_learns_from_the_losses():
    gap_at_first, _ = gap_and_movement(trained(supervised, steps=1))
    gap_of_ranking, _ = gap_and_movement(trained(ranking))
    assert abs(gap_at_first) < 0.1
    assert gap_of_ranking > 0.4, "ranking alone puts gold above the rest"

    gap_base, moved_base = gap_and_movement(trained(supervised))
    gap, _ = gap_and_movement(trained(lambda *x: supervised(*x) + ranking(*x)))
    assert gap > gap_base + 0.05
    _, moved = gap_and_movement(trained(lambda *x: supervised(*x) + stability(*x)))
    assert moved < 0.5 * moved_base


CODE = """
import sys
sys.modules["jax"] = sys.modules["jaxlib"] = None  # to import them is an ImportError now
import torch
from rpcl_jax.torch_losses import ccps_loss, cdmr_loss, corrupt_context, gold_utterances

pair, masks = torch.zeros(1, 2, 2, 2), torch.ones(2, 1, 2, 2)
cdmr_loss(pair, pair[:, 0], *masks), ccps_loss(pair, pair, *masks)
corrupt_context(pair[:, 0], gold_utterances(masks[0]), rate=0.3)
"""


def test_without_jax():
    run_python("-c", CODE)


def test_without_pytorch():
    code = "import sys; sys.modules['torch'] = None\nimport rpcl_jax.torch_losses"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: rpcl_jax.torch_losses requires PyTorch")
    assert last.endswith("pip install torch")
