"""Several hosts: one process or more on each, all running the same command in step.

The first process alone writes logs, predictions and results. The folders of runs and caches must be
on a file system that all hosts share.
"""

import contextlib
import faulthandler
import hashlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.run.command_line import one_line

_WORKER = "RPCL_JAX_WORKER"  # in the environment of the process that does the work
_JOIN_SECONDS = 50
_HEARTBEAT_SECONDS = 20  # without a sign of life from a process, until the others end
_LOST = (
    f"another process of this run ended, or the processes did not meet within {_JOIN_SECONDS} "
    "seconds; see what the others printed, check that every host can reach the coordinator, and "
    "run the same command on every host again"
)
# What JAX's exceptions say where an exchange with another process fails.
_LOST_PEER = re.compile("Gloo|NCCL|nccl|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|[Cc]oordination")


def supervise(debug: bool) -> None:
    """Runs this command again in a child process, and ends with its status when it has ended.

    When a process of a run dies, JAX aborts all others from a thread of its own, with a stack trace
    in C++ that no Python code can prevent. So, unless `debug`, the child shows only what Python
    writes, and the parent says in one line that the child was aborted or killed. The child ends
    when its parent does, however that ends. In the child, returns at once.
    """
    if _WORKER in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        if not debug:
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        return
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | {_WORKER: "1"},
        stdin=subprocess.PIPE,
        start_new_session=True,  # so that the terminal's Ctrl-C reaches it once, through us
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: child.send_signal(number))
    status = child.wait()
    if status >= 0:
        sys.exit(status)
    aborted = status == -signal.SIGABRT
    ending = _LOST if aborted else f"ended by {signal.Signals(-status).name}"
    print(f"rpcl_jax: {ending}", file=sys.stderr)
    sys.exit(1 if aborted else 128 - status)


def _end_with_parent() -> None:
    while os.read(0, 1):  # returns nothing when the parent's end of the pipe is closed
        pass
    os._exit(1)


@contextlib.contextmanager
def joined(
    coordinator: str | None, processes: int | None, process: int | None, debug: bool, trains: bool
) -> Iterator[None]:
    """Connects this process with the others of a run while the block lasts.

    An error ends this process at once, and the others within a minute: JAX would wait for them at
    the end, and they for this one in their next step. Without a coordinator, the `host:port` of
    process 0, Slurm, Open MPI, Kubernetes or Cloud TPU say how many processes there are. What
    `trains` ends after a SIGTERM by itself.
    """
    import jax

    if not debug:
        faulthandler.disable()  # absl enables it, and `supervise` says that a process was aborted
    try:
        with one_line("rpcl_jax", unless=debug):
            _join(coordinator, processes, process, trains)
            yield
    except BaseException as error:
        lost = isinstance(error, jax.errors.JaxRuntimeError) and _LOST_PEER.search(str(error))
        if not isinstance(error, SystemExit) and (debug or not lost):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        if lost and not debug:
            os.abort()  # as JAX does where it notices first
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def _join(
    coordinator: str | None, processes: int | None, process: int | None, trains: bool
) -> None:
    if process == 0 and coordinator:
        _check_port(int(coordinator.rpartition(":")[2]))
    import jax
    import numpy as np

    from rpcl_jax.training import mesh

    # The service catches SIGTERM, and what does not ask it would not end.
    jax.config.update("jax_enable_preemption_service", trains)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=_JOIN_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            "--distributed: no cluster of Slurm, Open MPI, Kubernetes or Cloud TPU was found "
            f"({error}); on every host, add --coordinator=HOST:PORT --processes=N --process=I"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        joining = isinstance(error, jax.errors.JaxRuntimeError)
        if "KUBERNETES_SERVICE_HOST" in os.environ and not joining:
            raise InputError(
                f"--distributed: Kubernetes does not tell this pod's place in the run ({reason}); "
                "it takes a Job, a Service and a Role as in k8s/training.yaml, and that the "
                f"pod of process 0 starts within {_JOIN_SECONDS} seconds"
            ) from error
        if isinstance(error, RuntimeError):
            raise InputError(f"{_LOST} ({reason})") from error
        raise
    kind = jax.local_devices()[0].device_kind
    place = f"process {jax.process_index()} of {jax.process_count()}"
    logging.getLogger("rpcl_jax").info(f"{place}: {jax.local_device_count()} x {kind}")
    if jax.process_index():  # all would comment on what all read
        logging.getLogger("rpcl_jax").setLevel(logging.CRITICAL)
    # On CPUs, the first exchange between a group of devices must begin in all processes within 30
    # seconds; later ones may wait for a process that compiles or writes for longer. So each group
    # exchanges something now, while all processes are at the same place.
    devices = mesh.make_mesh()
    zeros = np.zeros(len(mesh.local_device_indices(devices)))
    mesh.all_gather(mesh.put_batch(zeros, devices))
    mesh.barrier()


def _check_port(port: int) -> None:
    """Raises InputError where JAX's service would crash: nothing else may listen on its port."""
    try:
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("", port))
            tried.listen()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--coordinator: port {port} of this host cannot be used ({error}); choose another"
        ) from error


def agree(what: str, describe: Callable[[], Any]) -> None:
    """Raises InputError on every process unless all describe the same.

    `what` completes the sentence "the processes disagree about …". Of the JSON-serialisable value
    that `describe` returns, only the digest is exchanged.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if not jax.distributed.is_initialized():
        return
    text = json.dumps(describe(), sort_keys=True)
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    others = [str(process) for process, other in enumerate(digests) if (other != digests[0]).any()]
    if others:
        raise InputError(
            f"the processes disagree about {what}: process {', '.join(others)} of {len(digests)} "
            "has something else than process 0; give all the same command, files and versions"
        )
