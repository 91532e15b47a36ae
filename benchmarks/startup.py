"""What a command does before its first step, and how long it takes.

    python -m benchmarks.startup --config=configs/demo.py

Imports are whole processes that import something and end; Python without imports is among them.
Programs are compiled once into an empty folder, and then loaded from there by another process.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import config_flags

from benchmarks import measure
from benchmarks.figures import package_seconds
from benchmarks.measure import CHOOSING, Ended, Figure, Laps
from rpcl_jax.run.compilation import cache_settings

_PROCESSES, _TABLE = measure.define_flags()
_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the run is; see configs/.")
_IMPORTS = {
    "Python": "pass",
    "rpcl_jax.main": "import rpcl_jax.main",
    "rpcl_jax.predict": "import rpcl_jax.predict",
    "rpcl_jax.train": "import rpcl_jax.train",
}
_SLOWEST = 6  # packages that are listed
_COMPILING = "compiling"


def main() -> None:
    measure.run_benchmark(
        "startup", _measure, {"run": _start_run}, lambda: measure.require_config(_CONFIG)
    )


def _measure() -> None:
    imports = {name: partial(measure.run_python, ["-c", code]) for name, code in _IMPORTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        ended = measure.alternated({**imports, **_starts(folder)}, _PROCESSES.value)
    figures = []
    for name in _IMPORTS:
        label = name if name == "Python" else f"import {name}"
        figures += [
            Figure(label, "s", [one.seconds for one in ended[name]]),
            Figure(f"{label}: CPU", "CPU s", [one.cpu for one in ended[name]]),
            Figure(f"{label}: memory", "MiB", [one.peak / 2**20 for one in ended[name]]),
        ]
    for lap in ended["warm"][0].printed["seconds"]:
        if lap == CHOOSING:  # which no command does
            continue
        compiles = lap.startswith(_COMPILING)
        for cache in ("cold", "warm") if compiles else ("warm",):
            label = f"{lap}, {cache}" if compiles else lap
            told = [one.printed for one in ended[cache]]
            figures.append(Figure(label, "s", [one["seconds"][lap] for one in told]))
            figures.append(Figure(f"{label}: CPU", "CPU s", [one["cpu"][lap] for one in told]))
    measure.say(
        "startup",
        measure.config_name(_CONFIG),
        ended["warm"][0].printed["device"],
        figures,
        "\n".join(map(_slowest_packages, ("rpcl_jax.predict", "rpcl_jax.train"))),
        _TABLE.value,
    )


def _starts(folder: str) -> dict[str, Callable[[], Ended]]:
    """Returns what starts a run with an empty cache in `folder`, and again with that cache."""
    environment: dict[str, str] = {}

    def cold() -> Ended:
        settings = cache_settings(Path(tempfile.mkdtemp(dir=folder)))
        environment.update({name.upper(): str(value) for name, value in settings.items()})
        return warm()

    def warm() -> Ended:
        return measure.run_part("startup", "run", environment)

    return {"cold": cold, "warm": warm}


def _start_run() -> dict[str, Any]:
    """Does in this process what a run does before its first step."""
    laps = Laps()
    import jax

    import rpcl_jax.train  # noqa: F401
    from benchmarks.workload import device_name, load_workload

    laps("imports of a run")
    from rpcl_jax.evaluation.inference import make_score
    from rpcl_jax.models.adapters import combine
    from rpcl_jax.run.config import objective_of
    from rpcl_jax.training.mesh import replicate_key
    from rpcl_jax.training.optimizer import make_optimizer
    from rpcl_jax.training.step import initial_state, make_train_step

    work = load_workload(_CONFIG.value, laps)
    config = work.config
    optimizer = make_optimizer(config.optimizer, config.epochs * len(work.batches))
    state = initial_state(work.params, optimizer, work.mesh)
    key = replicate_key(jax.random.key(0), work.mesh)
    laps("the first state")
    traced = make_train_step(
        work.model, objective_of(config), optimizer, work.mesh, config.data.modality_dropout
    ).lower(state, key, work.batch, work.frozen)
    laps("tracing the training step")
    traced.compile()
    laps(f"{_COMPILING} the training step")
    params = combine(work.params, work.frozen)
    traced = make_score(work.model, work.mesh).lower(params, work.batch)
    laps("tracing the scoring function")
    traced.compile()
    laps(f"{_COMPILING} the scoring function")
    device = device_name(work.mesh, work.model.dtype)
    return {"seconds": laps.seconds, "cpu": laps.cpu, "device": device}


def _slowest_packages(module: str) -> str:
    """Says which packages take longest when `module` is imported, by Python's -X importtime."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=True)
    packages = package_seconds(done.stderr)
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in packages[:_SLOWEST])
    return f"import {module}, seconds in the modules of each package: {told}"


if __name__ == "__main__":
    main()
