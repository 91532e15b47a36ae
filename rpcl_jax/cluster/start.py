"""Starts Ray on this machine or joins a cluster; the one place that imports Ray."""

import atexit
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import rpcl_jax
from rpcl_jax.errors import InputError

_PATIENCE = 40  # seconds for a cluster to answer
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
# Joins a cluster, in another process: where nobody answers, Ray's client retries for two minutes
# and then ends the process.
_JOIN = f"import ray, sys; ray.init(address=sys.argv[1], **{_QUIET!r})"


def start_ray(address: str | None) -> ModuleType:
    """Starts Ray on this machine, until this process ends, or joins a cluster.

    Workers find this package and share the compilation cache wherever they run. From here on,
    SIGTERM ends this process by SystemExit; a caller may set its own handler.

    Args:
      address: of a cluster, host:port, or "auto" for the one this machine is a node of. None starts
        Ray on this machine.

    Returns:
      The module `ray`.

    Raises:
      InputError: Ray is not installed, or no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # joins it with `ray job submit`'s
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f'Ray is not installed ({error}); pip install "rpcl_jax[cluster]"'
        ) from error
    runtime_env = {"env_vars": _worker_environment()}
    if address is not None:
        _check_answers(address)
        ray.init(address=address, runtime_env=runtime_env, **_QUIET)
        return ray
    # Ray would write a token to the home folder, which may be read-only.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = _short_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(ray.shutdown)
    ray.init(
        address="local",  # even if RAY_ADDRESS names a cluster
        include_dashboard=False,
        runtime_env=runtime_env,
        _temp_dir=folder,
        **_QUIET,
    )
    return ray


def machines(ray: ModuleType) -> list[dict[str, float]]:
    """Returns the resources of each machine of the cluster that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def not_shared(path: Path) -> InputError:
    """Returns the error of a worker that does not find what the command's machine has."""
    return InputError(
        f"{path}: not found on {socket.gethostname()}; use a folder that all machines of the "
        "cluster share"
    )


def last_reason(trace: str) -> str:
    r"""Returns what follows the name of the last exception in a traceback, in one line.

    >>> last_reason("Traceback:\n  File x\nRuntimeError: Version mismatch:\n 1 and 2")
    'Version mismatch: 1 and 2'
    """
    reason = re.split(r"^[\w.]*(?:Error|Exception): ", trace, flags=re.MULTILINE)[-1]
    return " ".join(reason.split())


def _worker_environment() -> dict[str, str]:
    package = str(Path(rpcl_jax.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    cache = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")
    return {"PYTHONPATH": path} | {k: v for k, v in os.environ.items() if k.startswith(cache)}


def _short_folder() -> str:
    """Returns a new folder in which the path of a socket is not too long.

    Ray adds some 70 characters, and the operating system's limit is about 105.
    """
    folder = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="ray-", dir=folder if len(folder) <= 20 else "/tmp")


def _check_answers(address: str) -> None:
    """Raises InputError unless a cluster at this address lets a process of this machine join."""
    if address != "auto":
        match = re.fullmatch(r"([^/]+):([0-9]{1,5})", address)
        if match is None:
            raise InputError(f"--address={address}: must be auto or host:port, as in head:6379")
        try:
            socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--address={address}: nobody answers ({error}); start a cluster there with "
                "ray start --head, or leave out --address to use this machine alone"
            ) from error
    try:
        done = subprocess.run(
            [sys.executable, "-c", _JOIN, address],
            capture_output=True, text=True, errors="replace", timeout=_PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"--address={address}: no Ray cluster answers within {_PATIENCE} s, or this machine is "
            "not one of its nodes; run ray status here, and ray start --address=… to make it one"
        ) from error
    if done.returncode:
        reason = last_reason(done.stderr) or f"status {done.returncode}"
        raise InputError(f"--address={address}: cannot be joined: {reason}")
