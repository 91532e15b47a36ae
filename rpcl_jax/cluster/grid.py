"""The cells of a grid as Ray tasks, each a process on the node that the task gets."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from rpcl_jax.cluster.start import machines, not_shared
from rpcl_jax.errors import InputError

_LOG = logging.getLogger(__name__)
_RETRIES = 3  # of a cell whose worker or process was killed; it continues after its last epoch


class _Task:
    """A process on some node, with the methods of `subprocess.Popen` that a grid uses."""

    def __init__(self, ray: ModuleType, log: Path, submit: Callable):
        self.returncode: int | None = None
        self._ray = ray
        self._log = log
        self._submit = submit
        self._task = submit()
        self._retries = _RETRIES

    def poll(self) -> int | None:
        """Returns the exit status, or None while the process waits or runs."""
        errors = self._ray.exceptions
        if self.returncode is None and self._ray.wait([self._task], timeout=0)[0]:
            try:
                status, reason = self._ray.get(self._task), "was killed"
            except errors.RayTaskError as error:
                raise error.cause from error  # of `_run`
            except errors.RayError as error:  # of the worker or its machine
                status, reason = -9, " ".join(str(error).split())
            if status >= 0 or not self._retries:
                self.returncode = status
            else:
                _LOG.warning(f"{self._log.stem}: {reason}; it is started again")
                self._retries -= 1
                self._task = self._submit()
        return self.returncode

    def terminate(self) -> None:
        """Stops the process."""
        self._ray.cancel(self._task)

    def wait(self) -> None:
        """Waits until the process has ended, but not for a machine that does not answer."""
        self._ray.wait([self._task], timeout=20)


def start_on_ray(ray: ModuleType, gpus: int | None) -> Callable[[list[str], Path], _Task]:
    """Returns the function that starts a cell for `rpcl_jax.run.grid.run_grid`, as a Ray task.

    The task waits until a machine has the GPUs that it asks for or, if it asks for none, is idle.
    A cell whose process, worker or machine is killed is started again, and continues after its
    last epoch.

    Args:
      gpus: of a cell; None is 1 if the cluster has any.

    Raises:
      InputError: no machine has as many GPUs.
    """
    nodes = machines(ray)
    most = max(node.get("GPU", 0) for node in nodes)
    if gpus is None:
        gpus = 1 if most else 0
    if gpus > most:
        raise InputError(f"--gpus-per-cell={gpus}: no machine has more than {most:.0f}")
    # Without GPUs JAX uses all cores, whatever Ray counts.
    cpus = 1 if gpus else min((node["CPU"] for node in nodes if node.get("CPU")), default=1)
    run = ray.remote(_run).options(num_gpus=gpus, num_cpus=cpus, max_retries=0)

    def start(arguments: list[str], log: Path) -> _Task:
        return _Task(ray, log, lambda: run.remote(arguments, str(log.resolve()), str(Path.cwd())))

    return start


def _run(arguments: list[str], log: str, folder: str) -> int:
    """Runs Python in a folder of a node, and returns the exit status."""
    for needed in (Path(folder), Path(log).parent):
        if not needed.is_dir():
            raise not_shared(needed)
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, stdout=file, stderr=file
        )
    try:
        while process.poll() is None:
            time.sleep(0.1)  # to cancel the task would not end a blocking wait
        return process.returncode
    finally:  # the task was cancelled; where the worker is killed, Ray kills its processes too
        process.kill()
        process.wait()
