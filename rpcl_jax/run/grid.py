"""Trains every cell of a grid: objectives x modalities x seeds.

python tools/run_grid.py --config=configs/ecf_minilm.py --objectives=base,rpcl --modalities=t \
  --seeds=42,345,456 --out=runs/ecf_minilm_grid

A cell is a run of `rpcl_jax.main` in a process of its own, in the folder
OUT/<objective>-<modalities>-seed<seed>, one cell at a time on each device: each of the NVIDIA GPUs
that are visible, or else the machine as a whole. Finished cells are skipped, interrupted ones go
on. Ends with OUT/results.csv, a row for every finished cell of this config in OUT, whichever
command trained it. Further `--config.FIELD=VALUE` flags hold for all cells. Exits with 1 if a cell
failed.
"""

import csv
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from rpcl_jax.errors import InputError
from rpcl_jax.objective import VARIANTS
from rpcl_jax.run.command_line import check_config, run_command
from rpcl_jax.run.workdir import check_owner, locked, read_json

_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the runs have in common.")
_OBJECTIVES = flags.DEFINE_list("objectives", list(VARIANTS), "Names of rpcl_jax/objective.py.")
_MODALITIES = flags.DEFINE_list("modalities", ["t"], "Any of t, ta, tv, tav.")
_SEEDS = flags.DEFINE_list("seeds", ["42", "345", "456"], "The paper's are 42, 345, 456.")
_OUT = flags.DEFINE_string("out", "", "Folder of the grid.")


class Cell(NamedTuple):
    """One run of the grid."""

    objective: str
    modalities: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.objective}-{self.modalities}-seed{self.seed}"

    def config(self, common: ConfigDict) -> ConfigDict:
        """Its config, which differs from the common one in what makes the cell."""
        config = ConfigDict(common)
        config.update(self._asdict())
        return config


