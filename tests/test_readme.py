"""The README's code runs, and its commands name what exists."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import make_batch, reference_ccps, reference_cdmr, reference_triples
from shared import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_losses_in_someone_elses_trainer():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    names = {}
    exec(block, names)
    batch = make_batch(3)
    b, n = batch["utterances"].shape
    h = jnp.asarray(np.random.default_rng(0).normal(size=(b, n, 5)), jnp.float32)
    key = jax.random.key(0)

    def loss(weight, cause_logits):
        def score_pairs(h):
            mixed = h + h.mean(axis=1, keepdims=True)
            return jnp.einsum("bid,dec,bje->bijc", mixed, weight, mixed)

        labels, candidates = batch["labels"] > 0, batch["candidates"]
        terms = names["rpcl_loss"](score_pairs, h, cause_logits, labels, candidates, key)
        return terms, score_pairs

    weight = 0.3 * jax.random.normal(jax.random.key(1), (5, 5, 2))
    value, score_pairs = loss(weight, batch["cause"])
    bystanders = ~(batch["labels"].any(1) | batch["labels"].any(2))
    corrupted = names["corrupt_context"](key, h, ~bystanders, rate=0.30)
    reference = batch | {
        "pair": np.asarray(score_pairs(h)),
        "corrupted": np.asarray(score_pairs(corrupted)),
    }
    triples = reference_triples(reference, 8, 0.05, True)
    expected = 0.3 * reference_cdmr(reference, triples)
    expected += reference_ccps(reference, reference["pair"], 0.75, 0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)

    step = jax.jit(jax.grad(lambda weight: loss(weight, batch["cause"])[0]))
    for _ in range(20):
        weight -= 0.1 * step(weight)
    assert loss(weight, batch["cause"])[0] < 0.9 * value


def test_its_commands_name_files_that_exist():
    files = set(re.findall(r"(?:configs|rpcl_jax|tools|docs|results)/\w+\.\w+", README))
    assert len(files) >= 8
    for name in files:
        assert (ROOT / name).is_file(), name
