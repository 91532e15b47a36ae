"""Trains every cell of a grid: objectives x modalities x seeds, each in a process of its own."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ml_collections import ConfigDict
from tqdm import tqdm

import rpcl_jax
from rpcl_jax.errors import InputError
from rpcl_jax.files import read_json, shipped, write_csv
from rpcl_jax.run.base_config import OBJECTIVES
from rpcl_jax.run.config import flatten, load_config_file
from rpcl_jax.run.workdir import check_owner, locked_run, run_name


class Grid(NamedTuple):
    """What all cells have in common.

    file: the config file; the objective of each cell is passed to its `get_config`.
    overrides: fields that hold for all cells, by dotted name.
    out: folder of the grid; cell `<run name>` is trained in `out/<run name>`.
    """

    file: str
    overrides: Mapping[str, Any]
    out: Path


class Cell(NamedTuple):
    """One run of the grid."""

    name: str  # of the run, and of its folder
    config: ConfigDict
    flags: list[str]  # of `rpcl_jax.main`, which make this config


def config_with(file: str, objective: str, overrides: Mapping[str, Any]) -> ConfigDict:
    """Returns the config that `--config=FILE:OBJECTIVE --config.FIELD=VALUE …` gives.

    Raises:
      InputError: there is no such objective.
    """
    config = load_config_file(file, objective)
    config.update_from_flattened_dict(dict(overrides))
    return config


def make_cell(grid: Grid, objective: str, modalities: str, seed: int) -> Cell:
    """Returns a cell of the grid.

    Raises:
      InputError: there is no such objective.
    """
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
    """Returns the cells of the product, without duplicates.

    Raises:
      InputError: there is no such objective.
    """
    product = dict.fromkeys(itertools.product(objectives, modalities, seeds))
    return [make_cell(grid, *choice) for choice in product]


def finished_cells(grid: Grid) -> list[Cell]:
    """Returns the finished cells in the grid's folder, whichever command trained them."""
    found = []
    for path in sorted(grid.out.glob("*/result.json")):
        result = read_json(path)
        try:
            cell = make_cell(grid, result["objective"], result["modalities"], result["seed"])
            check_owner(path.parent, cell.config)
        except InputError:  # of another grid
            continue
        if path.parent.name == cell.name:
            found.append(cell)
    order = list(OBJECTIVES)
    return sorted(
        found,
        key=lambda cell: (
            cell.config.modalities,
            order.index(cell.config.objective),
            cell.config.seed,
        ),
    )


