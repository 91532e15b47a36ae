"""The examples of docs/trainer.md: the dropout is the same in both calls, and the loss falls."""

import json
import re
import textwrap
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import make_batch
from shared import IMPORTABLE, ROOT, import_or_skip, run_python

PAGE = (ROOT / "docs/trainer.md").read_text(encoding="utf-8")
BATCH = make_batch(3)
FEATURES = np.random.default_rng(0).normal(size=(*BATCH["utterances"].shape, 5)).astype(np.float32)
LABELS, CANDIDATES = BATCH["labels"] > 0, BATCH["candidates"]


def example(*headings):
    """Runs the code under the headings and returns its names."""
    names = {}
    for heading in headings:
        section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            exec(block, names)
    return names


def test_the_check_of_the_orientation():
    (check,) = re.findall(r"```python\n(.*?assert.*?)```", PAGE.split("\n## ")[0], re.DOTALL)
    labels = np.zeros((1, 4, 4))
    labels[0, 3 - 1, 2 - 1] = 1  # [emotion, cause]
    for array in (jnp.asarray, import_or_skip("torch").tensor):
        exec(textwrap.dedent(check), {"pair_labels": array(labels)})
        with pytest.raises(AssertionError):
            exec(textwrap.dedent(check), {"pair_labels": array(labels.transpose(0, 2, 1))})


def only(names, loss):
    """Makes a step return `loss` of the corrupted and the clean pair logits, and nothing else."""
    names["pair_cross_entropy"] = names["cdmr_loss"] = lambda *_: 0.0
    names["ccps_loss"] = loss


def check(start):
    """`start()` returns the names of a new example and a function (labels, key) -> loss."""
    _, step = start()
    losses = [float(step(LABELS, jax.random.key(i))) for i in range(60)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    names, step = start()
    only(names, lambda corrupted, clean, *_: abs(corrupted - clean).sum())
    everything, nothing = np.ones_like(LABELS), np.zeros_like(LABELS)
    assert step(everything, jax.random.key(0)) == 0, "other dropout in the second call"
    assert step(nothing, jax.random.key(0)) > 0, "nothing is corrupted"
    names, step = start()
    # Of no gradient, so that the parameters stay as they are.
    only(names, lambda corrupted, *_: (1000 * corrupted).round().sum())
    one, other = (step(everything, jax.random.key(i)) for i in range(2))
    assert one != other, "no dropout, or the same in every step"


@pytest.mark.slow
def test_linen():
    def start():
        names = example("JAX", "Flax Linen")
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
        params = names["model"].init(keys, FEATURES)["params"]
        names["optimizer"] = optax.adam(1e-2)
        state = [params, names["optimizer"].init(params)]

        def step(labels, key):
            *state[:], loss = names["step"](*state, FEATURES, labels, CANDIDATES, key)
            return loss

        return names, step

    check(start)


@pytest.mark.slow
def test_nnx():
    from flax import nnx

    def start():
        names = example("JAX", "Flax NNX")
        model = names["Model"](FEATURES.shape[-1], nnx.Rngs(params=0, dropout=1))
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        arrays = jnp.asarray(FEATURES)
        return names, lambda labels, key: names["step"](
            model, optimizer, arrays, labels, CANDIDATES, key
        )

    check(start)


@pytest.mark.slow
def test_torch():
    torch = import_or_skip("torch")

    from torch_scorer import Scorer

    def start():
        names = example("PyTorch")
        torch.manual_seed(0)
        scorer = Scorer(dropout=0.1)
        optimizer = torch.optim.Adam(scorer.parameters(), 1e-2)
        h, cause = torch.tensor(FEATURES), torch.zeros(*FEATURES.shape[:2], 2)

        def step(labels, _):
            masks = torch.tensor(labels), torch.tensor(CANDIDATES)
            pair_logits, loss = names["rpcl_loss"](scorer, h, cause, *masks)
            assert pair_logits.requires_grad, "for the supervised loss"
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return names, step

    check(start)


def test_torch_drops_out_the_same_in_both_calls_and_other_values_in_the_next_step():
    torch = import_or_skip("torch")
    names, seen = example("PyTorch"), []
    names["ccps_loss"] = lambda corrupted, clean, *_: seen.append((corrupted, clean)) or 0.0
    h, cause = torch.tensor(FEATURES), torch.zeros(*FEATURES.shape[:2], 2)
    mask = torch.tensor(CANDIDATES)
    dropout = torch.nn.Dropout(0.5)

    def scorer(h):
        x = dropout(h[..., :2])
        return x[:, :, None] + x[:, None]

    everything = torch.ones_like(mask)
    for labels in (everything, everything, torch.zeros_like(mask)):
        names["rpcl_loss"](scorer, h, cause, labels, mask)
    (first, clean), (second, _), (corrupted, uncorrupted) = seen
    assert torch.equal(first, clean), "every utterance is protected"
    assert not torch.equal(first, second)
    assert not torch.equal(corrupted, uncorrupted)


def test_the_mean_over_ranks(monkeypatch):
    """Two shards of unequal counts, averaged as DistributedDataParallel does, equal the whole."""
    torch = import_or_skip("torch")
    names = example("PyTorch")
    x = {k: torch.tensor(v) for k, v in BATCH.items()}
    whole = [x["pair"], x["corrupted"], x["cause"], x["labels"], x["candidates"]]
    ranks = [[part[s] for part in whole] for s in (slice(0, 1), slice(1, None))]
    counted = [names["counts"](labels, mask, top_k=2) for *_, labels, mask in ranks]

    def losses(pair, corrupted, cause, labels, mask):
        return [
            names["cdmr_loss"](pair, cause, labels, mask, top_k=2, base_margin=0.5),
            names["ccps_loss"](corrupted, pair, labels, mask),
        ]

    monkeypatch.setattr(names["distributed"], "get_world_size", lambda: 2)
    for term in range(2):
        total = counted[0][term] + counted[1][term]
        monkeypatch.setattr(names["distributed"], "all_reduce", lambda x, t=total: x.copy_(t))
        parts = [losses(*ranks[r])[term] for r in range(2)]
        mean = sum(names["mean_over_ranks"](parts[r], counted[r][term]) for r in range(2)) / 2
        wanted = losses(*whole)[term]
        assert mean.item() == pytest.approx(wanted.item(), abs=1e-6)
        assert sum(parts).item() / 2 != pytest.approx(wanted.item(), abs=1e-4)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("calls", [1, 2])
def test_two_ranks_of_distributed_data_parallel_have_the_gradients_of_one(tmp_path, calls):
    import_or_skip("torch")

    def rank(number, ranks):
        folder = tmp_path / str(ranks)
        folder.mkdir(exist_ok=True)
        arguments = ROOT / "tests/ddp_rank.py", number, ranks, folder, calls
        return run_python(*arguments, environment=IMPORTABLE).stdout

    with ThreadPoolExecutor() as pool:
        printed = list(pool.map(rank, (0, 0, 1), (1, 2, 2)))
    (_, wanted), (first, gradients), (second, same) = (json.loads(text) for text in printed)
    assert first != second
    assert len(wanted) == {1: 8, 2: 6}[calls]
    for one, other, third in zip(wanted, gradients, same, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
        np.testing.assert_allclose(third, other, atol=1e-7)
        assert np.abs(one).max() > 1e-5
    assert max(np.abs(one).max() for one in wanted) > 1e-3
