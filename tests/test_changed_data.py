"""A run knows the data it was trained with: on others it does not go on, and keeps its numbers."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from fake_runs import write_grid
from shared import tiny_config, tiny_flags

from rpcl_jax.data.dialogue import NEUTRAL
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.reporting.experiments import Experiment, read_experiments, read_run
from rpcl_jax.reporting.model_card import model_card
from rpcl_jax.reporting.report import report_data
from rpcl_jax.run.grid import Grid, run_grid
from rpcl_jax.train import train_and_evaluate


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, beside its data."""
    folder = tmp_path_factory.mktemp("changed")
    splits, _ = generate_corpus(0, sizes={"train": 16, "dev": 8, "test": 8})
    (folder / "data").mkdir()
    for split, dialogues in splits.items():
        write_conversations(folder / "data" / f"{split}.jsonl", dialogues)
    train_and_evaluate(config_of(folder / "data"), folder / "grid/base-t-seed42")
    return folder


def config_of(data):
    config = tiny_config("base")
    config.data.update({"format": "conversations", "root": str(data), "name": "own"})
    config.modalities, config.epochs, config.batch_size = "t", 1, 8
    return config


def drop_last(lines):
    return lines[:-1]


def relabel(lines):
    item = json.loads(lines[0])
    emotion, *_ = (u["emotion"] for u in item["utterances"] if u["emotion"] != NEUTRAL)
    item["utterances"][item["pairs"][0][0] - 1]["emotion"] = emotion
    item["pairs"] = item["pairs"][:-1]
    return [json.dumps(item), *lines[1:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "change"), [("train", drop_last), ("dev", relabel), ("test", drop_last)]
)
def test_changed_data_are_refused_and_named(finished, split, change, tmp_path, caplog):
    folder = shutil.copytree(finished, tmp_path / "copy")
    file, run = folder / f"data/{split}.jsonl", folder / "grid/base-t-seed42"
    description = json.loads((run / "config.json").read_text())
    description["run"]["data"]["root"] = str(folder / "data")
    (run / "config.json").write_text(json.dumps(description))
    config = config_of(folder / "data")
    fields = {"data.format": "conversations", "data.root": str(folder / "data")}
    fields |= {"data.name": "own", "epochs": 1, "batch_size": 8}
    flags = dict(flag.removeprefix("--config.").split("=") for flag in tiny_flags()[1:])
    demo = {field: json.loads(value) for field, value in flags.items()}
    grid = Grid("configs/demo.py", demo | fields, folder / "grid")

    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, ""]))  # the same, spelled otherwise
    assert train_and_evaluate(config, run)["test"] == evaluate_run(run)["test"]
    assert run_grid(grid, []) == []
    file.write_text("\n".join(change(lines)))
    result = (run / "result.json").read_bytes()
    if split == "train":  # the numbers of an evaluation do not depend on it
        assert evaluate_run(run) == json.loads(result)
        assert "its training split has changed" in caplog.text
    for refused in (
        lambda: train_and_evaluate(config, run),
        lambda: evaluate_run(run) if split != "train" else train_and_evaluate(config, run),
        lambda: run_grid(grid, []),
    ):
        with pytest.raises(InputError, match=rf"since it was begun \({split}\)") as caught:
            refused()
        assert "\n" not in str(caught.value)
    (run / "result.json").unlink()  # as if it had been killed just before
    with pytest.raises(InputError, match=rf"since it was begun \({split}\)"):
        train_and_evaluate(config, run)
    (run / "result.json").write_bytes(result)
    file.write_text(3 * "{}\n")  # then nobody knows
    assert train_and_evaluate(config, run) == json.loads(result)
    assert "unknown" in caplog.messages[-2]
    assert "\n" not in caplog.messages[-2]
    file.unlink()
    assert train_and_evaluate(config, run) == json.loads(result)


@pytest.mark.slow
def test_what_is_made_of_a_run_refuses_other_data_and_other_predictions(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    file, run = folder / "data/test.jsonl", folder / "grid/base-t-seed42"
    description = json.loads((run / "config.json").read_text())
    description["run"]["data"]["root"] = str(folder / "data")
    (run / "config.json").write_text(json.dumps(description))
    uses = (
        lambda: report_data([read_run(run)]),
        lambda: model_card(run, "name"),
        lambda: Experiment({"base": {42: read_run(run)}}).resampled,
    )
    for use in uses:
        use()
    before = file.read_text()
    file.write_text("\n".join(relabel(before.splitlines())))
    for use in uses:
        with pytest.raises(InputError, match=r"since it was begun \(test\)"):
            use()
    file.write_text(before)

    scores = run / "predictions/test.npz"
    arrays = dict(np.load(scores))
    arrays["pair_confidence"] = 1 - arrays["pair_confidence"]
    np.savez(scores, **arrays)
    for use in uses:
        with pytest.raises(InputError, match=r"test\.npz: has a Pair F1 of .* --mode=evaluate"):
            use()
    evaluate_run(run)
    for use in uses:
        use()

    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"seed": 7}))
    message = r"result\.json: of a run with seed 7, and the folder's has 42"
    with pytest.raises(InputError, match=message):
        read_run(run)
    with pytest.raises(InputError, match=message):
        evaluate_run(run)
    with pytest.raises(InputError, match=message):
        train_and_evaluate(config_of(folder / "data"), run)


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused(finished, tmp_path):
    config = config_of(finished / "data")
    config.epochs = 2
    for seed in (42, 7):
        config.seed = seed
        train_and_evaluate(config, tmp_path / str(seed))
    shutil.rmtree(tmp_path / "7/checkpoints")
    shutil.copytree(tmp_path / "42/checkpoints", tmp_path / "7/checkpoints")
    (tmp_path / "7/result.json").unlink()
    with pytest.raises(InputError, match=r"checkpoints: of a run with another config or other"):
        train_and_evaluate(config, tmp_path / "7")


def test_the_digest_of_a_table_is_of_its_ids_and_rows():
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    table = FeatureTable(values, {"a": 0, "b": 2}, {}, absent={"c": "no sound"})
    # In another order, with a row that no id has, the utterances have the same features.
    again = FeatureTable(values[[2, 0]], {"b": 0, "a": 1}, {}, absent={"c": "too short"})
    assert table.digest() == again.digest()
    for change in (
        {"values": values + 1},
        {"row_of_id": {"a": 0, "b": 1}},
        {"row_of_id": {"a": 0, "d": 2}},
        {"absent": {}},
    ):
        assert dataclasses.replace(table, **change).digest() != table.digest(), change


def test_runs_of_different_data_are_not_compared(tmp_path):
    grid = write_grid(tmp_path, {"base": 1.0, "rpcl": 2.0}, seeds=(1, 2))
    for k, run in enumerate(sorted(grid.glob("*-seed*"))):
        description = json.loads((run / "config.json").read_text())
        description["data"] = {"train": "a", "dev": "b", "test": "d" if k == 3 else "c"}
        (run / "config.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"rpcl-tav-seed2: .* other data than .* \(test\)"):
        read_experiments([grid])
    (last,) = (run for run in grid.glob("rpcl-tav-seed2"))
    description["data"]["test"] = "c"
    (last / "config.json").write_text(json.dumps(description))
    (experiment,) = read_experiments([grid])
    assert experiment.common_seeds("base", "rpcl") == [1, 2]
