"""Grids: what is trained, skipped, resumed, refused and reported, by the command itself."""

import contextlib
import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags
from fake_runs import write_description
from ml_collections import config_flags
from shared import ENVIRONMENT, ROOT, run_python, tiny_flags

from rpcl_jax.files import write_json
from rpcl_jax.run import grid as grid_module
from rpcl_jax.run.config import load_config_file
from rpcl_jax.run.grid import Cell, CellProcess, Grid, _start_here, make_cells

TINY = [*tiny_flags(), "--seeds=1"]


def grid(out, *flags):
    return [sys.executable, "tools/run_grid.py", *TINY, f"--out={out}", *flags]


def run(*arguments, status=0):
    return run_python(*grid(*arguments)[1:], status=status)


def rows(out):
    with (out / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.long
def test_a_failing_cell_is_reported_and_finished_ones_are_skipped(tmp_path):
    epochs = "--config.epochs=1"
    (tmp_path / "ccps-t-seed1").mkdir()
    (tmp_path / "ccps-t-seed1/mine.txt").write_text("not a run")
    done = run(tmp_path, epochs, "--objectives=ccps,base", "--modalities=t", status=1)
    assert "ccps-t-seed1: FAILED with status 1" in done.stderr
    assert "ccps-t-seed1: not empty, and not the folder of a run" in done.stderr
    assert "grid: failed: ccps-t-seed1" in done.stderr
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
    # What was trained is what the objective says, and the flag that all cells share.
    config = json.loads((tmp_path / "base-t-seed1/config.json").read_text())["run"]
    assert (config["objective"], config["modalities"], config["seed"]) == ("base", "t", 1)
    assert config["rpcl"]["row_weight"] == config["rpcl"]["corruption_weight"] == 0
    assert (config["epochs"], config["model"]["width"]) == (1, 32)
    # A later command adds cells to the table and loses none.
    run(tmp_path, epochs, "--objectives=rpcl,rpcl", "--modalities=t")
    assert [row["run"] for row in rows(tmp_path)] == ["base-t-seed1", "rpcl-t-seed1"]


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--config.seed: the grid sets it; use --seeds", ["--config.seed=7"]),
        ("--config.objective: the grid sets it; use --objectives", ["--config.objective=base"]),
        ("--seeds=x: must be whole numbers from 0", ["--seeds=x"]),
        ("config.modalities: 'av' is unknown", ["--modalities=av"]),
        ("config.patience: is -1", ["--config.patience=-1"]),
        (
            "--objectives: 'nosuch' is not an objective; the objectives are base, rpcl",
            ["--objectives=base,nosuch"],
        ),
        (
            "--config=configs/demo.py:base: the grid sets the objective; "
            "use --config=configs/demo.py --objectives=base",
            ["--config=configs/demo.py:base"],
        ),
        (
            "--config.rpcl.row_weight: the objective ccps sets this field",
            ["--config.rpcl.row_weight=0.5", "--objectives=rpcl,ccps"],
        ),
        (
            "--config.rpcl.corruption_rate: the objective pair_weight sets this field",
            ["--config.rpcl.corruption_rate=0.5", "--objectives=ccps,pair_weight"],
        ),
        ("--cpu-cells: Ray decides", ["--engine=ray", "--cpu-cells=2"]),
        ("--seeds: is empty", ["--seeds="]),
    ],
)
def test_bad_flags_are_refused_before_anything_is_trained(tmp_path, message, arguments):
    config = ["--config=configs/demo.py"] * (not arguments[0].startswith("--config="))
    command = ["tools/run_grid.py", *config, "--seeds=1", f"--out={tmp_path / 'out'}"]
    refused = run_python(*command, *arguments, status=2).stderr
    assert refused.startswith(f"grid: {message}")
    assert refused.count("\n") == 1
    assert not (tmp_path / "out").exists()


def cell_of_two_epochs(tmp_path, name, said=(), status=None):
    """A cell whose process is stood in for, and what is written to its log and its metrics."""
    config = load_config_file(ROOT / "configs/demo.py", "base")
    config.epochs = 2
    folder, log = tmp_path / name, tmp_path / f"{name}.log"
    folder.mkdir(exist_ok=True)
    process = SimpleNamespace(returncode=status)
    cell = CellProcess(Cell(name, config, []), process, folder, log, said)

    def write(logged, epoch=None):
        with log.open("a") as file:
            file.write(f"{logged}\n")
        if epoch:
            values = {"dev/pair_f1": 0.5, "dev/pair_auprc": 0.25, "mean_loss": 1.5}
            values |= {"epoch": epoch, "seconds": 60, "dialogues_per_second": 2}
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": 1, "train/loss": 1.0}) + "\n")
                file.write(json.dumps(values) + "\n")

    return cell, write


