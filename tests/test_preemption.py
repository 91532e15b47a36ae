"""A run that is ended or killed within an epoch goes on there, to the same bits."""

import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file
from shared import ENVIRONMENT, ROOT, refusal, run_main, tiny_config, tiny_flags

from rpcl_jax.train import train_and_evaluate
from rpcl_jax.training.checkpoint import Checkpoints
from rpcl_jax.training.logger import read_epochs

FLAGS = [*tiny_flags(), "--config.modalities=t", "--config.batch_size=8", "--config.epochs=3"]
STEPS = 4  # of an epoch


def config_of(**changed):
    config = tiny_config()
    config.modalities, config.batch_size, config.epochs, config.devices = "t", 8, 3, 1
    config.update(changed)
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of this process, which has eight devices, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_and_evaluate(config_of(), folder)
    return folder


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """The same by the command; the last bits of sums differ."""
    folder = tmp_path_factory.mktemp("commanded") / "run"
    run_main(*FLAGS, f"--workdir={folder}")
    return folder


def assert_same(run, other):
    """Asserts that two runs have the same parameters, confidences, losses and validation scores."""
    for name, array in load_file(run / "model.safetensors").items():
        np.testing.assert_array_equal(array, load_file(other / "model.safetensors")[name])
    for split in ("dev", "test"):
        file = f"predictions/{split}.npz"
        with np.load(run / file) as a, np.load(other / file) as b:
            assert all(np.array_equal(a[name], b[name]) for name in a)
    logs = []
    for folder in (run, other):
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        timed = {"seconds", "dialogues_per_second"}
        logs.append([{k: v for k, v in line.items() if k not in timed} for line in lines])
    assert logs[0] == logs[1]
    assert len(read_epochs(run / "metrics.jsonl")) == 3


@pytest.mark.slow
def test_sigterm_finishes_the_step_and_the_same_command_goes_on(commanded, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "rpcl_jax.main", *FLAGS, f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "run/metrics.jsonl"
    while not (metrics.exists() and '"train/loss"' in metrics.read_text()):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20
    assert process.returncode == 128 + signal.SIGTERM
    assert "ended by SIGTERM after step" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    done = run_main(*FLAGS, f"--workdir={tmp_path / 'run'}")
    assert "continuing after epoch" in done.stderr
    assert_same(tmp_path / "run", commanded)


class Killed(BaseException):
    pass


def killed_after(monkeypatch, saves, config, folder):
    """Trains until a run is killed just after it has saved so many checkpoints."""
    count = itertools.count(1)
    save = Checkpoints.save

    def save_and_die(*arguments):
        save(*arguments)
        if next(count) == saves:
            raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(Checkpoints, "save", save_and_die)
        train_and_evaluate(config, folder)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("saves", [1, STEPS, STEPS + 1, 2 * STEPS + 1])
def test_a_checkpoint_after_each_step_changes_nothing(monkeypatch, whole, saves, tmp_path):
    # The last of an epoch's steps, its end, before the model and the log, and a step of the second.
    often = config_of(checkpoint_minutes=1e-9)
    killed_after(monkeypatch, saves, often, tmp_path)
    (number,) = Checkpoints(tmp_path).numbers()
    assert number == saves
    # How often it saves may change.
    train_and_evaluate(config_of() if saves % 2 else often, tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.long
def test_a_last_checkpoint_that_is_cut_short_is_left_for_the_one_before(
    monkeypatch, whole, tmp_path, caplog
):
    killed_after(monkeypatch, 1, config_of(), tmp_path)
    number = STEPS + 1
    shutil.copytree(tmp_path / f"checkpoints/{number}", tmp_path / "kept")
    killed_after(monkeypatch, 1, config_of(), tmp_path)
    shutil.move(tmp_path / "kept", tmp_path / f"checkpoints/{number}")
    assert Checkpoints(tmp_path).numbers() == [2 * number, number]
    for path in (tmp_path / f"checkpoints/{2 * number}").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    train_and_evaluate(config_of(), tmp_path)
    assert "going on from the checkpoint before it" in caplog.text
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.long
def test_kills_at_random_moments(commanded, tmp_path):
    seconds = random.Random(0)
    flags = [*FLAGS, "--config.checkpoint_minutes=1e-9", f"--workdir={tmp_path / 'run'}"]
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-m", "rpcl_jax.main", *flags],
            cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds.uniform(3, 9))
        process.send_signal(seconds.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.wait(timeout=60)
    run_main(*flags)
    assert_same(tmp_path / "run", commanded)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_split_without_a_pair_is_refused_before_training(monkeypatch, split, tmp_path):
    from rpcl_jax import train

    def without_pairs(*arguments, **options):
        corpus = load(*arguments, **options)
        bare = [d.__class__(d.id, d.utterances, ()) for d in corpus.splits[split]]
        return corpus._replace(splits=corpus.splits | {split: bare})

    load = train.load_corpus
    monkeypatch.setattr(train, "load_corpus", without_pairs)
    assert f"{split}: has no gold pair" in refusal(train_and_evaluate, config_of(), tmp_path / "x")
    assert not (tmp_path / "x").exists()
