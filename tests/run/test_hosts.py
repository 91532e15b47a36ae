"""Several processes train, evaluate and predict as one with as many devices does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from shared import ENVIRONMENT, ROOT, assert_one_line, run_main, tiny_flags, write_lines

from rpcl_jax.data.features import FeatureTable

pytestmark = [pytest.mark.slow, pytest.mark.long]
FLAGS = [*tiny_flags(), "--config.batch_size=8"]  # batches of one shape for four devices


def environment(devices):
    return ENVIRONMENT | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def start(*arguments, cwd=ROOT, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "rpcl_jax.main", *map(str, arguments)],
        cwd=cwd, env=environment(2) | {"PYTHONPATH": str(ROOT)} | more, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def two_processes(*arguments, differ=((), ()), folders=(ROOT, ROOT)):
    """Starts two processes with two devices each, which meet at a free port."""
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    together = ("--distributed", coordinator, "--processes=2", *arguments)
    processes = [start(*together, f"--process={i}", *differ[i], cwd=folders[i]) for i in range(2)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def both(*arguments, status=0, **more):
    """Returns what both processes print on stdout and stderr."""
    with two_processes(*arguments, **more) as processes:
        printed = [process.communicate(timeout=900) for process in processes]
        assert [process.returncode for process in processes] == [status] * 2, printed
    return printed


def scores(workdir, split="test"):
    with np.load(workdir / f"predictions/{split}.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of one process with four devices, and one of two processes with two each."""
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, "-m", "rpcl_jax.main", *FLAGS, f"--workdir={folder / 'one'}"],
        cwd=ROOT, env=environment(4), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (out, errors), (other_out, other_errors) = both(*FLAGS, f"--workdir={folder / 'two'}")
    assert "test Pair F1" in out
    assert errors.count("epoch 3/3") == 1
    # The first process alone reports.
    assert "Pair F1" not in other_out
    assert other_errors == "process 1 of 2: 2 x cpu\n"
    return folder


@pytest.fixture(scope="module", autouse=True)
def lonely(tmp_path_factory):
    """A process that waits for its coordinator while the other tests run."""
    workdir = tmp_path_factory.mktemp("lonely") / "run"
    begun, coordinator = time.monotonic(), f"--coordinator=127.0.0.1:{free_port()}"
    together = ("--distributed", coordinator, "--processes=2", "--process=1")
    return start(*FLAGS, f"--workdir={workdir}", *together), begun, workdir


def test_training_is_that_of_one_process(runs):
    logs = [
        [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1])
    for one, two in zip(*logs, strict=True):
        one, two = ({k: v for k, v in o.items() if "second" not in k} for o in (one, two))
        assert one == pytest.approx(two, abs=1e-5)
    for name, values in scores(runs / "one").items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(scores(runs / "two")[name], values, atol=1e-5)
        else:
            np.testing.assert_array_equal(scores(runs / "two")[name], values)
    results = [json.loads((runs / name / "result.json").read_text()) for name in ("one", "two")]
    assert {result["device"].split()[0] for result in results} == {"4"}


