"""Ray as a command starts or joins it: what workers see, what fails in one line, what is left."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from shared import ENVIRONMENT, ROOT, import_or_skip

from rpcl_jax.cluster import start
from rpcl_jax.errors import InputError

import_or_skip("ray")

WORKER = """
import json, os, sys, time
from rpcl_jax.run.command_line import run_command

def look():
    import rpcl_jax.files
    return [rpcl_jax.__file__, os.environ["JAX_COMPILATION_CACHE_DIR"]]

def rest(seconds):
    time.sleep(seconds)

def job():
    from rpcl_jax.cluster.start import start_ray
    ray = start_ray(os.environ.get("ADDRESS"))
    print(json.dumps(ray.get(ray.remote(look).remote())), flush=True)
    ray.get(ray.remote(rest).remote(float(os.environ["SLEEP"])))

run_command("me", job)
"""


def begin(cwd, **environment):
    """Starts WORKER; returns the process and a mark in the environment of all it starts."""
    mark = uuid.uuid4().hex
    environment = {"SLEEP": "0", "MARK": mark, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=cwd, env=ENVIRONMENT | environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return process, mark


def is_left(mark):
    """Whether a process with the mark remains after a while."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        processes = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                processes += [path] * (mark.encode() in path.read_bytes())
            except OSError:  # it has ended, or is somebody else's
                continue
        if not processes:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.slow
@pytest.mark.long
def test_workers_and_what_is_left_of_them(tmp_path):
    """From another folder, with a home that cannot be written."""
    cache = str(tmp_path / "compiled")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as temporary:
        process, mark = begin(
            tmp_path, HOME="/proc/nosuch", TMPDIR=temporary, JAX_COMPILATION_CACHE_DIR=cache
        )
        seen = json.loads(process.stdout.readline())
        assert os.listdir(temporary)
        output, errors = process.communicate(timeout=60)
        assert seen == [str(ROOT / "rpcl_jax/__init__.py"), cache]
        assert (process.returncode, output, errors) == (0, "", "")  # nothing of Ray's
        assert not is_left(mark)
        assert os.listdir(temporary) == []


def test_a_long_path_of_temporary_files_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 10)))
    folder = Path(start._short_folder())
    folder.rmdir()
    assert folder.parent == Path("/tmp")


@pytest.mark.slow
@pytest.mark.long
def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path):
    process, mark = begin(tmp_path, SLEEP="60")
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "me: interrupted; run the same command again to continue\n"
    assert not is_left(mark)


@pytest.mark.slow
@pytest.mark.long
def test_joining_a_cluster(tmp_path):
    temporary = start._short_folder()
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    ray = "import sys; from ray.scripts.scripts import main; main()"
    head = subprocess.Popen(
        [
            *(sys.executable, "-c", ray, "start", "--head", "--block", "--disable-usage-stats"),
            *(f"--port={port}", "--num-cpus=1", "--include-dashboard=false"),
            *("--object-store-memory=100000000", f"--temp-dir={temporary}"),
        ],
        cwd="/", env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ends = time.monotonic() + 60
        address = f"localhost:{port}"
        while time.monotonic() < ends:  # it listens before it lets anybody join
            try:
                start._check_answers(address)
                break
            except InputError:
                time.sleep(0.5)
        cache = str(tmp_path / "compiled")
        process, mark = begin(tmp_path, ADDRESS=address, JAX_COMPILATION_CACHE_DIR=cache)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        # The workers are the cluster's, with none of this environment but what is sent along.
        assert json.loads(output) == [str(ROOT / "rpcl_jax/__init__.py"), cache]
        assert not is_left(mark)
        assert head.poll() is None  # it is not ours to stop
    finally:
        head.terminate()
        head.wait()
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.long
def test_a_cluster_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(start, "_PATIENCE", 2)
    with socket.create_server(("localhost", 0)) as server:  # accepts and says nothing
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"--address=localhost:{port}: no Ray cluster answers"):
            start.start_ray(f"localhost:{port}")
    with pytest.raises(InputError, match=r"nobody answers .*Connection refused"):
        start.start_ray(f"localhost:{port}")
    for address in ("ray://head:10001", "head", "head:port", ""):
        with pytest.raises(InputError, match="must be auto or host:port"):
            start.start_ray(address)


def test_why_a_cluster_cannot_be_joined(monkeypatch):
    errors = "a note\nTraceback:\n  File\nRuntimeError: The versions differ:\n    Ray: 2.60.0\n"
    done = subprocess.CompletedProcess([], 1, "", errors)
    monkeypatch.setattr(start.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(
        InputError, match=r"auto: cannot be joined: The versions differ: Ray: 2.60.0$"
    ):
        start.start_ray("auto")


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "rpcl_jax\[cluster\]"') as error:
        start.start_ray(None)
    assert "\n" not in str(error.value)
