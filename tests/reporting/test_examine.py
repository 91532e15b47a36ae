"""The numbers of `rpcl examine`, against views that are corrupted by hand."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shared import run_python

from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.split_numbers import split_numbers
from rpcl_jax.files import read_json
from rpcl_jax.losses import pair_confidence
from rpcl_jax.reporting.examine import COLUMNS, corruption_effects, examine
from rpcl_jax.run.model_folder import load_model
from rpcl_jax.run.workdir import read_splits


@pytest.mark.slow
def test_rows_are_those_of_the_run(finished):
    result = read_json(finished / "result.json")
    rows = examine(finished)
    assert [(row["run"], row["split"]) for row in rows] == [
        (f"{finished.parent.name}/run", split) for split in ("train", "dev", "test")
    ]
    for row in rows[1:]:
        for metric in ("pair_auprc", "gold_confidence", "gap_hard", "violation_rate_hard"):
            expected = 100 * result[row["split"]][metric]
            assert row[metric] == pytest.approx(expected, rel=1e-4), metric
        severity = row["violation_rate_hard"] / 100 * row["violation_depth_hard"]
        assert severity == pytest.approx(row["severity_hard"])


@pytest.mark.slow
def test_a_run_without_corruption_is_examined_with_it(finished, tmp_path):
    other = shutil.copytree(finished, tmp_path / "run")
    config = read_json(other / "config.json")
    config["run"]["rpcl"]["corruption_rate"] = 0.0
    (other / "config.json").write_text(json.dumps(config))
    weights = other / "model.safetensors"  # which would not be of this config
    facts = json.dumps({"threshold": 0.5})
    save_file(load_file(weights), weights, metadata={"rpcl_jax": facts})
    row, wanted = examine(other)[1], examine(finished)[1]
    assert row | {"run": ""} == wanted | {"run": ""}
    assert row["shift_gold"] > 0


@pytest.mark.slow
def test_what_is_taken_away_is_absent(finished):
    """As if the tables of the run's data said so."""
    (_, dev, _) = examine(finished, ["vision", "audio"])
    assert dev["run"] == f"{finished.parent.name}/run without vision without audio"
    trained = load_model(finished, devices=1)
    batches = read_splits(trained)["dev"]
    tables = {
        name: FeatureTable(
            table.values, {}, table.description, absent=dict.fromkeys(table.row_of_id, "")
        )
        for name, table in batches.examples[0].tables.items()
    }
    batches.examples = [example._replace(tables=tables) for example in batches.examples]
    diagnostics = trained.config.diagnostics
    wanted = split_numbers(trained.score(batches), 0.5, trained.emotions, **diagnostics)
    assert dev["pair_auprc"] == pytest.approx(100 * wanted["pair_auprc"])
    assert dev["pair_auprc"] != examine(finished)[1]["pair_auprc"]


@pytest.mark.slow
def test_what_a_run_does_not_read_cannot_be_taken_away(reads_text):
    with pytest.raises(InputError, match="does not read audio; leave out --without=audio"):
        examine(reads_text, ["audio"])


@pytest.mark.slow
def test_a_corrupted_view_is_the_view_without_bystanders(finished):
    """At rate 1, every bystander is zeroed, so nothing is random."""
    trained = load_model(finished, devices=1)
    batches = read_splits(trained)["dev"]
    effects = corruption_effects(trained.model, trained.params, batches, rate=1.0, threshold=0.2)

    shifts, flips, bystanders = {True: [], False: []}, [], []
    variables = {"params": trained.params}
    score = jax.jit(partial(trained.model.apply, method="score_pairs"))
    for places, batch in batches.epoch(seed=0, epoch=0):
        outputs = jax.jit(trained.model.apply)(variables, batch)
        h = np.array(outputs.h)
        for place, index in enumerate(places):
            if index >= 0:
                example = batches.examples[index]
                part = {t for pair in example.dialogue.pairs for t in pair}
                for t in range(example.length):
                    bystanders.append(t not in part)
                    if t not in part:
                        h[place, t] = 0
        logits = score(variables, jnp.asarray(h), batch)
        before, after = (np.asarray(pair_confidence(x)) for x in (outputs.pair_logits, logits))
        for place, index in enumerate(places):
            if index >= 0:
                for i in range(batches.examples[index].length):
                    for j in range(i + 1):
                        p, q = before[place, i, j], after[place, i, j]
                        gold = (i, j) in batches.examples[index].dialogue.pairs
                        shifts[gold].append(abs(q - p))
                        if gold:
                            flips.append((p >= 0.2) != (q >= 0.2))
    assert effects == pytest.approx(
        {
            "bystanders": np.mean(bystanders),
            "shift_gold": np.mean(shifts[True]),
            "shift_other": np.mean(shifts[False]),
            "gold_flipped": np.mean(flips),
        },
        rel=1e-3,
    )
    assert effects["shift_gold"] > 0
    none = corruption_effects(trained.model, trained.params, batches, rate=0.0, threshold=0.2)
    assert none["shift_gold"] == none["shift_other"] == none["gold_flipped"] == 0


def test_the_tool_has_a_column_for_every_split(tmp_path):
    code = """
import runpy
from rpcl_jax.reporting import examine
examine.examine = lambda folder, without: [
    {"run": "run", "split": split} | dict.fromkeys(examine.COLUMNS, 100.0 * k)
    for k, split in enumerate(("train", "dev", "test"))
]
runpy.run_path("tools/examine.py", run_name="__main__")
"""
    done = run_python(
        *("-c", code, f"{tmp_path}/a", "--without=audio", "--out", f"{tmp_path}/x.csv")
    )
    name, head, *lines = done.stdout.splitlines()
    assert name == f"{tmp_path}/a, without audio"
    assert head.split() == ["in", "points", "train", "dev", "test"]
    assert [line.split() for line in lines] == [[c, "0.00", "100.00", "200.00"] for c in COLUMNS]
    assert {len(line) for line in (head, *lines)} == {len(head)}
    assert len(head) <= 80
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 4