def test_evaluation_and_prediction(runs, tmp_path):
    copy = shutil.copytree(runs / "two", tmp_path / "copy")
    shutil.rmtree(copy / "predictions")
    both("--mode=evaluate", f"--workdir={copy}")
    before, after = scores(runs / "two"), scores(copy)
    np.testing.assert_allclose(after["pair_confidence"], before["pair_confidence"], atol=1e-6)
    texts = ["We won the cup!", "Oh my God, really?", "Yes!"]
    turns = [{"id": f"u{t}", "speaker": "Ann", "text": text} for t, text in enumerate(texts)]
    (tmp_path / "talks.json").write_text(json.dumps([{"id": "talk", "utterances": turns}]))
    rows = {turn["id"]: row for row, turn in enumerate(turns)}
    for modality, description in json.loads((copy / "config.json").read_text())[
        "feature_tables"
    ].items():
        values = np.random.default_rng(0).normal(size=(3, description["dimension"]))
        FeatureTable(values.astype(np.float32), rows, description).save(tmp_path / modality)
    flags = ["--mode=predict", f"--workdir={copy}", f"--input={tmp_path / 'talks.json'}"]
    flags.append(f"--features={tmp_path}")
    (out, _), (silent, _) = both(*flags, f"--output={tmp_path / 'two.json'}")
    assert "in 1 conversation," in out
    assert "conversations" not in silent
    run_main(*flags, f"--output={tmp_path / 'one.json'}")
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    for o, t in zip(one, two, strict=True):
        assert o.pop("pair_confidences") == pytest.approx(t.pop("pair_confidences"), abs=1.1e-3)
        for a, b in zip(o["utterances"], t["utterances"], strict=True):
            assert a.pop("emotion_probability") == pytest.approx(
                b.pop("emotion_probability"), abs=1.1e-3
            )
    assert one == two


def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(runs, tmp_path):
    with two_processes(*FLAGS, f"--workdir={tmp_path / 'run'}") as processes:
        while not any((tmp_path / "run/checkpoints").glob("[0-9]")):
            assert processes[0].poll() is None
            time.sleep(0.05)
        # The process that works is the child of the one that was started.
        child = subprocess.check_output(["pgrep", "-P", str(processes[1].pid)], text=True)
        os.kill(int(child), signal.SIGKILL)
        killed = time.monotonic()
        _, errors = processes[0].communicate(timeout=60)
        assert time.monotonic() - killed < 60
        assert processes[0].returncode == 1
        assert "run the same command on every host again" in errors.splitlines()[-1]
        assert "stack trace" not in errors
        assert processes[1].wait(timeout=60) == 128 + signal.SIGKILL
    assert not (tmp_path / "run/result.json").exists()
    (_, errors), _ = both(*FLAGS, f"--workdir={tmp_path / 'run'}")
    assert "continuing after epoch" in errors
    np.testing.assert_allclose(
        scores(tmp_path / "run")["pair_confidence"],
        scores(runs / "two")["pair_confidence"],
        atol=1e-5,
    )


def test_sigterm_to_one_process_saves_in_both_and_the_same_command_goes_on(runs, tmp_path):
    metrics = tmp_path / "run/metrics.jsonl"
    with two_processes(*FLAGS, f"--workdir={tmp_path / 'run'}") as processes:
        while not (metrics.exists() and "train/loss" in metrics.read_text()):
            assert processes[0].poll() is None
            time.sleep(0.02)
        processes[1].send_signal(signal.SIGTERM)
        _, errors = processes[0].communicate(timeout=60)
        assert processes[1].wait(timeout=60) == processes[0].returncode == 128 + signal.SIGTERM
    assert "ended by SIGTERM after step" in errors.splitlines()[-1]
    (_, errors), _ = both(*FLAGS, f"--workdir={tmp_path / 'run'}")
    assert "continuing after epoch" in errors
    np.testing.assert_array_equal(
        scores(tmp_path / "run")["pair_confidence"], scores(runs / "two")["pair_confidence"]
    )


@pytest.mark.parametrize(
    "differ",
    [("--config.seed=1", "--config.seed=2"), ("--config.data.seed=1", "--config.data.seed=2")],
)
def test_processes_that_disagree_write_nothing(differ, tmp_path):
    flags = [*FLAGS, f"--workdir={tmp_path / 'run'}"]
    printed = both(*flags, differ=[[flag] for flag in differ], status=1)
    for number, (_, errors) in enumerate(printed):
        place, errors = errors.splitlines()
        assert place == f"process {number} of 2: 2 x cpu"
        # Where one process is gone before the other has printed, that one says so.
        assert "the processes disagree" in errors or "another process" in errors
    assert any("the processes disagree about" in errors for _, errors in printed)
    assert not (tmp_path / "run").exists()


