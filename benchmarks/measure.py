"""What the benchmarks share: processes that are measured from outside, and a table of results.

Each thing is measured in several processes of its own, which take turns: where a process gets its
memory from changes its speed, and so does what else the machine does at the time. This process
does not import JAX, which would take a GPU from the others.
"""

import csv
import datetime
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from rpcl_jax.errors import InputError
from rpcl_jax.files import write_csv
from rpcl_jax.run.allocator import restart_keeping_memory
from rpcl_jax.run.command_line import run_command

ROOT = Path(__file__).resolve().parents[1]
# In the environment of a process that measures: which of the things.
_PART = "RPCL_BENCHMARK_PART"
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")
COLUMNS = (
    *("date", "commit", "machine", "python", *_PACKAGES),
    *("benchmark", "config", "what", "value", "unit", "low", "high", "processes"),
)
CHOOSING = "choosing a batch"  # what a benchmark does before it measures
# Fields of a config that say where something is, which differs between machines.
_PLACES = ("data.root", "data.audio", "data.vision", "text.pretrained", "text.cache")


class Ended(NamedTuple):
    """A process that has ended.

    seconds: from its start to its end.
    cpu: seconds of all its threads, in the system too.
    peak: the most memory it had at once, in bytes.
    printed: the JSON object in the last line of its output; empty if that is something else.
    """

    seconds: float
    cpu: float
    peak: int
    printed: dict[str, Any]


class Figure(NamedTuple):
    """What was measured, its unit, and its value in each process.

    `value` stands for all of them, if that is not their median.
    """

    what: str
    unit: str
    values: Sequence[float]
    value: float | None = None

    def summary(self) -> tuple[str, str, str]:
        """Returns the value that stands for all, the lowest and the highest, as text."""
        middle = median(self.values) if self.value is None else self.value
        one, two, three = map(_rounded, (middle, min(self.values), max(self.values)))
        return one, two, three


def define_flags() -> tuple[flags.FlagHolder, flags.FlagHolder]:
    """Defines --processes and --table, which every benchmark has."""
    table = str(ROOT / "benchmarks/history.csv")
    return (
        flags.DEFINE_integer(
            "processes", 3, "How many processes measure each thing.", lower_bound=1
        ),
        flags.DEFINE_string("table", table, "Table to append the results to; empty: none."),
    )


def run_benchmark(
    name: str,
    measure: Callable[[], None],
    parts: Mapping[str, Callable[[], dict[str, Any]]],
    check_flags: Callable[[], None],
) -> None:
    """Runs a benchmark, or in a process that `run_part` started, one of its parts.

    Args:
      name: of the module in `benchmarks`; messages begin with it.
      measure: starts the processes and reports.
      parts: each measures something in this process, and returns it for `Ended.printed`.
      check_flags: raises flags.Error if the flags are wrong.
    """
    for flag in ("processes", "table"):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])  # --help shows it
    part = os.environ.get(_PART)
    if part is None:
        run_command(name, measure, check_flags)
        return
    restart_keeping_memory()  # as the commands do that are measured here
    run_command(name, lambda: print(json.dumps(parts[part]())), check_flags)


def alternated(starts: Mapping[str, Callable[[], Ended]], processes: int) -> dict[str, list[Ended]]:
    """Runs each of `starts`, by name, so many times, taking turns."""
    ended: dict[str, list[Ended]] = {name: [] for name in starts}
    with tqdm(total=processes * len(starts), leave=False, disable=None) as bar:
        for _ in range(processes):
            for name, start in starts.items():
                bar.set_description_str(name)
                ended[name].append(start())
                bar.update()
    return ended


def run_part(benchmark: str, part: str, environment: Mapping[str, str] = {}) -> Ended:
    """Runs a part of a benchmark in a process of its own, with the flags of this one."""
    arguments = ["-m", f"benchmarks.{benchmark}", *sys.argv[1:]]
    return run_python(arguments, {**environment, _PART: part})


