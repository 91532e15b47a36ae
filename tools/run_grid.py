"""Trains every cell of a grid: objectives x modalities x seeds.

rpcl grid --config=ecf_minilm --objectives=base,rpcl --modalities=t \
  --seeds=42,345,456 --out=runs/ecf_minilm_grid

Each cell runs `rpcl_jax.main` in its own process and its own folder,
OUT/<objective>-<modalities>[-<backbone>]-seed<seed>. One cell at a time runs on each visible NVIDIA
GPU or, without GPUs, on the whole machine; with --cpu-cells=2 two cells share its cores,
which is faster for small models. The number of threads changes the last bits, so all cells that
will be compared should have the same --cpu-cells. Finished cells are skipped and interrupted ones
are continued. With --engine=ray they run on the machines of a cluster, which share the folder OUT;
see docs/scaling.md.

Further `--config.FIELD=VALUE` flags hold for all cells. The objective of a cell is that of
--objectives: `--config=FILE:OBJECTIVE` is refused, and so is a flag for a field that one of the
objectives sets.

At the end, OUT/results.csv has a row for every finished cell of this config in OUT, whichever
command trained it. The exit status is 1 if a cell failed.
"""

import re
import signal
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from rpcl_jax.errors import InputError
from rpcl_jax.run.base_config import OBJECTIVES
from rpcl_jax.run.command_line import (
    check_engine,
    define_engine,
    require,
    require_config,
    run_command,
)

_CONFIG = config_flags.DEFINE_config_file("config", help_string="The config file of all runs.")
_OBJECTIVES = flags.DEFINE_list("objectives", list(OBJECTIVES), "Names of objectives.")
_MODALITIES = flags.DEFINE_list("modalities", ["t"], "Any of t, ta, tv, tav.")
_SEEDS = flags.DEFINE_list("seeds", ["42", "345", "456"], "Default: the paper's.")
_OUT = flags.DEFINE_string("out", "", "Folder of the grid.")
_ENGINE, _ADDRESS = define_engine()
_GPUS = flags.DEFINE_integer(
    "gpus-per-cell", None, "ray: GPUs of a cell; default 1 where there are GPUs.", lower_bound=0
)
_CPU_CELLS = flags.DEFINE_integer(
    "cpu-cells", 1, "Cells trained at a time on this machine if it has no GPU.", lower_bound=1
)


def _check_flags() -> None:
    if _CONFIG.value is not None:
        _check_overrides()
    require_config(_CONFIG)
    require(_OUT)
    check_engine(_ENGINE, _ADDRESS, _GPUS)
    if _ENGINE.value == "ray" and _CPU_CELLS.value > 1:
        raise flags.Error("--cpu-cells: Ray decides how many cells a machine trains at a time")
    for flag in (_OBJECTIVES, _MODALITIES, _SEEDS):
        if not flag.value:
            raise flags.Error(f"--{flag.name}: is empty")
    for seed in _SEEDS.value:
        if not re.fullmatch(r"[0-9]+", seed):
            raise flags.Error(f"--seeds={','.join(_SEEDS.value)}: must be whole numbers from 0")
    for objective in _OBJECTIVES.value:
        if objective not in OBJECTIVES:
            raise flags.Error(
                f"--objectives: {objective!r} is not an objective; "
                f"the objectives are {', '.join(OBJECTIVES)}"
            )
    file, _, objective = _file_and_overrides()[0].partition(":")
    if objective:
        raise flags.Error(
            f"--config={file}:{objective}: the grid sets the objective; "
            f"use --config={file} --objectives={objective}"
        )
    from rpcl_jax.run.config import check_config

    for cell in _cells():
        check_config(cell.config)


def _check_overrides() -> None:
    """Raises flags.Error where a flag for all cells would undo what makes one of them."""
    _, overrides = _file_and_overrides()
    for field, flag in (("objective", "objectives"), ("modalities",) * 2, ("seed", "seeds")):
        if field in overrides:
            raise flags.Error(f"--config.{field}: the grid sets it; use --{flag}")
    for objective in _OBJECTIVES.value:
        for field in OBJECTIVES.get(objective, ()):
            if f"rpcl.{field}" in overrides:
                raise flags.Error(
                    f"--config.rpcl.{field}: the objective {objective} sets this field, and the "
                    f"flag would undo it; train {objective} in a grid without the flag"
                )


def _file_and_overrides() -> tuple[str, dict]:
    flag = flags.FLAGS["config"]
    return config_flags.get_config_filename(flag), config_flags.get_override_values(flag)


def _grid():
    from rpcl_jax.run.grid import Grid

    return Grid(*_file_and_overrides(), Path(_OUT.value))


def _cells():
    from rpcl_jax.run.grid import make_cells

    seeds = [int(seed) for seed in _SEEDS.value]
    return make_cells(_grid(), _OBJECTIVES.value, _MODALITIES.value, seeds)


def _run() -> None:
    from rpcl_jax.run.grid import run_grid

    cells, starts = _cells(), None
    if _ENGINE.value == "ray":
        from rpcl_jax.cluster.grid import start_on_ray
        from rpcl_jax.cluster.start import start_ray

        starts = [start_on_ray(start_ray(_ADDRESS.value), _GPUS.value)] * len(cells)
    # Clusters stop a job by SIGTERM; exiting stops the cells too, and they can be continued.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = run_grid(_grid(), cells, starts, _CPU_CELLS.value)
    if failed:
        raise InputError(f"failed: {', '.join(cell.name for cell in failed)}")


if __name__ == "__main__":
    several = "the cells go to several machines by --engine=ray"
    run_command("grid", _run, _check_flags, distributed=several)
