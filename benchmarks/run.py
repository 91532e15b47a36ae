"""How long a whole run takes, from the command to its results, and how much memory.

    python -m benchmarks.run --config=configs/ecf_frozen.py

A first run, which is not counted, fills the caches of programs and of text vectors.
"""

import json
import tempfile
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from benchmarks import measure
from benchmarks.measure import Ended, Figure

_PROCESSES, _TABLE = measure.define_flags()
_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the run is; see configs/.")


def main() -> None:
    measure.run_benchmark("run", _measure, {}, lambda: measure.require_config(_CONFIG))


def _measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(f"{folder}/first")
        workdirs = iter(f"{folder}/{turn}" for turn in range(_PROCESSES.value))
        ended = measure.alternated({"run": lambda: _run(next(workdirs))}, _PROCESSES.value)["run"]
        result = json.loads(Path(folder, "0/result.json").read_text(encoding="utf-8"))
    figures = [
        Figure("whole run", "s", [one.seconds for one in ended]),
        Figure("whole run: CPU", "CPU s", [one.cpu for one in ended]),
        Figure("whole run: memory", "MiB", [one.peak / 2**20 for one in ended]),
    ]
    name = measure.config_name(_CONFIG)
    measure.say("run", name, result["device"], figures, f"{result['epochs']} epochs", _TABLE.value)


def _run(workdir: str) -> Ended:
    flag = flags.FLAGS[_CONFIG.name]
    overrides = config_flags.get_override_values(flag).items()
    return measure.run_python(
        [
            *("-m", "rpcl_jax.main", f"--workdir={workdir}"),
            f"--config={config_flags.get_config_filename(flag)}",
            *(f"--config.{field}={value}" for field, value in overrides),
        ]
    )


if __name__ == "__main__":
    main()
