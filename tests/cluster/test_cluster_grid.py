"""A grid's cells as Ray tasks: what they ask for, what is retried, and the results of a grid."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import pytest
from ray_workers import is_alive, kill_workers
from shared import ENVIRONMENT, ROOT, import_or_skip, run_python, tiny_flags

from rpcl_jax.cluster.grid import start_on_ray
from rpcl_jax.errors import InputError

import_or_skip("ray")

TINY = [
    *("tools/run_grid.py", *tiny_flags(), "--modalities=t", "--config.epochs=4"),
    *("--objectives=base", "--seeds=1"),
]


def finish(task):
    ends = time.monotonic() + 120
    while task.poll() is None and time.monotonic() < ends:
        time.sleep(0.05)
    return task.returncode


@pytest.mark.slow
@pytest.mark.long
def test_what_is_started_again(ray, tmp_path, capsys):
    start = start_on_ray(ray, None)
    for code, status, runs in (
        ("pass", 0, 1),
        ("sys.exit(1)", 1, 1),  # bad input stays bad
        ("os.kill(os.getpid(), 9)", -9, 4),
    ):
        log = tmp_path / f"{status}.log"
        print_and_end = f"import os, sys; print(os.getcwd(), flush=True); {code}"
        assert finish(start(["-c", print_and_end], log)) == status
        assert log.read_text() == f"{os.getcwd()}\n" * runs
    assert capsys.readouterr().err == "-9: was killed; it is started again\n" * 3


@pytest.mark.slow
@pytest.mark.long
def test_the_process_ends_with_its_task_and_with_its_worker(ray, tmp_path):
    start = start_on_ray(ray, None)
    for how in ("terminate", "kill"):
        log = tmp_path / f"{how}.log"
        task = start(["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(99)"], log)
        while not log.exists() or not log.read_text().endswith("\n"):
            assert task.poll() is None
            time.sleep(0.05)
        (first,) = log.read_text().split()
        assert is_alive(first)
        if how == "kill":
            assert len(kill_workers(os.getpid(), "_run")) == 1
            while len(log.read_text().split()) < 2:  # it is started again
                assert task.poll() is None
                time.sleep(0.05)
        task.terminate()
        task.wait()
        assert not any(is_alive(process) for process in log.read_text().split())


@pytest.mark.slow
@pytest.mark.long
def test_no_process_outlives_a_killed_grid(tmp_path):
    log = tmp_path / "log"
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(99)"
    driver = f"""
import time
from pathlib import Path
from rpcl_jax.cluster.grid import start_on_ray
from rpcl_jax.cluster.start import start_ray
task = start_on_ray(start_ray(None), None)(["-c", {code!r}], Path({str(log)!r}))
time.sleep(99)
"""
    with (
        tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as temporary,
        subprocess.Popen(
            [sys.executable, "-c", driver], cwd=ROOT, env=ENVIRONMENT | {"TMPDIR": temporary}
        ) as process,
    ):
        while not log.exists() or not log.read_text().endswith("\n"):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        ends = time.monotonic() + 30
        while is_alive(log.read_text().strip()):
            assert time.monotonic() < ends, "it would hold the lock of the run"
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.long
def test_a_folder_that_the_machine_does_not_have(ray, tmp_path):
    with pytest.raises(InputError, match=r"nosuch: not found on .* all machines of the cluster"):
        finish(start_on_ray(ray, None)(["-c", "pass"], tmp_path / "nosuch/log"))


def asked_for(nodes, gpus):
    """The options of the task of a cell, on nodes with these resources."""
    options = {}
    remote = SimpleNamespace(options=options.update)
    alive = [{"Alive": True, "Resources": resources} for resources in nodes]
    dead = {"Alive": False, "Resources": {"GPU": 99, "CPU": 1}}
    start_on_ray(SimpleNamespace(nodes=lambda: [*alive, dead], remote=lambda _: remote), gpus)
    return options["num_gpus"], options["num_cpus"]


def test_what_a_cell_asks_for():
    head, small, large = {"memory": 1.0}, {"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}
    assert asked_for([head, small, large], None) == (1, 1)
    assert asked_for([head, small, large], 8) == (8, 1)
    assert asked_for([head, small, large], 0) == (0, 8)
    assert asked_for([head, small], None) == (0, 8)
    assert asked_for([head], None) == (0, 1)
    with pytest.raises(InputError, match="--gpus-per-cell=9: no machine has more than 8"):
        asked_for([head, small, large], 9)


@pytest.mark.slow
@pytest.mark.long
def test_a_grid_whose_worker_is_killed_is_the_local_one(tmp_path):
    process = subprocess.Popen(
        [sys.executable, *TINY, f"--out={tmp_path / 'ray'}", "--engine=ray"],
        cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    checkpoints = tmp_path / "ray/base-t-seed1/checkpoints"
    while not any(checkpoints.glob("[0-9]")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert kill_workers(process.pid, "_run")
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    run_python(*TINY, f"--out={tmp_path / 'local'}")

    assert "1 finished cells" in output
    lines = errors.splitlines()
    assert sum("it is started again" in line for line in lines) == 1
    # What takes long, and where, is announced once for all cells.
    others = [line for line in lines if not line.startswith("base-t-seed1: ")]
    assert all(line.startswith(("compiling ", "training on ")) for line in others)
    assert [line for line in lines if "epoch 4/4" in line]
    tables = [list(csv.DictReader((tmp_path / x / "results.csv").open())) for x in ("ray", "local")]
    for (row,) in tables:
        assert float(row.pop("seconds")) > 0
    assert tables[0] == tables[1]
    cells = [tmp_path / where / "base-t-seed1" for where in ("ray", "local")]
    for name in ("dev.json", "test.json", "dev.npz", "test.npz"):
        assert (cells[0] / "predictions" / name).read_bytes() == (
            cells[1] / "predictions" / name
        ).read_bytes()
    assert json.loads((cells[0] / "config.json").read_text()) == json.loads(
        (cells[1] / "config.json").read_text()
    )


@pytest.mark.slow
def test_distributed_is_refused(tmp_path):
    for tool, instead in (("run_grid", "--engine=ray"), ("extract_features", "--shard")):
        done = run_python(f"tools/{tool}.py", "--config=configs/demo.py", "--distributed", status=2)
        name = tool.removeprefix("run_").removesuffix("_features")
        assert done.stderr.startswith(
            f"{name}: --distributed: is for train, evaluate and predict; "
        )
        assert instead in done.stderr
        assert done.stderr.count("\n") == 1
    done = run_python(*TINY, f"--out={tmp_path}", "--address=auto", status=2)
    assert done.stderr == "grid: --address requires --engine=ray\n"
