"""Several hosts: one process or more on each, all running the same command in step.

The first process alone writes logs, predictions and results. The folders of runs and caches must be
on a file system that all hosts share.
"""

import contextlib
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
_NOT_MET = (
    f"--distributed: the processes did not meet within {_JOIN_SECONDS} seconds; start all of them "
    "together, and check that every host can reach the address and port of the coordinator"
)
_ENDED = (
    "another process of this run ended; see what it printed, and run the same command on every "
    "host again"
)
_HEARTBEAT_SECONDS = 20  # without a sign of life from a process, until the others end
# What JAX writes when it aborts, in versions 0.10 to 0.12.
_LOST = re.compile(rb"[EF]\d{4} .*(coordination_service|client\.h)")
# What JAX's exceptions say where an exchange with another process fails.
_LOST_PEER = re.compile("Gloo|NCCL|nccl|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|[Cc]oordination")
_NEVER_MET = b"RegisterTask"


def supervise() -> None:
    """Runs this command again in a child process, and ends with its status when it has ended.

    When a process of a run dies, JAX aborts all others from a thread of its own, with a stack trace
    in C++ that no Python code can prevent. The parent puts one line in its place, or nothing where
    the child has said itself why it ends. The child ends when its parent does, however that ends.
    In the child, returns at once.
    """
    if _WORKER in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        return
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | {_WORKER: "1"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that the terminal's Ctrl-C reaches it once, through us
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: child.send_signal(number))
    assert child.stderr is not None
    held: list[bytes] = []
    said = False  # by the child itself, what is wrong; JAX's noise may come before it and after it
    for line in child.stderr:
        if line.startswith(b"rpcl_jax: "):
            said = True
            held.clear()
        elif held or _LOST.match(line):
            held.append(line)
            continue
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
    status, noise = child.wait(), b"".join(held)
    if said and (status >= 0 or status == -signal.SIGABRT):
        sys.exit(status if status >= 0 else 1)
    if noise and status == -signal.SIGABRT:
        print(f"rpcl_jax: {_NOT_MET if _NEVER_MET in noise else _ENDED}", file=sys.stderr)
        sys.exit(1)
    sys.stderr.buffer.write(noise)
    if status >= 0:
        sys.exit(status)
    print(f"rpcl_jax: ended by {signal.Signals(-status).name}", file=sys.stderr)
    sys.exit(128 - status)


def _end_with_parent() -> None:
    while os.read(0, 1):  # returns nothing when the parent's end of the pipe is closed
        pass
    os._exit(1)


@contextlib.contextmanager
def joined(
    coordinator: str | None, processes: int | None, process: int | None, debug: bool
) -> Iterator[None]:
    """Connects this process with the others of a run while the block lasts.

    An error ends this process at once, and the others within a minute: JAX would wait for them at
    the end, and they for this one in their next step.

    Args:
      coordinator: `host:port` of process 0. None: from Slurm, Open MPI, Kubernetes or Cloud TPU.
      processes: their number, or None.
      process: the number of this one, from 0, or None.
    """
    import jax

    try:
        with one_line("rpcl_jax", unless=debug):
            try:
                _join(coordinator, processes, process)
                yield
            except jax.errors.JaxRuntimeError as error:
                if debug or not _LOST_PEER.search(str(error)):
                    raise
                raise InputError(_ENDED) from error
    except BaseException as error:
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def _join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if process == 0 and coordinator:
        _check_port(int(coordinator.rpartition(":")[2]))
    import jax
    import numpy as np

    from rpcl_jax.training.mesh import (
        all_gather,
        barrier,
        local_device_indices,
        make_mesh,
        put_batch,
    )

    # The service would catch SIGTERM, and the process would not end.
    jax.config.update("jax_enable_preemption_service", False)
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
    except RuntimeError as error:
        raise InputError(f"{_NOT_MET} ({str(error).partition(chr(10))[0]})") from error
    if jax.process_index():  # all would comment on what all read
        logging.getLogger("rpcl_jax").setLevel(logging.CRITICAL)
    # On CPUs, the first exchange between a group of devices must begin in all processes within 30
    # seconds; later ones may wait for a process that compiles or writes for longer. So each group
    # exchanges something now, while all processes are at the same place.
    mesh = make_mesh()
    all_gather(put_batch(np.zeros(len(local_device_indices(mesh))), mesh))
    barrier()


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
    """Checks that all processes have the same value.

    Args:
      what: completes the sentence "the processes disagree about …".
      describe: returns a JSON-serialisable value; only its digest is exchanged.

    Raises:
      InputError: on every process, if they differ.
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
