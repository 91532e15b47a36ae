"""Each objective against the losses of tests/reference.py, mostly with a stand-in for the model."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from reference import (
    make_batch,
    reference_ccps,
    reference_cdmr,
    reference_cross_entropy,
    reference_supervised,
    reference_triples,
)
from shared import tiny_config

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.corruption import corrupt_context
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.models.ecpe import Outputs
from rpcl_jax.objective import Objective, objective_loss
from rpcl_jax.run.base_config import OBJECTIVES
from rpcl_jax.run.config import build_model, objective_of
from rpcl_jax.run.text_encoder import load_text_encoder

# The table of docs/method.md, "Objectives": ranking, margin, negatives, corruption, corrupted CE,
# alignment; then, by field, the weights of terms that are not the paper's.
TABLE = {
    "base": (False, None, None, None, False, False),
    "rpcl": (True, "adaptive", "top-k", "protected", True, True),
    "fixed_margin": (True, "fixed", "top-k", None, False, False),
    "utterance_dropout": (False, None, None, "unprotected", False, True),
    "pair_weight": (False, None, None, "of nothing", True, True),
    "cdmr": (True, "adaptive", "top-k", None, False, False),
    "ccps": (False, None, None, "protected", True, True),
    "no_alignment": (True, "adaptive", "top-k", "protected", True, False),
    "no_corrupted_ce": (True, "adaptive", "top-k", "protected", False, True),
    "no_adaptive_margin": (True, "fixed", "top-k", "protected", True, True),
    "no_top_k": (True, "adaptive", "all", "protected", True, True),
}


class Arrays(NamedTuple):
    """What an objective reads of a batch, and what `FakeModel` answers."""

    h: jax.Array  # [b, n, 2]
    emotion: jax.Array
    cause: jax.Array
    pair: jax.Array
    emotion_labels: jax.Array
    cause_labels: jax.Array
    pair_labels: jax.Array
    utterance_mask: jax.Array
    candidate_mask: jax.Array


class FakeModel:
    """In place of the model: pair logits that are linear in h. Keeps how it was called."""

    def __init__(self):
        self.calls = []

    def apply(self, variables, *inputs, deterministic, rngs, method=None):
        self.calls.append((method, deterministic, rngs))
        *own, batch = inputs
        (h,) = own or [batch.h]
        pair = pair_logits(variables["params"], batch.pair, h)
        return pair if method == "score_pairs" else Outputs(h, batch.emotion, batch.cause, pair)


def pair_logits(weight, pair, h):
    return weight * pair + h[:, :, None] - 2 * h[:, None]


def random_arrays(lengths=(5, 4, 5, 1, 0)):
    """A batch as tests/reference.py has it, with h, and the same for `FakeModel`."""
    x = make_batch(1, "all", lengths=lengths)
    rng = np.random.default_rng(2)
    x["h"] = rng.normal(size=(*x["cause"].shape[:2], 2)).astype(np.float32)
    x["labels"] = (rng.random(x["labels"].shape) < 0.07).astype(int)  # few, for bystanders
    masks = x["labels"], x["utterances"], x["candidates"]
    own = [x[name] for name in ("h", "emotion", "cause", "pair", "emotion_labels", "cause_labels")]
    return x, Arrays(*map(jnp.asarray, [*own, *masks]))


def reference_terms(x, objective, key, weight=1.0):
    """The terms of an objective and their sum for `FakeModel`, by tests/reference.py."""
    labels = x["labels"].astype(bool)
    protected = (labels.any(1) | labels.any(2)) & objective.protect_gold
    corrupted = corrupt_context(key, x["h"], protected, rate=objective.corruption_rate)
    x = x | {
        "corrupted": pair_logits(weight, x["pair"], np.asarray(corrupted)),
        "pair": pair_logits(weight, x["pair"], x["h"]),
    }
    triples = reference_triples(
        x, objective.top_k, objective.base_margin, objective.adaptive_margin
    )
    weights = objective.corruption_weight, objective.alignment_weight
    terms = {
        "supervised": reference_supervised(x),
        "ranking": reference_cdmr(x, triples),
        "stability": reference_ccps(x, x["pair"], *weights),
    }
    loss = terms["supervised"] + objective.row_weight * terms["ranking"] + terms["stability"]
    return terms | {"loss": loss}


def test_every_objective_is_in_the_table():
    assert set(OBJECTIVES) == set(TABLE)


@pytest.mark.slow
def test_an_objective_is_its_row_of_the_table():
    x, batch = random_arrays()
    key, found = jax.random.key(5), {}
    for name, row in TABLE.items():
        ranking, margin, negatives, corruption, corrupted_ce, alignment, *others = row
        objective = objective_of(tiny_config(name))
        # With fewer than 8 candidates in a row, the 8 hardest are all of them.
        assert objective.top_k == (None if negatives == "all" else 8)
        objective = objective._replace(top_k=objective.top_k and 1)
        loss, _ = objective_loss(objective, FakeModel(), jnp.float32(1), batch, None, key)
        expected = Objective(
            row_weight=0.3 * ranking,
            base_margin=0.05,
            adaptive_margin=margin != "fixed",
            top_k=None if negatives == "all" else 1,
            corruption_rate=0.0 if corruption == "of nothing" else 0.3,
            protect_gold=corruption != "unprotected",
            corruption_weight=0.75 * corrupted_ce,
            alignment_weight=0.2 * alignment,
            **dict(*others),
        )
        total = reference_terms(x, expected, key)["loss"]
        np.testing.assert_allclose(loss, total, rtol=1e-5, err_msg=name)
        found[name] = total
    assert min(np.diff(sorted(found.values()))) > 1e-4, "or two objectives could be mixed up"


PAPER = Objective(0.3, 0.05, True, 8, 0.30, True, 0.75, 0.2)


def test_the_defaults_are_the_papers():
    assert objective_of(tiny_config()) == PAPER


def test_terms_of_weight_zero_are_not_computed():
    _, batch = random_arrays()
    for changes, names in (
        ({}, {"loss", "supervised", "ranking", "stability"}),
        ({"row_weight": 0.0}, {"loss", "supervised", "stability"}),
        ({"corruption_weight": 0.0}, {"loss", "supervised", "ranking", "stability"}),
        ({"alignment_weight": 0.0}, {"loss", "supervised", "ranking", "stability"}),
        (
            {"corruption_weight": 0.0, "alignment_weight": 0.0},
            {"loss", "supervised", "ranking"},
        ),
    ):
        model = FakeModel()
        loss = partial(objective_loss, PAPER._replace(**changes), model)
        _, terms = jax.eval_shape(loss, jnp.float32(1), batch, None, jax.random.key(0))
        assert terms.keys() == names
        assert len(model.calls) == 1 + ("stability" in names)


@pytest.mark.slow
@pytest.mark.parametrize("protect", [True, False])
def test_every_number_reaches_its_term(protect):
    x, batch = random_arrays()
    objective = Objective(0.7, 0.4, True, 2, 0.6, protect, 0.35, 1.5)
    key = jax.random.key(6)
    loss, terms = objective_loss(objective, FakeModel(), jnp.float32(0.8), batch, None, key)
    expected = reference_terms(x, objective, key, weight=0.8)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
    assert loss == terms["loss"]


def test_the_two_passes_share_dropout_or_have_none():
    _, batch = random_arrays()
    for key in (None, jax.random.key(1)):
        model = FakeModel()
        objective_loss(PAPER, model, jnp.float32(1), batch, key, jax.random.key(2))
        (clean, *how), (corrupted, *same) = model.calls
        assert (clean, corrupted) == (None, "score_pairs")
        assert how == same == [key is None, None if key is None else {"dropout": key}]


@pytest.mark.slow
def test_the_loss_is_that_of_the_dialogues_of_all_devices():
    # Gold pairs, candidates and utterances lie on some of the devices only.
    _, batch = random_arrays((5, 4, 0, 0, 3, 1, 5, 5))
    batch = batch._replace(pair_labels=batch.pair_labels.at[2:6].set(0))
    loss = partial(objective_loss, PAPER._replace(top_k=2), FakeModel())
    key = jax.random.key(2)
    _, wanted = loss(jnp.float32(1), batch, None, key)
    sharded = jax.shard_map(
        lambda batch: loss(jnp.float32(1), batch, None, key, "data")[1],
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=P("data"),
        out_specs=P(),
    )
    terms = jax.jit(sharded)(batch)
    assert terms.keys() == wanted.keys() >= {"ranking", "stability"}
    for name, value in wanted.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)


def test_pair_weight_only_weighs_the_pairs_more():
    x, batch = random_arrays()
    objective, key = objective_of(tiny_config("pair_weight")), jax.random.key(5)
    loss, _ = objective_loss(objective, FakeModel(), jnp.float32(1), batch, None, key)
    pair = pair_logits(1.0, x["pair"], x["h"])
    expected = reference_supervised(x | {"pair": pair})
    expected += 0.75 * reference_cross_entropy(pair, x["labels"], x["candidates"])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# With the model.


@pytest.fixture(scope="module")
def setup():
    splits, tables = synthetic.generate_corpus(3, sizes={"train": 16})
    config = tiny_config()
    encoder = load_text_encoder(config, splits["train"])
    model = build_model(config, encoder.config, EMOTIONS)
    _, batch = Batches(splits["train"], encoder.tokenizer, tables, config, 1, EMOTIONS).make(
        np.arange(16)
    )
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    params = jax.tree.map(lambda x: 1.5 * x, params)
    return model, params, batch


@pytest.mark.slow
def test_without_corruption_the_two_passes_agree_dropout_and_all(setup):
    model, params, batch = setup
    objective = PAPER._replace(row_weight=0, corruption_rate=0.0, corruption_weight=0.0)
    loss = jax.jit(partial(objective_loss, objective, model))
    dropped, terms = loss(params, batch, jax.random.key(1), jax.random.key(2))
    assert terms["stability"] == 0.0
    other, _ = loss(params, batch, jax.random.key(3), jax.random.key(2))
    assert abs(dropped - other) > 1e-4  # there is dropout