def run_python(arguments: Sequence[str], environment: Mapping[str, str] = {}) -> Ended:
    """Runs Python with these arguments and measures the process from outside.

    What it prints is seen only if it fails. Then this process ends too, with the same status.

    Raises:
      InputError: the process was killed, or this system cannot measure one.
    """
    if not hasattr(os, "wait4"):
        raise InputError("benchmarks: Windows does not tell what a process used; use WSL")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": path, **environment},
            stdout=out,
            stderr=err,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:  # interrupted
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.stderr.write(err.read().decode(errors="replace"))
            if process.returncode < 0:
                raise InputError(
                    f"{' '.join(arguments[:2])}: was ended by signal {-process.returncode}; if "
                    "nobody stopped it, it had too little memory"
                )
            sys.exit(process.returncode)
        lines = out.read().decode(errors="replace").splitlines()
    # macOS counts bytes, others KiB. Linux counts this process's memory as the other's until that
    # one has started Python, so this one must stay small.
    unit = 1 if sys.platform == "darwin" else 1024
    printed = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return Ended(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, printed)


class Laps:
    """Seconds of clock and of CPU between calls, by name.

    laps = Laps()
    import rpcl_jax.train
    laps("imports")
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._last = time.perf_counter(), time.process_time()

    def __call__(self, name: str) -> None:
        """Adds the time since the last call, or since the beginning, to that of `name`."""
        now = time.perf_counter(), time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now[0] - self._last[0]
        self.cpu[name] = self.cpu.get(name, 0.0) + now[1] - self._last[1]
        self._last = now


def require_config(config: flags.FlagHolder) -> None:
    """Raises flags.Error unless --config is given; that it is valid is seen by what reads it."""
    if config.value is None:
        raise flags.Error("--config is required, for example --config=configs/ecf_minilm.py")


def config_name(config: flags.FlagHolder) -> str:
    """Returns the file and the overrides of --config, without those that name a place."""
    flag = flags.FLAGS[config.name]
    overrides = config_flags.get_override_values(flag).items()
    told = [f"{field}={value}" for field, value in overrides if field not in _PLACES]
    return " ".join([config_flags.get_config_filename(flag), *told])


def say(
    benchmark: str, config: str, device: str, figures: Iterable[Figure], more: str, table: str
) -> None:
    """Prints the medians and the extremes of `figures`, and appends them to a table.

    Args:
      benchmark: its name.
      config: what was measured.
      device: what JAX computed on; empty if it did not.
      figures: in the order in which they are printed.
      more: what is printed before them, if anything.
      table: the file; empty for none.
    """
    figures = list(figures)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "machine": "; ".join(filter(None, [machine(), device])),
        "python": platform.python_version(),
        **versions,
        "benchmark": benchmark,
        "config": config,
    }
    print(f"{benchmark}: {config}")
    print(f"{facts['machine']}; commit {facts['commit']}")
    print(f"Python {facts['python']}, " + ", ".join(f"{n} {v}" for n, v in versions.items()))
    if more:
        print(more)
    width = max(len(figure.what) for figure in figures)
    print(f"\n{'':{width}}  {'median':>9}  {'lowest':>9}  {'highest':>9}")
    for figure in figures:
        numbers = "  ".join(f"{number:>9}" for number in figure.summary())
        print(f"{figure.what:{width}}  {numbers}  {figure.unit}".rstrip())
    if table:
        append_rows(Path(table), [facts | _cells(figure) for figure in figures])


def _cells(figure: Figure) -> dict[str, Any]:
    numbers = dict(zip(("value", "low", "high"), figure.summary(), strict=True))
    return {
        "what": figure.what,
        "unit": figure.unit,
        "processes": len(figure.values),
        **numbers,
    }


def _rounded(number: float) -> str:
    """Returns a number with four digits, or more if it is longer, and without an exponent."""
    digits = 3 - math.floor(math.log10(abs(number))) if number else 0
    return f"{number:.{min(max(digits, 0), 6)}f}"


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows to a CSV file with COLUMNS, which is made if it does not exist.

    Raises:
      InputError: the file has other columns.
    """
    there: list[list[str]] = [list(COLUMNS)]
    if path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
        there = list(csv.reader(io.StringIO(text, newline="")))
        if not there or there[0] != list(COLUMNS):
            raise InputError(f"{path}: is not a table of the benchmarks; move it, or give --table")
    write_csv(path, [*there, *([row[column] for column in COLUMNS] for row in rows)])


def commit() -> str:
    """Returns the commit of this repository, with "-dirty" if tracked files differ from it.

    "unknown" where Git does not tell.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        described = git("describe", "--always")
        changed = git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{described}-dirty" if changed else described


def machine() -> str:
    """Returns the processor, the number of its cores that this process may use, and the system."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = next(iter(names), name)
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True).stdout.strip() or name
    from rpcl_jax.run.grid import usable_cores  # imports JAX

    return f"{name}, {usable_cores()} cores; {platform.system()} {platform.release()}"
