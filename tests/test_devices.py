"""A run trained on some number of devices is used and continued on any other."""

import json
import shutil

import numpy as np
import pytest
from shared import IMPORTABLE, run_python, tiny_config

from rpcl_jax.evaluation.scores_file import load_scores
from rpcl_jax.readers.corpus import load_corpus

pytestmark = [pytest.mark.slow, pytest.mark.long]
COUNTS = (8, 3, 1)
# Trains a run of two epochs, and keeps what it was after the first.
TRAIN = """
import shutil, sys
from pathlib import Path
import rpcl_jax.train
from rpcl_jax.train import train_and_evaluate
from shared import tiny_config

folder = Path(sys.argv[1])
config = tiny_config()
config.batch_size, config.epochs = 24, 2
evaluate_split, epochs = rpcl_jax.train.evaluate_split, []

def interrupting(*arguments):
    epochs.append(evaluate_split(*arguments))
    if len(epochs) == 2:
        raise KeyboardInterrupt
    return epochs[-1]

rpcl_jax.train.evaluate_split = interrupting
try:
    train_and_evaluate(config, folder / "begun")
except KeyboardInterrupt:
    shutil.copytree(folder / "begun", folder / "finished")
train_and_evaluate(config, folder / "finished")
"""
# Evaluates such a run and predicts with it.
USE = """
import json, sys
from pathlib import Path
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.reporting.examine import examine
from rpcl_jax.run.command_line import log_to_stderr
from rpcl_jax.train import train_and_evaluate
from shared import tiny_config

config = tiny_config()
config.batch_size, config.epochs = 24, 2
corpus = load_corpus(config)
folder = Path(sys.argv[1])
evaluate_run(folder / "finished")
predictor = Predictor(folder / "finished")
predicted = predictor([*map(dialogue_object, corpus.splits["test"])], corpus.tables)
(folder / "predicted.json").write_text(json.dumps(predicted))
"""
CONTINUE = """
log_to_stderr()
train_and_evaluate(config, folder / "begun")
"""
EXAMINE = """
(folder / "examined.json").write_text(json.dumps(examine(folder / "finished")))
"""


def run(devices, code, *folders):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return run_python("-c", code, *folders, environment=flags | IMPORTABLE).stderr


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
    """The run in `copy` was evaluated and used with the numbers of its training."""
    np.testing.assert_allclose(confidences(copy / "finished"), confidences(finished), atol=1e-5)
    result = json.loads((finished / "result.json").read_text())
    test = load_corpus(tiny_config()).splits["test"]
    for conversation, scores in zip(
        json.loads((copy / "predicted.json").read_text()),
        load_scores(finished / "predictions/test.npz", test),
        strict=True,
    ):
        wanted = np.where(scores.candidate_mask, scores.pair_confidence, 0.0)
        predicted = np.zeros_like(wanted)
        for (i, j), p in zip(conversation["pairs"], conversation["pair_confidences"], strict=True):
            predicted[i - 1, j - 1] = p
        wanted[wanted < result["threshold"]] = 0
        np.testing.assert_allclose(predicted, wanted, atol=6e-4)  # of three digits


@pytest.mark.parametrize(("before", "devices"), [(8, 3), (3, 1), (1, 8)])
def test_a_run_is_evaluated_and_continued(trained, before, devices, tmp_path):
    copy = shutil.copytree(trained[before], tmp_path / "copy")
    errors = run(devices, USE + CONTINUE, copy)
    assert_used(copy, trained[before] / "finished")
    assert errors.count("continuing after epoch 1 of 2") == 1
    assert f"the number of devices changed from {before} to {devices}" in errors
    result = json.loads((copy / "begun/result.json").read_text())
    assert (result["epochs"], result["device"].split()[0]) == (2, str(devices))


def test_inference_takes_any_number_of_devices(trained, tmp_path):
    copy = shutil.copytree(trained[3], tmp_path / "copy")
    run(5, USE + EXAMINE, copy)  # which do not divide a batch of 24
    assert_used(copy, trained[3] / "finished")
    result = json.loads((copy / "finished/result.json").read_text())
    for row in json.loads((copy / "examined.json").read_text())[1:]:
        for metric in ("pair_auprc", "gold_confidence", "gap_hard"):
            assert row[metric] == pytest.approx(100 * result[row["split"]][metric], abs=1e-2)