EPOCHS = [
    f"epoch {epoch}/2  loss 1.500  validation Pair F1 50.00  AUPRC 25.00  2.0 dialogues/s  "
    f"at most {left} min left"
    for epoch, left in ((1, "1.0"), (2, "0.0"))
]


def test_a_cell_shows_its_epochs(tmp_path, capsys):
    cell, write = cell_of_two_epochs(tmp_path, "a", set())
    cell.show()
    write("epoch or not, whatever words the log has")
    cell.show()
    assert capsys.readouterr().err == "", "it may be half written, or of an error"
    write(EPOCHS[0], epoch=1)
    cell.show()
    shown = f"epoch or not, whatever words the log has\na: {EPOCHS[0]}\n"
    assert capsys.readouterr().err == shown
    cell.show()
    assert capsys.readouterr().err == ""
    write(EPOCHS[1], epoch=2)
    cell.show()
    assert capsys.readouterr().err == f"a: {EPOCHS[1]}\n"
    again, write = cell_of_two_epochs(tmp_path, "a")  # of a later grid
    again.show()
    assert capsys.readouterr().err == "", "they were shown by the first"


def test_what_cells_say_before_they_begin_is_shown_once(tmp_path, capsys):
    said = set()
    for name in "ab":
        cell, write = cell_of_two_epochs(tmp_path, name, said)
        write("the tokenizer does not know 65 %")
        write(EPOCHS[0], epoch=1)
        cell.show()
        notice = "the tokenizer does not know 65 %\n" * (name == "a")
        assert capsys.readouterr().err == f"{notice}{name}: {EPOCHS[0]}\n"


def test_the_outcome_of_a_cell(tmp_path, capsys):
    numbers = {"pair_f1": 0.5, "pair_precision": 0.25, "pair_recall": 1, "pair_auprc": 0.75}
    result = {"test": numbers, "dev": numbers | {"pair_f1": 0.125}, "threshold": 0.5}
    result |= {"objective": "base", "modalities": "t", "seed": 1}
    cell, write = cell_of_two_epochs(tmp_path, "a", status=0)
    write("results: x")
    write_json(tmp_path / "a/result.json", result)
    assert cell.finish()
    assert capsys.readouterr().err == (
        "a: test Pair F1 50.00  (precision 25.00, recall 100.00)  AUPRC 75.00  |  "
        "validation Pair F1 12.50  threshold 0.500\n"
    )
    cell, write = cell_of_two_epochs(tmp_path, "b", status=1)
    failed = f"b: FAILED with status 1, see {tmp_path / 'b.log'}: "
    assert not cell.finish()
    write("some note\nrpcl_jax: the reason")
    assert not cell.finish()
    assert capsys.readouterr().err == f"{failed}produced no output\n{failed}rpcl_jax: the reason\n"


def test_cells_are_what_their_flags_train(monkeypatch):
    """A cell's config, against the one that the command line makes of the cell's flags."""
    common = {"rpcl.row_weight": 0.5, "text.finetune": False, "data.root": "else where"}
    grid = Grid("configs/ecf.py", common, Path("out"))
    cells = make_cells(grid, ["rpcl", "no_top_k", "rpcl"], ["t", "ta"], [3])
    assert [cell.name for cell in cells] == [
        *("rpcl-t-seed3", "rpcl-ta-seed3", "no_top_k-t-seed3", "no_top_k-ta-seed3")
    ]
    for cell in cells:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        monkeypatch.setattr(sys, "argv", ["main", *cell.flags])  # config_flags looks there too
        values(sys.argv)
        assert values.config.to_json() == cell.config.to_json()
    shipped = Grid(str(ROOT / "configs/ecf.py"), {}, Path("out"))
    assert grid_module._make_cell(shipped, "base", "t", 1).flags[0] == "--config=ecf:base", (
        "on any machine"
    )
    assert cells[-1].config.rpcl.top_k == 0
    assert cells[0].config.rpcl.row_weight == cells[-1].config.rpcl.row_weight == 0.5


def test_a_finished_grid_is_listed(tmp_path):
    cells = [("base", 42), ("rpcl", 42), ("rpcl", 345), ("no_top_k", 42), ("ccps", 42)]
    for objective, seed in cells:
        folder = tmp_path / f"{objective}-t-seed{seed}"
        config = load_config_file(ROOT / "configs/ecf_frozen.py", objective)
        config.seed = seed
        if objective != "ccps":  # which belongs to another grid
            config.data.max_utterances = 30
        write_description(folder, config, ["neutral", "joy"])
        pair = {f"pair_{metric}": 0.5 for metric in ("precision", "recall", "f1", "auprc")}
        result = {"objective": objective, "modalities": "t", "seed": seed, "threshold": 0.5}
        write_json(folder / "result.json", result | {"dev": pair, "test": pair})
    command = [
        *("tools/run_grid.py", "--config=configs/ecf_frozen.py", "--objectives=base,rpcl"),
        *("--seeds=42", "--config.data.max_utterances=30", f"--out={tmp_path}"),
    ]
    assert "4 finished cells" in run_python(*command).stdout  # nothing is trained
    names = ["base-t-seed42", "rpcl-t-seed42", "rpcl-t-seed345", "no_top_k-t-seed42"]
    assert [row["run"] for row in rows(tmp_path)] == names
    assert [row["test.pair_f1"] for row in rows(tmp_path)] == ["0.5"] * 4


