"""Trains every cell of a grid: objectives x modalities x seeds, each in a process of its own."""

import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from tqdm import tqdm

from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.split_numbers import outcome
from rpcl_jax.files import python_path, read_json, shipped, write_csv
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.run.base_config import OBJECTIVES, flatten
from rpcl_jax.run.config import load_config_file
from rpcl_jax.run.workdir import (
    check_data,
    check_owner,
    data_digests,
    locked_run,
    run_name,
)
from rpcl_jax.training.logger import epoch_line, read_epochs
from rpcl_jax.training.mesh import no_device

_LOG = logging.getLogger(__name__)


class Grid(NamedTuple):
    """What all cells have in common."""

    file: str  # of the config; the objective of each cell is passed to its `get_config`
    overrides: Mapping[str, Any]  # fields that hold for all cells, by dotted name
    out: Path  # folder of the grid; cell `<run name>` is trained in `out/<run name>`


class Cell(NamedTuple):
    """One run of the grid."""

    name: str  # of the run, and of its folder
    config: ConfigDict
    flags: list[str]  # of `rpcl_jax.main`, which make this config


def config_with(file: str, objective: str, overrides: Mapping[str, Any]) -> ConfigDict:
    """Returns the config that `--config=FILE:OBJECTIVE --config.FIELD=VALUE …` gives."""
    config = load_config_file(file, objective)
    config.update_from_flattened_dict(dict(overrides))
    return config


def _make_cell(grid: Grid, objective: str, modalities: str, seed: int) -> Cell:
    overrides = {**grid.overrides, "modalities": modalities, "seed": seed}
    config = config_with(grid.file, objective, overrides)
    file = Path(grid.file)
    # By its name, because another machine of a cluster may have the package elsewhere.
    given = file.stem if file.parent == shipped("configs") else grid.file
    flags = [f"--config={given}:{objective}"]
    flags += [f"--config.{field}={value}" for field, value in overrides.items()]
    return Cell(run_name(config), config, flags)