@dataclass
class Training:
    """The process of a cell, and the line that shows it."""

    cell: Cell
    process: subprocess.Popen
    log: Path
    line: tqdm
    shown: int = 0  # epochs

    def said(self) -> list[str]:
        """The lines of its log that say how it goes or went."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return [line for line in lines if not line.startswith("results: ")]

    def show(self) -> None:
        """Brings its line up to date; without a terminal, prints one for every epoch."""
        epochs = [line for line in self.said() if line.startswith("epoch")]
        for said in epochs[self.shown :]:
            self.line.set_description_str(f"{self.cell.name}: {said}", refresh=False)
            if self.line.disable:
                print(f"{self.cell.name}: {said}", file=sys.stderr, flush=True)
        self.shown = len(epochs)
        self.line.refresh()

    def end(self) -> bool:
        """Replaces its line by the outcome; says whether it went well."""
        self.line.close()
        status = self.process.returncode
        failure = f"FAILED with status {status}, see {self.log}: " if status else ""
        said = (self.said() or ["it said nothing"])[-1]
        tqdm.write(f"{self.cell.name}: {failure}{said}", file=sys.stderr)
        return status == 0


def flatten(result: dict[str, Any]) -> dict[str, Any]:
    """`result.json` as one row: nested names joined by a dot."""
    row: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, dict):
            row |= {f"{name}.{key}": inner for key, inner in flatten(value).items()}
        else:
            row[name] = value
    return row


def finished_cells(common: ConfigDict, out: Path) -> list[Cell]:
    """The finished cells of a grid in its folder, whichever command trained them."""
    cells = []
    for path in sorted(out.glob("*/result.json")):
        result = read_json(path)
        cell = Cell(result["objective"], result["modalities"], result["seed"])
        if path.parent.name == cell.name and _is_of_grid(cell, common, out):
            cells.append(cell)
    order = list(VARIANTS)
    return sorted(cells, key=lambda c: (c.modalities, order.index(c.objective), c.seed))


def _is_of_grid(cell: Cell, common: ConfigDict, out: Path) -> bool:
    try:
        check_owner(out / cell.name, cell.config(common))
    except InputError:
        return False
    return True


def write_results(common: ConfigDict, out: Path) -> int:
    """Writes `out/results.csv`, a row for every finished cell, and returns their number.

    Columns: `run`, the cell's folder, and everything in its `result.json`. Without a finished cell
    of this config, a table that is there stays: it is another config's.
    """
    cells = finished_cells(common, out)
    if not cells and (out / "results.csv").exists():
        return 0
    rows = [
        {"run": cell.name} | flatten(read_json(out / cell.name / "result.json")) for cell in cells
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    temporary = out / "results.csv.tmp"
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(out / "results.csv")
    return len(cells)


def device_environments() -> list[dict[str, str]]:
    """For each device, the environment in which a process sees that one alone."""
    # Another process asks: one that has opened a GPU keeps most of its memory.
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    backend, count = answer.stdout.split()
    if backend != "gpu":  # a CPU is one device, whatever XLA was told to count
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(int(count))]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names]


def run_grid(
    cells: Sequence[Cell], common: ConfigDict, arguments: Sequence[str], out: Path, lock: int
) -> list[Cell]:
    """Trains `cells`, in this order, and returns those that failed.

    Args:
      cells: of the grid.
      common: the config of all cells.
      arguments: the flags that make `common`.
      out: folder of the grid.
      lock: on `out`, for the cells to hold too: should this process be killed, they go on.
    """
    failed, waiting = [], []
    for cell in cells:
        if (out / cell.name / "result.json").is_file():
            try:
                check_owner(out / cell.name, cell.config(common))
            except InputError as error:
                failed.append(cell)
                print(f"{cell.name}: FAILED: {error}", file=sys.stderr)
        else:
            waiting.append(cell)
    environments = device_environments() if waiting else []
    running: dict[int, Training] = {}  # by device
    try:
        while waiting or running:
            for device, environment in enumerate(environments):
                if waiting and device not in running:
                    cell = waiting.pop(0)
                    running[device] = _start(cell, arguments, out, lock, environment, device)
            time.sleep(0.5)
            for device, training in list(running.items()):
                ended = training.process.poll() is not None
                training.show()
                if ended:
                    del running[device]
                    if not training.end():
                        failed.append(training.cell)
    finally:
        for training in running.values():
            training.process.terminate()
            training.process.wait()
            training.line.close()
    return failed


def _start(
    cell: Cell,
    arguments: Sequence[str],
    out: Path,
    lock: int,
    environment: dict[str, str],
    device: int,
) -> Training:
    command = [
        *(sys.executable, "-m", "rpcl_jax.main", *arguments, f"--workdir={out / cell.name}"),
        *(f"--config.{field}={value}" for field, value in cell._asdict().items()),
    ]
    log = out / f"{cell.name}.log"
    # A module that is run finds its package through the path, wherever the grid was started.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": path} | environment,
            stdout=file,
            stderr=file,
            pass_fds=[lock],
        )
    line = tqdm(
        desc=f"{cell.name}: starting",
        bar_format="{desc}  [{elapsed}]",
        position=device,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    return Training(cell, process, log, line)


def main() -> None:
    """Reads the flags, trains the grid, writes the table."""
    run_command("run_grid", _run, _check_flags)


def _check_flags() -> None:
    check_config(_CONFIG)
    if not _OUT.value:
        raise flags.Error("--out is needed, the folder of the grid")
    for seed in _SEEDS.value:
        if not re.fullmatch(r"-?[0-9]{1,9}", seed):
            raise flags.Error(f"--seeds={','.join(_SEEDS.value)}: must be whole numbers")
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    for field, flag in (("objective", "objectives"), ("modalities",) * 2, ("seed", "seeds")):
        if field in overrides:
            raise flags.Error(f"--config.{field}: the grid sets it; use --{flag}")


def _run() -> None:
    product = itertools.product(_OBJECTIVES.value, _MODALITIES.value, map(int, _SEEDS.value))
    cells = list(dict.fromkeys(Cell(*choice) for choice in product))
    out = Path(_OUT.value)
    config_flag = flags.FLAGS["config"]
    overrides = config_flags.get_override_values(config_flag)
    arguments = [
        f"--config={config_flags.get_config_filename(config_flag)}",
        *(f"--config.{field}={value}" for field, value in overrides.items()),
    ]
    # A cluster's way to say stop; the cells are stopped too, and go on when the grid does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with locked(out) as lock:
        try:
            failed = run_grid(cells, _CONFIG.value, arguments, out, lock)
        finally:  # stopped halfway, there is a table all the same
            finished = write_results(_CONFIG.value, out)
            table = out / "results.csv" if finished else "no table"
            print(f"{finished} finished cells: {table}")
    if failed:
        raise InputError(f"failed: {', '.join(cell.name for cell in failed)}")


if __name__ == "__main__":
    main()