def write_results(grid: Grid) -> int:
    """Writes `results.csv`, a row for every finished cell, and returns the number of rows.

    The columns are `run`, the cell's folder, and everything in its `result.json`. If no cell of
    this config is finished, an existing table is kept, because it belongs to another config.
    """
    cells = finished_cells(grid)
    path = grid.out / "results.csv"
    if not cells and path.exists():
        return 0
    rows = [
        {"run": cell.name} | flatten(read_json(grid.out / cell.name / "result.json"))
        for cell in cells
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(path, [columns, *([row.get(column) for column in columns] for row in rows)])
    return len(cells)


_PROGRESS = ("epoch", "compiling", "encoding")  # how the lines that tell of it begin


class Process(Protocol):
    """What the grid uses of `subprocess.Popen`, here or on another machine."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, once it has ended."""

    def poll(self) -> int | None:
        """Returns its exit status, or None while it waits or runs."""

    def terminate(self) -> None:
        """Asks it to end."""

    def wait(self) -> Any:
        """Waits until it has ended."""


# Starts Python with these arguments, and writes its output to a file.
Start = Callable[[list[str], Path], Process]


@dataclass
class Training:
    """The process of a cell, and its line on the terminal."""

    cell: Cell
    process: Process
    log: Path  # there once the process runs
    line: tqdm | None = None
    shown: int = 0  # messages of progress
    said: set[str] = field(default_factory=set)  # by all cells of the grid

    def messages(self) -> list[str]:
        """Returns the lines of the log, without those that name the result files."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return [line for line in lines if not line.startswith("results: ")]

    def show(self) -> None:
        """Updates the line; without a terminal, prints each epoch and what is done before it."""
        if self.line is None:
            if not self.log.exists():
                return
            self.line = tqdm(
                desc=f"{self.cell.name}: starting",
                bar_format="{desc}  [{elapsed}]",
                leave=False,
                disable=not sys.stderr.isatty(),
            )
        messages = self.messages()
        begins = next((i for i, m in enumerate(messages) if m.startswith(_PROGRESS)), 0)
        for message in messages[:begins]:  # of its data and its encoder
            if message not in self.said:
                self.said.add(message)
                tqdm.write(message, file=sys.stderr)
        progress = [m for m in messages if m.startswith(_PROGRESS)]
        for message in progress[self.shown :]:
            self.line.set_description_str(f"{self.cell.name}: {message}", refresh=False)
            if self.line.disable:
                print(f"{self.cell.name}: {message}", file=sys.stderr, flush=True)
        self.shown = len(progress)
        self.line.refresh()

    def close(self) -> None:
        """Removes the line."""
        if self.line is not None:
            self.line.close()

    def finish(self) -> bool:
        """Replaces the line by the outcome and returns whether the process succeeded."""
        self.close()
        status = self.process.returncode
        failure = f"FAILED with status {status}, see {self.log}: " if status else ""
        message = (self.messages() or ["produced no output"])[-1]
        tqdm.write(f"{self.cell.name}: {failure}{message}", file=sys.stderr)
        return status == 0


def device_environments(cpu_cells: int = 1) -> list[dict[str, str]]:
    """Returns the environment variables of each place where a cell can be trained.

    A place is one GPU, the only one visible to its cell. On a CPU there are `cpu_cells` places,
    which share the cores.
    """
    # Asked in another process: a process that has opened a GPU reserves most of its memory.
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
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
    grid: Grid,
    cells: Iterable[Cell],
    starts: Sequence[Start] | None = None,
    cpu_cells: int = 1,
) -> list[Cell]:
    """Trains the unfinished cells, in this order, and returns those that failed.

    Args:
      grid: of the cells.
      cells: to be trained.
      starts: for each place where a cell can be trained, a function that starts its process there.
        None trains one cell at a time on each GPU of this machine.
      cpu_cells: how many cells train at a time on this machine if it has no GPU.

    Raises:
      InputError: another process is training in the grid's folder.
    """
    with locked_run(grid.out) as lock:
        failed, waiting = [], []
        for cell in cells:
            if (grid.out / cell.name / "result.json").is_file():
                try:
                    check_owner(grid.out / cell.name, cell.config)
                except InputError as error:
                    failed.append(cell)
                    print(f"{cell.name}: FAILED: {error}", file=sys.stderr)
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
    running: dict[int, Training] = {}  # by place
    said: set[str] = set()
    try:
        while waiting or running:
            for place, start in enumerate(starts):
                if waiting and place not in running:
                    cell, log = waiting[0], out / f"{waiting[0].name}.log"
                    arguments = ["-m", "rpcl_jax.main", *cell.flags, f"--workdir={out / cell.name}"]
                    log.unlink(missing_ok=True)
                    running[place] = Training(cell, start(arguments, log), log, said=said)
                    waiting.pop(0)
            time.sleep(0.5)
            for place, training in list(running.items()):
                ended = training.process.poll() is not None
                training.show()
                if ended:
                    del running[place]
                    if not training.finish():
                        failed.append(training.cell)
    finally:
        for training in running.values():
            training.process.terminate()
        for training in running.values():
            training.process.wait()
            training.close()
    return failed


def _start_here(
    lock: int, environment: Mapping[str, str], arguments: list[str], log: Path
) -> subprocess.Popen:
    # So that the cell finds the package wherever the grid was started, installed or not.
    package = str(Path(rpcl_jax.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": path, **environment},
            stdout=file,
            stderr=file,
            # The cell continues, and holds the lock, if this process is killed. On Windows, where
            # nothing can be passed, it holds only that of its own folder.
            pass_fds=[] if sys.platform == "win32" else [lock],
        )
