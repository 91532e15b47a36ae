"""Runs that are repeated, killed, continued and interrupted, and which epoch is the best."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file
from shared import ENVIRONMENT, ROOT, refusal, run_main, saved_parameters, tiny_config, tiny_flags

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.data.synthetic import generate_corpus
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import evaluate_run
from rpcl_jax.evaluation.metrics import best_emotion_threshold, evaluate_split
from rpcl_jax.evaluation.split_numbers import split_numbers
from rpcl_jax.files import read_json
from rpcl_jax.models.ecpe import BACKBONES
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.readers.semeval import conversation_object
from rpcl_jax.reporting.experiments import read_run
from rpcl_jax.reporting.predictions import pairs_of
from rpcl_jax.reporting.report import report_data
from rpcl_jax.run.model_folder import save_parameters
from rpcl_jax.train import Progress, _make_mesh, train_and_evaluate
from rpcl_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow


def assert_same_run(one, other):
    a, b = saved_parameters(one), saved_parameters(other)
    assert a.keys() == b.keys()
    assert len(a) > 50
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    results = [json.loads((w / "result.json").read_text()) for w in (one, other)]
    assert results[0].pop("seconds") != results[1].pop("seconds")
    assert results[0] == results[1]
    clock = r'"(seconds|dialogues_per_second)": [0-9.e-]+'
    logs = [re.sub(clock, "", (w / "metrics.jsonl").read_text()) for w in (one, other)]
    assert logs[0] == logs[1]
    for split in ("dev", "test"):
        name = f"predictions/{split}.json"
        assert (one / name).read_text() == (other / name).read_text()
    assert_same_model(one, other)


def assert_same_model(one, other):
    assert (one / "config.json").read_text() == (other / "config.json").read_text()
    (a, facts), (b, same) = map(stored_model, (one, other))
    assert facts == same
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def stored_model(folder):
    """The parameters of a run's best epoch, and what is known of it."""
    with safe_open(folder / "model.safetensors", framework="numpy") as opened:
        facts = json.loads(opened.metadata()["rpcl_jax"])
    return load_file(folder / "model.safetensors"), facts


def test_the_same_command_gives_the_same_bits(finished, tmp_path):
    run_main(*tiny_flags(), f"--workdir={tmp_path / 'again'}")
    assert_same_run(finished, tmp_path / "again")


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "transformer"])
def test_everything_works_with_another_backbone(backbone, tmp_path):
    config = tiny_config()
    config.model.backbone, config.epochs = backbone, 1
    run = tmp_path / "run"
    result = train_and_evaluate(config, run)
    assert evaluate_run(run)["test"] == result["test"]
    assert report_data([read_run(run)])["runs"][0]["test"]["pair_f1"] == result["test"]["pair_f1"]
    corpus = load_corpus(config)
    conversations = [conversation_object(d) for d in corpus.splits["test"]]
    wanted = json.loads((run / "predictions/test.json").read_text())
    for one, other in zip(Predictor(run)(conversations, corpus.tables), wanted, strict=True):
        assert pairs_of(one) == pairs_of(other)
    assert any(one["pair_confidences"] for one in wanted)


def command(*arguments):
    return [sys.executable, "-m", "rpcl_jax.main", *map(str, arguments)]


