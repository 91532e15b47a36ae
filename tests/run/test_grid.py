"""Grids: what is trained, skipped, resumed and reported. Each in processes of its own."""

import contextlib
import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from shared import ENVIRONMENT, ROOT, run_python

TINY = [
    "--config=configs/demo.py",
    "--config.data.sizes.train=32",
    "--config.data.sizes.dev=8",
    "--config.data.sizes.test=8",
    "--config.model.width=16",
    "--config.model.pair_width=16",
    "--seeds=1",
]


def grid(out, *flags):
    return [sys.executable, "tools/run_grid.py", *TINY, f"--out={out}", *flags]


def run(*arguments, status=0):
    return run_python(*grid(*arguments)[1:], status=status)


def rows(out):
    with (out / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_failing_cell_is_reported_and_finished_ones_are_skipped(tmp_path):
    epochs = "--config.epochs=1"
    done = run(tmp_path, epochs, "--objectives=nosuch,base", "--modalities=t", status=1)
    assert "nosuch-t-seed1: FAILED with status 1" in done.stderr
    assert "'nosuch' is unknown" in done.stderr
    assert "base-t-seed1: epoch 1/1" in done.stderr
    assert "1 finished cells" in done.stdout
    (row,) = rows(tmp_path)
    result = json.loads((tmp_path / "base-t-seed1/result.json").read_text())
    assert row["run"] == "base-t-seed1"
    assert float(row["test.pair_f1"]) == result["test"]["pair_f1"]
    assert float(row["dev.severity_hard"]) == result["dev"]["severity_hard"]
    assert row["versions.jax"] == result["versions"]["jax"]

    written = (tmp_path / "base-t-seed1/result.json").stat().st_mtime_ns
    done = run(tmp_path, epochs, "--objectives=base", "--modalities=t")
    assert "1 finished cells" in done.stdout
    assert (tmp_path / "base-t-seed1/result.json").stat().st_mtime_ns == written
    # A finished cell of another config is no cell of this grid.
    done = run(tmp_path, "--config.epochs=2", "--objectives=base", "--modalities=t", status=1)
    assert "another config (epochs: 1 there, 2 asked for)" in done.stderr
    assert [row["run"] for row in rows(tmp_path)] == ["base-t-seed1"]
    # A later command adds cells to the table and loses none.
    run(tmp_path, epochs, "--objectives=rpcl,rpcl", "--modalities=t")
    assert [row["run"] for row in rows(tmp_path)] == ["base-t-seed1", "rpcl-t-seed1"]
    refused = run(tmp_path, epochs, "--config.seed=7", status=2)
    assert "run_grid: --config.seed: the grid sets it; use --seeds" in refused.stderr
    assert "must be whole numbers" in run(tmp_path, epochs, "--seeds=x", status=2).stderr


@pytest.mark.slow
def test_a_stopped_grid_goes_on_where_it_was(tmp_path):
    flags = ["--config.epochs=3", "--objectives=base", "--modalities=t"]
    process = subprocess.Popen(
        grid(tmp_path / "stopped", *flags),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "epoch 1/3" in line:
            break
    metrics = tmp_path / "stopped/base-t-seed1/metrics.jsonl"
    while not (metrics.parent / "checkpoints/1").is_dir():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    size = metrics.stat().st_size
    time.sleep(2)
    assert metrics.stat().st_size == size  # the cell was stopped as well
    assert not (tmp_path / "stopped/base-t-seed1/result.json").exists()

    resumed = run(tmp_path / "stopped", *flags)
    assert "epoch 1/3" not in resumed.stderr
    run(tmp_path / "whole", *flags)
    numbers = [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in rows(tmp_path / "stopped") + rows(tmp_path / "whole")
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.slow
def test_two_grids_do_not_share_a_folder_even_if_one_is_killed(tmp_path):
    flags = ["--config.epochs=2000", "--config.patience=2000", "--objectives=base"]
    process = subprocess.Popen(
        grid(tmp_path, *flags, "--modalities=t"),
        cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        for line in process.stderr:
            if "epoch 1/2000" in line:
                break
        else:
            pytest.fail("the cell has not got through an epoch")
        process.kill()
        process.wait()
        log = tmp_path / "base-t-seed1.log"
        before = log.read_text()
        refused = run(tmp_path, *flags, status=1).stderr
        assert refused == (
            f"run_grid: {tmp_path}: another process is training in it; wait for it, or stop it\n"
        )
        assert log.read_text().startswith(before)
        assert len(log.read_text()) > len(before), "the cell goes on"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


DEVICES = """
import json, os, subprocess, sys, time
from pathlib import Path
from tools import run_grid

seen = []
run_grid.subprocess.run = lambda *a, **k: subprocess.CompletedProcess(a, 0, sys.argv[1])
print(json.dumps(run_grid.device_environments()))
if len(sys.argv) > 2:
    popen = subprocess.Popen
    code = "import sys, time; time.sleep(1)"
    def start(command, env, **files):
        seen.append([env["CUDA_VISIBLE_DEVICES"], time.monotonic()])
        return popen([sys.executable, "-c", code], env=env, **files)
    run_grid.subprocess.Popen = start
    cells = [run_grid.Cell("base", "t", seed) for seed in range(5)]
    with run_grid.locked(Path(sys.argv[2])) as lock:
        assert run_grid.run_grid(cells, None, [], Path(sys.argv[2]), lock) == []
    print(json.dumps(seen))
"""


def devices(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_devices_there_are():
    assert devices("cpu 8") == [[{}]]
    visible = {"CUDA_VISIBLE_DEVICES": ""}
    assert devices("gpu 2", **visible) == [
        [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    ]
    assert devices("gpu 2", CUDA_VISIBLE_DEVICES="3,5") == [
        [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    ]


def test_every_device_has_one_cell_at_a_time(tmp_path):
    """Cells are stood in for by processes of a second."""
    _, cells = devices("gpu 2", tmp_path, CUDA_VISIBLE_DEVICES="")
    assert {device for device, _ in cells} == {"0", "1"}
    for device in "01":
        starts = [start for name, start in cells if name == device]
        assert len(starts) >= 2
        assert min(b - a for a, b in itertools.pairwise(starts)) >= 1
    assert cells[1][1] - cells[0][1] < 1  # both at once
