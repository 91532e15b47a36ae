"""What ends a command in one line."""

import errno
import signal
import subprocess
import sys

import jax
import pytest
from shared import ENVIRONMENT, ROOT, run_python

from rpcl_jax.errors import Faults, InputError
from rpcl_jax.run.command_line import one_line

# As a command sees it where PyTorch is not installed.
WITHOUT_TORCH = """
import importlib.util, runpy, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
sys.argv = ["main", "--mode=evaluate", "--workdir=/nosuch"]
runpy.run_module("rpcl_jax.main", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("file.json: line 3\n is wrong"), 1, "me: file.json: line 3 is wrong"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1, "me: x: No such file"),
        (KeyboardInterrupt(), 130, "me: interrupted; run the same command again to continue"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "me: No space left on device; free some space and run the same command again",
        ),
        (
            MemoryError("Unable to allocate 7 PiB"),
            1,
            "me: out of memory: Unable to allocate 7 PiB; use more devices, or a smaller "
            "config.batch_size or model",
        ),
        (
            jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBFC"
            ),
            1,
            "me: out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.; use more "
            "devices, or a smaller config.batch_size or model",
        ),
    ],
)
def test_one_line(error, status, line, capsys):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended, one_line("me"):
        raise error
    signal.signal(signal.SIGINT, handler)
    assert ended.value.code == status
    assert capsys.readouterr().err == line + "\n"
    with pytest.raises(type(error)), one_line("me", unless=True):
        raise error
    signal.signal(signal.SIGINT, handler)


def test_faults_are_a_line_each(capsys):
    faults = Faults()
    for number in range(103):
        with faults.collected():
            raise InputError(f"file.json: fault\n {number}")
    with pytest.raises(InputError) as caught:
        faults.check()
    assert len(caught.value.args) == 103
    outer = Faults()
    outer.check()  # nothing is wrong
    with outer.collected():  # faults of a part are faults of the whole
        faults.check()
    with pytest.raises(SystemExit) as ended, one_line("me"):
        outer.check()
    assert ended.value.code == 1
    *lines, rest = capsys.readouterr().err.splitlines()
    assert lines == [f"me: file.json: fault {number}" for number in range(100)]
    assert rest == "me: and 3 more like these"


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_the_command():
    tool = """
import time
from absl import flags
from rpcl_jax.run.command_line import run_command

WAIT = flags.DEFINE_float("wait", 0, "")

def job():
    print("one line", flush=True)
    time.sleep(WAIT.value)
    for _ in range(100_000):
        print("more than a pipe holds")

run_command("tool", job)
"""
    command = '"$0" -c "$1" --wait=0.5 | head -n 1'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, tool],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("one line\n", "")


def test_a_closed_output_is_no_fault():
    code = "import sys; sys.stdout = None; import rpcl_jax.run.command_line as c\n"
    code += "with c.one_line('x'): print('y')"
    assert run_python("-c", code).stderr == ""


def test_other_errors_are_ours():
    for error in (ValueError("bug"), OSError(errno.EINVAL, "Invalid argument")):
        with pytest.raises(type(error)), one_line("me"):
            raise error


@pytest.mark.slow
def test_nothing_is_said_of_pytorch():
    done = run_python("-c", WITHOUT_TORCH, status=1)
    assert done.stderr.startswith("rpcl_jax: /nosuch/config.json: not found")
    assert len(done.stderr.splitlines()) == 1


SWALLOWS = """
import signal, sys, time
from rpcl_jax.run.command_line import run_command

sys.platform = sys.argv.pop()
if sys.platform == "win32":
    del signal.pthread_kill

def job():
    print("begun", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:  # as libraries do, one way or another
        for _ in range(600):
            time.sleep(0.1)

sys.argv = ["me"]
run_command("me", job)
"""


@pytest.mark.slow
@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_ctrl_c_ends_a_command_that_swallows_it(platform):
    with subprocess.Popen(
        [sys.executable, "-c", SWALLOWS, platform],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "me: interrupted; run the same command again to continue\n"


def test_what_a_code_page_lacks_is_escaped():
    """As where Windows writes to a pipe or a file."""
    code = "from rpcl_jax.run.command_line import prepare; prepare(False); print('\u22121 é')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=ENVIRONMENT | {"PYTHONIOENCODING": "cp1252"}, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode("cp1252").rstrip() == "\\u22121 é"
