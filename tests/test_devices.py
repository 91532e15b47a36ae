"""A run trained on some number of devices is used and continued on any other."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from shared import ENVIRONMENT, ROOT, tiny_config

from rpcl_jax.evaluation.scores import load_scores
from rpcl_jax.readers.corpus import load_corpus

pytestmark = pytest.mark.slow
COUNTS = (8, 3, 1)
# Trains a run for one epoch and keeps a copy that has another one to go.
TRAIN = """
import json, shutil, sys
from pathlib import Path
from rpcl_jax.train import train_and_evaluate
from shared import tiny_config

folder = Path(sys.argv[1])
config = tiny_config()
config.batch_size, config.epochs = 24, 1
train_and_evaluate(config, folder / "finished")
shutil.copytree(folder / "finished", folder / "begun")
(folder / "begun/result.json").unlink()
written = json.loads((folder / "begun/config.json").read_text())
(folder / "begun/config.json").write_text(json.dumps(written | {"epochs": 2}))
"""
# Evaluates and examines such runs, predicts with them, and continues them.
USE = """
import json, sys
from pathlib import Path
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.reporting.examine import examine
from rpcl_jax.train import train_and_evaluate
from shared import tiny_config

config = tiny_config()
config.batch_size, config.epochs = 24, 2
corpus = load_corpus(config)
for folder in map(Path, sys.argv[1:]):
    evaluate_run(folder / "finished")
    predictor = Predictor.from_workdir(folder / "finished")
    predicted = predictor([*map(dialogue_object, corpus.splits["test"])], corpus.tables)
    found = {"examined": examine(folder / "finished"), "predicted": predicted}
    (folder / "found.json").write_text(json.dumps(found))
    train_and_evaluate(config, folder / "begun")
"""
USE_OLD = """
import sys
from pathlib import Path
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.run.config import read_config
from rpcl_jax.train import train_and_evaluate

finished, begun = (Path(sys.argv[1]) / name for name in ("finished", "begun"))
evaluate_run(finished)
train_and_evaluate(read_config(begun / "config.json"), begun)
"""


def run(devices, code, *folders):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, folders)],
        env=ENVIRONMENT | flags | path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By number of devices, a finished run and one with an epoch to go."""
    folders = {devices: tmp_path_factory.mktemp(f"trained-on-{devices}") for devices in COUNTS}
    for devices, folder in folders.items():
        run(devices, TRAIN, folder)
    return folders


def confidences(workdir):
    with np.load(workdir / "predictions/test.npz") as file:
        return file["pair_confidence"]


def assert_used(copy, finished):
    """The run in `copy` was evaluated, examined and used with the numbers of its training."""
    np.testing.assert_allclose(confidences(copy / "finished"), confidences(finished), atol=1e-5)
    found = json.loads((copy / "found.json").read_text())
    result = json.loads((finished / "result.json").read_text())
    for row in found["examined"][1:]:
        for metric in ("pair_auprc", "gold_confidence", "gap_hard"):
            assert row[metric] == pytest.approx(100 * result[row["split"]][metric], abs=1e-2)
    test = load_corpus(tiny_config()).splits["test"]
    for conversation, scores in zip(
        found["predicted"], load_scores(finished / "predictions/test.npz", test), strict=True
    ):
        wanted = np.where(scores.candidate_mask, scores.pair_confidence, 0.0)
        predicted = np.zeros_like(wanted)
        for (i, j), p in zip(conversation["pairs"], conversation["pair_confidences"], strict=True):
            predicted[i - 1, j - 1] = p
        wanted[wanted < result["threshold"]] = 0
        np.testing.assert_allclose(predicted, wanted, atol=6e-4)  # of three digits


@pytest.mark.parametrize("devices", COUNTS)
def test_runs_are_evaluated_and_continued(trained, devices, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in trained.values()]
    errors = run(devices, USE, *copies)
    assert errors.count("continuing after epoch 1 of 2") == 3
    for copy, (before, folder) in zip(copies, trained.items(), strict=True):
        assert_used(copy, folder / "finished")
        changed = f"the number of devices changed from {before} to {devices}"
        assert (changed in errors) == (before != devices)
        result = json.loads((copy / "begun/result.json").read_text())
        assert (result["epochs"], result["device"].split()[0]) == (2, str(devices))


def test_a_run_of_version_0_1_is_evaluated_and_continued(tmp_path):
    """Trained on eight devices, by the first code that users had."""
    folder = tmp_path / "finished"
    with tarfile.open(Path(__file__).with_name("run_of_version_0_1.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    begun = shutil.copytree(folder, tmp_path / "begun")
    (begun / "result.json").unlink()
    written = json.loads((begun / "config.json").read_text())
    (begun / "config.json").write_text(json.dumps(written | {"epochs": 2}))
    before = confidences(folder)
    errors = run(1, USE_OLD, tmp_path)
    np.testing.assert_allclose(confidences(folder), before, atol=1e-5)
    assert "continuing after epoch 1 of 2" in errors
    assert json.loads((begun / "result.json").read_text())["epochs"] == 2


def test_inference_takes_any_number_of_devices(trained, tmp_path):
    copy = shutil.copytree(trained[3], tmp_path / "copy")
    code = USE.replace('train_and_evaluate(config, folder / "begun")', "")
    run(5, code, copy)  # which do not divide a batch of 24
    assert_used(copy, trained[3] / "finished")