def kill_when(condition, workdir):
    """Starts the run and kills it as soon as `condition()` holds."""
    with subprocess.Popen(
        command(*tiny_flags(), f"--workdir={workdir}"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 300
        while not condition():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
    assert not (workdir / "result.json").exists()


@pytest.mark.long
def test_a_killed_run_continues_to_the_same_bits(finished, tmp_path):
    workdir = tmp_path / "run"
    checkpoints = workdir / "checkpoints"

    def half_written():
        return (checkpoints / "3").is_dir() and any(
            "6.orbax-checkpoint-tmp" in path.name for path in checkpoints.iterdir()
        )

    kill_when(half_written, workdir)
    assert not (checkpoints / "6").exists()
    assert_continues_to_the_same_bits(workdir, finished)


def assert_continues_to_the_same_bits(workdir, finished):
    done = run_main(*tiny_flags(), f"--workdir={workdir}")
    assert "continuing after epoch 1 of 3\n" in done.stderr
    assert "the number of devices changed" not in done.stderr
    assert done.stderr.count("validation Pair F1") == 2
    assert_same_run(finished, workdir)


@pytest.mark.long
def test_ctrl_c_says_how_to_continue(finished, tmp_path):
    process = subprocess.Popen(
        command(*tiny_flags(), f"--workdir={tmp_path}"),
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    while not (tmp_path / "checkpoints/3").is_dir():
        time.sleep(0.0005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    *epochs, last = errors.splitlines()
    assert all(line.startswith(("training on ", "epoch ")) for line in epochs)
    assert last == "rpcl_jax: interrupted; run the same command again to continue"
    assert_continues_to_the_same_bits(tmp_path, finished)


def test_the_checkpoint_holds_the_normalisation_of_the_features(finished):
    splits, tables = generate_corpus(0, sizes=tiny_config().data.sizes)
    ids = [utterance.id for dialogue in splits["train"] for utterance in dialogue.utterances]
    saved = saved_parameters(finished)
    for name, table in tables.items():
        values = table.values[[table.row_of_id[i] for i in ids]].astype(np.float64)
        for kind, expected in (("mean", values.mean(0)), ("scale", values.std(0))):
            found = saved[f"params/fusion/{name}/{kind}"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_modality_dropout_is_trained_with(finished):
    """The vector for "absent" begins at 0, and the features of the demo are all there."""
    saved = saved_parameters(finished)
    for modality in ("audio", "vision"):
        assert np.abs(saved[f"params/fusion/{modality}/absent"]).max() > 1e-4


@pytest.mark.parametrize(("size", "multiple"), [(16, 18), (20, 21), (2, 3)])
def test_batches_that_do_not_divide(size, multiple):
    config = tiny_config()
    config.batch_size, config.devices = size, 3
    with pytest.raises(
        InputError, match=rf"config.batch_size: {size} .* 3 devices; .* {multiple},"
    ):
        _make_mesh(config)
    config.batch_size = 15
    assert _make_mesh(config).size == 3


def test_a_finished_run_is_shown_whatever_the_devices(finished):
    """Its batches of 16 could not be trained on seven."""
    config = tiny_config()
    config.devices = 7
    assert train_and_evaluate(config, finished) == read_json(finished / "result.json")


class FakeScores:
    """Stands in for the validation metrics: Pair F1 by epoch as given; keeps the epoch's scores."""

    def __init__(self, pair_f1, interrupt_after=None):
        self.pair_f1 = dict(enumerate(pair_f1, 1))
        self.interrupt_after = interrupt_after
        self.scored = {}

    def __call__(self, scored, threshold, emotions):
        epoch = len(self.scored) + 1
        if self.interrupt_after == epoch - 1:
            raise KeyboardInterrupt
        self.scored[epoch] = scored
        return evaluate_split(scored, threshold, emotions) | {"pair_f1": self.pair_f1[epoch]}


def four_epochs():
    config = tiny_config()
    config.update({"modalities": "t", "epochs": 4})
    return config


def train_with(monkeypatch, scores, workdir):
    monkeypatch.setattr("rpcl_jax.train.evaluate_split", scores)
    return train_and_evaluate(four_epochs(), workdir)


def kept_epochs(workdir):
    numbers = (int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    return {number / 3 for number in numbers}  # of two steps, and one number for the epoch's end


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run interrupted in epoch 3 of 4, with the scores of its epochs; epoch 1 is its best."""
    workdir = tmp_path_factory.mktemp("interrupted") / "run"
    scores = FakeScores([0.9, 0.2], interrupt_after=2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        train_with(patch, scores, workdir)
    return workdir, scores


def numbers_of(dev):
    return split_numbers(dev, None, EMOTIONS, **four_epochs().diagnostics)


def test_the_result_is_that_of_the_best_epoch(monkeypatch, tmp_path):
    scores = FakeScores([0.3, 0.9, 0.9, 0.1])
    result = train_with(monkeypatch, scores, tmp_path)
    assert (result["best_epoch"], result["epochs"]) == (2, 4), "the first of equal ones"
    assert kept_epochs(tmp_path) == {4}
    _, facts = stored_model(tmp_path)
    assert facts.pop("config")
    scored = scores.scored[2]
    least = best_emotion_threshold(scored, result["threshold"], EMOTIONS)
    assert facts == {"epoch": 2, "threshold": result["threshold"], "emotion_threshold": least}
    assert result["dev"] == numbers_of(scores.scored[2])
    assert result["dev"] != numbers_of(scores.scored[3])
    assert evaluate_run(tmp_path) == result


def test_the_best_epoch_survives_an_interruption(monkeypatch, interrupted, tmp_path):
    workdir, before = interrupted
    assert kept_epochs(workdir) == {2}
    workdir = shutil.copytree(workdir, tmp_path / "run")
    seconds = Checkpoints(workdir).progress(6)["seconds"]
    started = time.perf_counter()
    result = train_with(monkeypatch, FakeScores([0.3, 0.4]), workdir)
    elapsed = time.perf_counter() - started
    assert (result["best_epoch"], result["epochs"]) == (1, 4)
    assert result["dev"] == numbers_of(before.scored[1])
    assert kept_epochs(workdir) == {4}
    # The time before the interruption counts.
    assert seconds + 0.8 * elapsed < result["seconds"] <= seconds + elapsed


def test_a_kill_between_the_checkpoint_and_the_model(monkeypatch, tmp_path):
    """Of the best epoch: when the run continues, the model is written from that checkpoint."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    wanted = train_with(monkeypatch, FakeScores([0.3, 0.9, 0.2, 0.1]), whole)

    def kill_in_epoch_2(folder, params, epoch, **facts):
        if epoch == 2:
            (folder / "model.safetensors.1f.tmp").write_bytes(b"half of it")
            raise KeyboardInterrupt
        save_parameters(folder, params, epoch=epoch, **facts)

    with monkeypatch.context() as patch:
        patch.setattr("rpcl_jax.train.save_parameters", kill_in_epoch_2)
        with pytest.raises(KeyboardInterrupt):
            train_with(patch, FakeScores([0.3, 0.9]), killed)
    assert kept_epochs(killed) == {2}
    assert stored_model(killed)[1]["epoch"] == 1
    assert evaluate_run(killed)["dev"] != wanted["dev"], "of epoch 1, whole"
    result = train_with(monkeypatch, FakeScores([0.2, 0.1]), killed)
    assert result | {"seconds": 0} == wanted | {"seconds": 0}
    assert_same_model(whole, killed)
    assert not list(killed.glob("*.tmp"))


def test_a_run_whose_best_epoch_is_gone_does_not_go_on(monkeypatch, interrupted, tmp_path):
    workdir = shutil.copytree(interrupted[0], tmp_path / "run")
    weights = workdir / "model.safetensors"
    save_parameters(workdir, unflatten_dict(stored_model(workdir)[0], sep="."), epoch=2)
    assert "not of the run's best epoch, 1; was the folder copied in part" in refusal(
        train_with, monkeypatch, FakeScores([]), workdir
    )
    weights.unlink()
    assert f"{weights}: not found" in refusal(train_with, monkeypatch, FakeScores([]), workdir)


@pytest.mark.parametrize(("patience", "epochs"), [(0, 30), (1, 3), (2, 4), (28, 30), (27, 29)])
def test_patience(patience, epochs):
    """Epoch 2 of at most 30 is the best one; with patience 0 training never stops early."""
    config = tiny_config()
    config.update({"patience": patience, "epochs": 30})
    progress = Progress()
    while not progress.is_over(config):
        progress.epoch += 1
        progress.best_epoch = min(progress.epoch, 2)
    assert progress.epoch == epochs


def test_an_unfinished_run_is_evaluated_but_predicts_nothing(interrupted):
    workdir, scores = interrupted
    numbers = evaluate_run(workdir)
    assert numbers["dev"] == numbers_of(scores.scored[1])
    evaluate = command("--mode=evaluate", f"--workdir={workdir}")
    done = subprocess.run(evaluate, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "test Pair F1" in done.stdout, done.stderr
    assert "results:" not in done.stdout
    assert not (workdir / "result.json").exists()
    assert not (workdir / "predictions").exists()
    with pytest.raises(InputError, match="not finished"):
        Predictor(workdir)