def make_cells(
    grid: Grid, objectives: Sequence[str], modalities: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """Returns the cells of the product, without duplicates."""
    product = dict.fromkeys(itertools.product(objectives, modalities, seeds))
    return [_make_cell(grid, *choice) for choice in product]


def write_results(grid: Grid) -> int:
    """Writes `results.csv`, a row for every finished cell, and returns the number of rows.

    The cells are those in the grid's folder, whichever command trained them. The columns are `run`,
    the cell's folder, and everything in its `result.json`. If no cell of this config is finished,
    an existing table is kept, because it belongs to another config.
    """
    finished = _finished_cells(grid)
    rows = [{"run": cell.name} | flatten(result) for cell, result in finished]
    order = list(OBJECTIVES)
    rows.sort(key=lambda row: (row["modalities"], order.index(row["objective"]), row["seed"]))
    table = grid.out / "results.csv"
    if rows or not table.exists():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(table, [columns, *([row.get(column) for column in columns] for row in rows)])
    return len(rows)


def _finished_cells(grid: Grid) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Yields the finished cells in the folder of a grid, and their `result.json`."""
    for path in sorted(grid.out.glob("*/result.json")):
        result = read_json(path)
        try:
            cell = _make_cell(grid, result["objective"], result["modalities"], result["seed"])
            check_owner(path.parent, cell.config)
        except InputError:  # of another grid
            continue
        if path.parent.name == cell.name:
            yield cell, result


def _check_data(grid: Grid) -> None:
    """Raises InputError where the data of a finished cell are not those of now, if there are any.

    So a table of results never has cells of different data.
    """
    digests: dict[str, dict[str, str]] = {}  # by modalities, in which alone cells' data differ
    for cell, _ in _finished_cells(grid):
        if cell.config.modalities not in digests:
            try:
                corpus = load_corpus(cell.config, check_values=False)
            except InputError as error:
                what = "whether its data have changed is unknown"
                _LOG.warning(f"{grid.out}: {what} ({error.args[0]})")
                return
            digests[cell.config.modalities] = data_digests(corpus)
        check_data(grid.out / cell.name, digests[cell.config.modalities])


# Starts Python with these arguments, writes its output to a file, and returns a `subprocess.Popen`
# or, on another machine, what has its `returncode`, `poll`, `terminate` and `wait`.
Start = Callable[[list[str], Path], Any]


@dataclass
class CellProcess:
    """The process of a cell, and its line on the terminal."""

    cell: Cell
    process: Any  # from a Start
    folder: Path  # of the run
    log: Path  # there once the process runs
    said: set[str]  # by all cells of the grid, before they began to train
    line: tqdm | None = None
    begun: bool = False  # to train; then it writes its metrics anew

    def __post_init__(self) -> None:
        self.metrics = self.folder / "metrics.jsonl"
        self.written = self._written()
        self.shown = len(read_epochs(self.metrics))

    def _written(self) -> int:
        return self.metrics.stat().st_mtime_ns if self.metrics.exists() else 0

    def _messages(self) -> list[str]:
        text = self.log.read_bytes() if self.log.exists() else b""
        return text.decode(errors="replace").strip().splitlines()

    def show(self) -> None:
        """Updates the line, or without a terminal logs each epoch.

        What the cells have said before they began to train is logged once.
        """
        if self.line is None:
            if not self.log.exists():
                return
            self.line = tqdm(
                desc=f"{self.cell.name}: starting",
                bar_format="{desc}  [{elapsed}]",
                leave=False,
                disable=not sys.stderr.isatty(),
            )
        messages = self._messages()  # read first: an epoch is in the metrics, then in the log
        epochs = read_epochs(self.metrics)[self.shown :]
        lines = [epoch_line(epoch, self.cell.config.epochs) for epoch in epochs]
        if not self.begun and self._written() != self.written:
            self.begun = True
            for message in itertools.takewhile(lambda message: message not in lines, messages):
                if message not in self.said:
                    self.said.add(message)
                    _LOG.info(message)
        self.shown += len(lines)
        for line in lines:
            self.line.set_description_str(f"{self.cell.name}: {line}", refresh=False)
            if self.line.disable:
                _LOG.info(f"{self.cell.name}: {line}")
        self.line.refresh()

    def close(self) -> None:
        """Removes the line."""
        if self.line is not None:
            self.line.close()

    def finish(self) -> bool:
        """Replaces the line by the outcome and returns whether the process succeeded."""
        self.close()
        status, name = self.process.returncode, self.cell.name
        if status == 0:
            _LOG.info(f"{name}: {outcome(read_json(self.folder / 'result.json'))}")
            return True
        *_, message = ["produced no output", *self._messages()]
        _LOG.error(f"{name}: FAILED with status {status}, see {self.log}: {message}")
        return False


def device_environments(cpu_cells: int = 1) -> list[dict[str, str]]:
    """Returns the environment variables of each place where a cell can be trained.

    A place is one GPU, the only one visible to its cell. On a CPU there are `cpu_cells` places,
    which share the cores.
    """
    # Asked in another process: a process that has opened a GPU reserves most of its memory.
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if answer.returncode:
        raise no_device((answer.stderr.strip().splitlines() or [""])[-1])
    backend, count = answer.stdout.split()
    if backend == "cpu" and cpu_cells > 1:
        # XLA starts as many threads as NPROC says, or one on each core.
        return [{"NPROC": str(max(usable_cores() // cpu_cells, 1))}] * cpu_cells
    if backend != "gpu":  # a CPU is one device, however many XLA was told to simulate
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(int(count))]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names]


def usable_cores() -> int:
    """Returns the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_grid(
    grid: Grid, cells: Iterable[Cell], starts: Sequence[Start] | None = None, cpu_cells: int = 1
) -> list[Cell]:
    """Trains the unfinished cells, in this order, and returns those that failed.

    For each place where a cell can be trained, `starts` has the function that starts its process
    there. None trains one cell at a time on each GPU of this machine or, if it has none,
    `cpu_cells` on its CPU.
    """
    with locked_run(grid.out) as lock:
        _check_data(grid)
        failed, waiting = [], []
        for cell in cells:
            if (grid.out / cell.name / "result.json").is_file():
                try:
                    check_owner(grid.out / cell.name, cell.config)
                except InputError as error:
                    failed.append(cell)
                    _LOG.error(f"{cell.name}: FAILED: {error}")
            else:
                waiting.append(cell)
        try:
            if starts is None:
                environments = device_environments(cpu_cells) if waiting else []
                starts = [partial(_start_here, lock, each) for each in environments]
            return failed + _train(grid.out, waiting, starts)
        finally:  # also if the grid is stopped halfway
            finished = write_results(grid)
            table = grid.out / "results.csv" if finished else "no table"
            print(f"{finished} finished cells: {table}")


def _train(out: Path, waiting: list[Cell], starts: Sequence[Start]) -> list[Cell]:
    """Trains cells, one at a time at each place, and returns those that failed."""
    failed: list[Cell] = []
    free, running = list(starts), list[tuple[Start, CellProcess]]()
    said: set[str] = set()
    try:
        while waiting or running:
            while waiting and free:
                start, cell = free.pop(0), waiting.pop(0)
                folder, log = out / cell.name, out / f"{cell.name}.log"
                arguments = ["-m", "rpcl_jax.main", *cell.flags, f"--workdir={folder}"]
                log.unlink(missing_ok=True)
                running.append((start, CellProcess(cell, start(arguments, log), folder, log, said)))
            time.sleep(0.5)
            for start, cell_process in running[:]:
                ended = cell_process.process.poll() is not None
                cell_process.show()
                if ended:
                    running.remove((start, cell_process))
                    free.append(start)
                    if not cell_process.finish():
                        failed.append(cell_process.cell)
    finally:
        for _, cell_process in running:
            cell_process.process.terminate()
        for _, cell_process in running:
            cell_process.process.wait()
            cell_process.close()
    return failed


def _start_here(
    lock: int, environment: Mapping[str, str], arguments: list[str], log: Path
) -> subprocess.Popen:
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": python_path(), **environment},
            stdout=file,
            stderr=file,
            # The cell continues, and holds the lock, if this process is killed. On Windows, where
            # nothing can be passed, it holds only that of its own folder.
            pass_fds=[] if sys.platform == "win32" else [lock],
        )