@pytest.mark.slow
@pytest.mark.long
def test_a_stopped_grid_continues_where_it_was(tmp_path):
    flags = ["--config.epochs=4", "--objectives=base", "--modalities=t"]
    process = subprocess.Popen(
        grid(tmp_path / "stopped", *flags),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "epoch 1/4" in line:
            break
    metrics = tmp_path / "stopped/base-t-seed1/metrics.jsonl"
    while not any((metrics.parent / "checkpoints").glob("[0-9]")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    size = metrics.stat().st_size
    time.sleep(2)
    assert metrics.stat().st_size == size  # the cell was stopped as well
    assert not (tmp_path / "stopped/base-t-seed1/result.json").exists()

    resumed = run(tmp_path / "stopped", *flags)
    assert "epoch 1/4" not in resumed.stderr
    run(tmp_path / "whole", *flags)
    numbers = [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in rows(tmp_path / "stopped") + rows(tmp_path / "whole")
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.slow
@pytest.mark.long
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
            f"grid: {tmp_path}: another process is training in it; wait for it, or stop it\n"
        )
        assert log.read_text().startswith(before)
        assert len(log.read_text()) > len(before), "the cell continues"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_what_a_cell_inherits(tmp_path, monkeypatch):
    inherited = []
    monkeypatch.setattr(
        "subprocess.Popen", lambda *_, pass_fds, **others: inherited.append(pass_fds)
    )
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        _start_here(7, {}, [], tmp_path / "log")
    assert inherited == [[7], [7], []]


DEVICES = """
import json, os, subprocess, sys, time
from pathlib import Path
from rpcl_jax.run import grid

seen = []
grid.subprocess.run = lambda *a, **k: subprocess.CompletedProcess(a, 0, sys.argv[1])
print(json.dumps(grid.device_environments()))
if len(sys.argv) > 2:
    popen = subprocess.Popen
    code = "import sys, time; time.sleep(1)"
    def start(command, env, **files):
        assert env["PYTHONPATH"].split(os.pathsep)[0] == os.getcwd()  # that of the package
        seen.append([env["CUDA_VISIBLE_DEVICES"], time.monotonic()])
        return popen([sys.executable, "-c", code], env=env, **files)
    grid.subprocess.Popen = start
    grid.read_json, grid.outcome = lambda path: {}, lambda result: "trained"
    cells = [grid.Cell(str(number), None, []) for number in range(5)]
    assert grid.run_grid(grid.Grid("", {}, Path(sys.argv[2])), cells) == []
    print(json.dumps(seen))
"""


def devices(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def test_what_devices_there_are():
    assert devices("cpu 8") == [[{}]]
    visible = {"CUDA_VISIBLE_DEVICES": ""}
    assert devices("gpu 2", **visible) == [
        [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    ]
    assert devices("gpu 2", CUDA_VISIBLE_DEVICES="3,5") == [
        [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_cells_that_share_a_cpu_share_its_cores(monkeypatch):
    code = """if True:
        import glob, jax
        jax.jit(lambda x: x @ x)(jax.numpy.ones((64, 64))).block_until_ready()
        threads = [open(path).read() for path in glob.glob("/proc/self/task/*/comm")]
        print(sum("XLAEigen" in name for name in threads))
    """
    monkeypatch.setattr(grid_module, "usable_cores", lambda: 7)
    places = grid_module.device_environments(3)
    assert len(places) == 3
    for place in (places[0], {}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=ENVIRONMENT | place,
            stdout=subprocess.PIPE,
            check=True,
        )
        assert int(done.stdout) == (2 if place else len(os.sched_getaffinity(0)))
    assert len(grid_module.device_environments(99)) == 99
    assert grid_module.device_environments(99)[0] == {"NPROC": "1"}


def test_every_device_has_one_cell_at_a_time(tmp_path):
    """Cells are stood in for by processes of a second."""
    _, cells = devices("gpu 2", tmp_path, CUDA_VISIBLE_DEVICES="")
    assert {device for device, _ in cells} == {"0", "1"}
    for device in "01":
        starts = [start for name, start in cells if name == device]
        assert len(starts) >= 2
        assert min(b - a for a, b in itertools.pairwise(starts)) >= 1
    assert cells[1][1] - cells[0][1] < 1  # both at once
