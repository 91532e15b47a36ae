import os
import subprocess
import sys

import pytest
from shared import ROOT

from rpcl_jax.run.allocator import _SETTINGS

SCRIPT = """
import os, sys
print("started")
from rpcl_jax.run.allocator import restart_keeping_memory
sys.stdout.flush()
restart_keeping_memory()
print(os.getpid(), sys.argv[1:], os.environ.get("MALLOC_MMAP_MAX_"))
"""


def run(**extra):
    environment = {k: v for k, v in os.environ.items() if k not in _SETTINGS} | extra
    command = [sys.executable, "-c", SCRIPT, "two words", "--flag=a"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    *starts, last = out.splitlines()
    assert last.startswith(f"{process.pid} ['two words', '--flag=a']")
    return len(starts), last.split()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is needed")
def test_the_command_starts_again_once_with_the_settings():
    assert run() == (2, "0")


def test_the_users_own_settings_are_kept():
    assert run(MALLOC_MMAP_MAX_="7") == (1, "7")