def test_a_table_with_nan_ends_all_processes(tmp_path):
    """Only the first reads it, and the others do not wait for that one."""
    turn = {"id": "u", "speaker": "A", "text": "Great!", "emotion": "elation"}
    for split in ("train", "dev", "test"):
        dialogue = {"id": split, "utterances": [turn | {"id": split}], "pairs": [[1, 1]]}
        write_lines(tmp_path / f"{split}.jsonl", [dialogue])
    ids = {split: row for row, split in enumerate(("train", "dev", "test"))}
    FeatureTable(np.ones((3, 2), np.float32), ids, {}).save(tmp_path / "audio")
    np.save(tmp_path / "audio/features.npy", np.full((3, 2), np.nan, np.float32))
    data = {"format": "conversations", "root": tmp_path, "audio": tmp_path / "audio"}
    flags = [*FLAGS, "--config.modalities=ta", *(f"--config.data.{k}={v}" for k, v in data.items())]
    (_, first), (_, second) = both(*flags, f"--workdir={tmp_path / 'run'}", status=1)
    _, note, line = first.splitlines()
    assert "elation" in note  # by the first alone
    assert "NaN" in line
    _, line = second.splitlines()
    assert "another process" in line
    assert not (tmp_path / "run").exists()


def test_processes_that_read_different_conversations_predict_nothing(runs, tmp_path):
    """On hosts that do not share the folder of the input, its files may differ under one name."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        turns = [{"speaker": "Ann", "text": f"It is {folder.name} o'clock!"}]
        write_lines(
            folder / "talks/x.jsonl", [{"id": str(k), "utterances": turns} for k in range(9)]
        )
    flags = ["--mode=predict", f"--workdir={runs / 'two'}", "--input=talks", "--output=pairs.json"]
    printed = both(*flags, folders=folders, status=1)
    assert any("disagree about the conversations of the input" in errors for _, errors in printed)
    assert not list(tmp_path.rglob("pairs.json"))


def test_slurm_says_who_is_who(runs, tmp_path):
    slurm = {"SLURM_JOB_ID": str(20000 + os.getpid() % 9000), "SLURM_STEP_NODELIST": "localhost"}
    slurm |= {"SLURM_NTASKS": "2", "SLURM_NPROCS": "2"}
    copy = shutil.copytree(runs / "two", tmp_path / "copy")
    arguments = ("--mode=evaluate", f"--workdir={copy}", "--distributed")
    processes = [start(*arguments, **slurm, SLURM_PROCID=str(i), SLURM_LOCALID="0") for i in (0, 1)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors


def test_bad_usage():
    flags = ["--config=configs/demo.py", "--coordinator=host:1"]
    assert_one_line(run_main(*flags, status=2), "--distributed")
    assert_one_line(run_main(*flags, "--distributed", status=2), "give all")
    flags += ["--distributed", "--processes=2"]
    assert_one_line(run_main(*flags, "--process=2", status=2), "numbered from 0 to 1")
    for wrong in ("host", "host:", ":12", "host:99999", "host:x"):
        flags[1] = f"--coordinator={wrong}"
        assert_one_line(run_main(*flags, "--process=0", status=2), "is not HOST:PORT")
    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen()
        flags[1] = f"--coordinator=127.0.0.1:{busy.getsockname()[1]}"
        assert_one_line(run_main(*flags, "--process=0", status=1), "cannot be used")
    alone = run_main("--config=configs/demo.py", "--distributed", status=1)
    assert_one_line(alone, "no cluster of Slurm", "--coordinator=HOST:PORT")


def test_a_coordinator_that_never_comes(lonely):
    process, begun, workdir = lonely
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert time.monotonic() - begun > 45  # it was waited for
    (line,) = errors.splitlines()
    assert "did not meet within 50 seconds" in line
    assert not workdir.exists()
