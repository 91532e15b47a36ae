"""The compilation cache survives what happens to files, and compilation is announced and timed."""

import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache
from shared import ENVIRONMENT, ROOT

from rpcl_jax.run import compilation
from rpcl_jax.run.compilation import Compiled, cache_name, use_compilation_cache

# Compiles one program and prints a result; `kill` dies halfway through writing the cache.
PROGRAM = """
import os, pathlib, signal, sys
from rpcl_jax.run.compilation import use_compilation_cache
use_compilation_cache(pathlib.Path(sys.argv[1]))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax, jax.numpy as jnp
if sys.argv[2] == "kill":
    from jax._src import lru_cache
    write = lru_cache.pathlib.Path.write_bytes
    def write_half(path, data):
        write(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    for path_type in type(lru_cache.pathlib.Path(sys.argv[1])).__mro__[:-1]:
        path_type.write_bytes = write_half
print(jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.eye(3)).item())
"""


def start(folder, what="run", **environment):
    kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), what],
        cwd=ROOT, env=kept | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def result(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert err == ""
    return out


def programs(folder):
    return {path.name: path.stat().st_size for path in folder.glob("*-cache")}


@pytest.mark.slow
@pytest.mark.long
def test_a_program_that_a_kill_cut_short_is_compiled_again(tmp_path):
    result(start(tmp_path / "killed", "kill"), status=-9)
    ((name, size),) = programs(tmp_path / "killed").items()
    again, elsewhere = (result(start(tmp_path / folder)) for folder in ("killed", "other"))
    assert float(again) == pytest.approx(3 * np.tanh(1))
    assert again == elsewhere
    assert programs(tmp_path / "killed")[name] > size


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_write_at_once(tmp_path):
    outputs = {result(process) for process in [start(tmp_path), start(tmp_path)]}
    assert len(outputs) == 1
    before = programs(tmp_path)
    assert before
    assert {result(start(tmp_path))} == outputs
    assert programs(tmp_path) == before


@pytest.mark.slow
def test_its_size_is_bounded(tmp_path):
    result(start(tmp_path))
    size = sum(programs(tmp_path).values())
    for k in range(3):
        (tmp_path / f"old{k}-cache").write_bytes(b"0" * size)
        (tmp_path / f"old{k}-atime").write_bytes(bytes(8))
    for path in tmp_path.glob("jit*"):
        path.unlink()
    result(start(tmp_path, JAX_COMPILATION_CACHE_MAX_SIZE=str(2 * size)))
    assert sum(programs(tmp_path).values()) <= 2 * size


@pytest.mark.slow
def test_where_it_cannot_be_written_there_is_none(monkeypatch, tmp_path):
    result(start("/proc/nosuch/compiled"))
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    use_compilation_cache(tmp_path / "file/compiled")
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_the_name_of_a_cache_tells_how_jax_compresses():
    compressed = compilation_cache.compress_executable(b"a program")
    is_zstd = compressed.startswith(b"\x28\xb5\x2f\xfd")
    assert cache_name() == ("compiled-zstd" if is_zstd else "compiled-zlib")


def test_the_users_own_folder_is_left_alone(monkeypatch, tmp_path):
    (tmp_path / "someone's-cache").write_bytes(b"of another program")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    use_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["someone's-cache"]


def test_what_has_a_key_is_traced_once_for_all_processes(monkeypatch, tmp_path):
    pytest.importorskip("flatbuffers")
    source = tmp_path / "package/models.py"
    source.parent.mkdir()
    source.write_text("# the code")
    monkeypatch.setattr(compilation, "__file__", str(tmp_path / "package/run/compilation.py"))
    monkeypatch.setattr(compilation, "_STARTED", time.time() + 60)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    traced = []

    def result_of(function, key, x):  # as in another process
        def trace(tree):
            traced.append(key)
            return function(tree["x"])

        return Compiled(jax.jit(trace), "a function", key)({"x": x}).tolist()

    assert result_of(jnp.sin, "sine", np.zeros(2)) == [0, 0]
    assert result_of(jnp.sin, "sine", np.ones(2)) == jnp.sin(np.ones(2)).tolist()
    assert traced == ["sine"]
    assert result_of(jnp.cos, "cosine", np.zeros(2)) == [1, 1]
    assert result_of(jnp.sin, "sine", np.zeros(3)) == [0, 0, 0]
    with jax.default_matmul_precision("highest"):
        result_of(jnp.sin, "sine", np.zeros(2))
    source.write_text("# the code, changed")
    assert result_of(jnp.cos, "sine", np.zeros(2)) == [1, 1]
    monkeypatch.setattr(compilation, "_STARTED", 0.0)  # changed after it was imported
    assert result_of(jnp.tan, "sine", np.zeros(2)) == [0, 0]
    monkeypatch.setattr(compilation, "_STARTED", time.time() + 60)
    for file in (tmp_path / "cache").glob("rpcl_jax-*-cache"):
        assert file.with_name(file.name.replace("-cache", "-atime")).exists(), "else it is removed"
        file.write_bytes(b"damaged")
    assert result_of(jnp.cos, "sine", np.zeros(2)) == [1, 1]
    assert len(traced) == 7


@pytest.mark.parametrize("damaged", [b"", b"damaged", b"x" * 100])
def test_what_is_damaged_is_made_and_written_again(tmp_path, monkeypatch, damaged):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compilation, "_STARTED", time.time() + 60)
    made = iter([b"first", b"second"])
    assert compilation.remembered(["key"], lambda: next(made)) == b"first"
    assert compilation.remembered(["key"], lambda: next(made)) == b"first"
    (file,) = tmp_path.glob("*-cache")
    file.write_bytes(damaged)
    assert compilation.remembered(["key"], lambda: next(made)) == b"second"
    assert compilation.remembered(["key"], lambda: next(made)) == b"second"


@pytest.mark.parametrize("folder", ["gs://bucket/cache", f"{__file__}/cache"])
def test_a_cache_that_is_no_folder_is_done_without(monkeypatch, folder):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
    monkeypatch.setattr(compilation, "_STARTED", time.time() + 60)
    assert compilation.remembered(["key"], lambda: b"made") == b"made"


def slow_function():
    def trace(x):
        time.sleep(0.2)  # while it is traced, not when it runs
        return x + 1

    return Compiled(jax.jit(trace), "a slow function")


def test_compilation_is_announced_and_timed(monkeypatch, capsys):
    monkeypatch.setattr(compilation, "_ANNOUNCE_AFTER", 0.05)
    function = slow_function()
    for shape in [2, 2, 3, 2]:
        np.testing.assert_array_equal(function(jnp.zeros(shape)), np.ones(shape))
    assert capsys.readouterr().err == 2 * "compiling a slow function …\n"
    assert 0.4 < function.seconds < 2
    monkeypatch.setattr(compilation, "_ANNOUNCE_AFTER", 60)
    slow_function()(jnp.zeros(2))
    assert capsys.readouterr().err == ""
