"""The worker processes of an embedded Ray, to be killed."""

import os
import re
import signal
import time
from pathlib import Path


def _processes():
    """Yields (id, id of the parent, command) of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = re.search(r"PPid:\s+(\d+)", (folder / "status").read_text())
        except OSError:  # it has ended
            continue
        yield int(folder.name), int(parent[1]), command


def is_alive(process):
    """Whether a process runs, rather than waits to be reaped."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def descendants(ancestor, name):
    """Returns the ids of the processes under `ancestor` whose command contains `name`."""
    there = list(_processes())
    found, below = set(), {ancestor}
    while below:
        found |= below
        below = {child for child, parent, _ in there if parent in below} - found
    return [process for process, _, command in there if process in found and name in command]


def kill_workers(driver, name):
    """Kills the workers of `driver` whose task is called `name`, and returns their ids."""
    ends = time.monotonic() + 30
    while not (found := descendants(driver, f"ray::{name}")) and time.monotonic() < ends:
        time.sleep(0.1)
    for process in found:
        os.kill(process, signal.SIGKILL)
    return found
