"""What several tests use: the real inputs where they are, a small run, and running commands."""

import gzip
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from configs import demo
from rpcl_jax.errors import InputError
from rpcl_jax.run.config import flatten
from rpcl_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parents[1]
SHARED = (ROOT / "../shared").resolve()
ECF = SHARED / "data/ECF"
MECAD = SHARED / "data/MECAD"
RECCON = SHARED / "data/RECCON"
MINILM = SHARED / "models/all-MiniLM-L6-v2"
# The environment of a command as a user runs it: one device, not the eight of tests/conftest.py.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
# What stands in place of a file that Git LFS has not fetched.
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n"
# For Python code that is no command of ours and imports configs, tools or what the tests share.
IMPORTABLE = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def needs(there: bool, what: str) -> pytest.MarkDecorator:
    """Skips a test where something it needs is missing; under .ci/run the test fails instead."""
    return pytest.mark.skipif(not there and "RPCL_RUN_ALL_TESTS" not in os.environ, reason=what)


def import_or_skip(package: str) -> ModuleType:
    """Imports an optional package or skips the test file; under .ci/run it fails instead."""
    if "RPCL_RUN_ALL_TESTS" in os.environ:
        return importlib.import_module(package)
    return pytest.importorskip(package)


needs_ecf = needs(ECF.is_dir(), f"no ECF at {ECF}")
needs_mecad = needs(MECAD.is_dir(), f"no MECAD at {MECAD}")
needs_reccon = needs(RECCON.is_dir(), f"no RECCON at {RECCON}")
needs_minilm = needs(MINILM.is_dir(), f"no encoder at {MINILM}")
needs_espeak = needs(shutil.which("espeak-ng") is not None, "no espeak-ng")


def tiny_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the demo's config shrunk to a run of seconds; its batches divide over 8 devices.

    With these sizes all batches of a run have one shape, on one device and on eight, so that the
    training step and the scoring function compile once.
    """
    c = demo.get_config(objective)
    c.data.sizes = ConfigDict({"train": 32, "dev": 8, "test": 8})
    c.text.encoder.update({"hidden_size": 32, "num_layers": 1, "intermediate_size": 64})
    c.model.update({"width": 32, "fusion_layers": 1, "pair_width": 32})
    c.epochs = 3
    return c


def tiny_flags() -> list[str]:
    """Returns the command-line flags that make `tiny_config()` of configs/demo.py."""
    demos = flatten(demo.get_config())
    changed = [(k, v) for k, v in flatten(tiny_config()).items() if v != demos[k]]
    return ["--config=configs/demo.py", *(f"--config.{field}={value}" for field, value in changed)]


def run_python(
    *arguments: object, status: int = 0, environment: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Runs Python in the repository's root, as a user does, with `environment` added.

    It must end with `status`, and without a traceback unless `--debug` asks for one.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT | {**environment}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "--debug" in arguments or "Traceback" not in done.stderr
    return done


def run_main(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs `python -m rpcl_jax.main`; see `run_python`."""
    return run_python("-m", "rpcl_jax.main", *arguments, status=status)


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Asserts that a command ended with one line of error that contains `parts`."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rpcl_jax: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def refusal(function: Callable[..., object], *arguments: object, **options: object) -> str:
    """Returns the message, of one line, of the InputError that a call must raise."""
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_pointer_is_named(path: Path, read: Callable[..., object], *arguments: object) -> None:
    """Asserts that a call refuses a file that Git LFS has not fetched, which it puts at `path`."""
    path.write_text(POINTER)
    assert refusal(read, *arguments) == (
        f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` in {path.parent}"
    )


def saved_parameters(workdir: Path) -> dict[str, np.ndarray]:
    """Returns every array of the last checkpoint's state by name, such as "params/fusion/…"."""
    (last,) = Checkpoints(workdir).numbers()
    with ocp.StandardCheckpointer() as reader:
        saved = reader.restore((workdir / "checkpoints" / str(last) / "state").absolute())
    leaves = jax.tree_util.tree_leaves_with_path(saved)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
    }


def write_lines(path: Path, items: Iterable[Any]) -> Path:
    """Writes JSON lines, compressed if the name ends in .gz; strings are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(i if isinstance(i, str) else json.dumps(i) + "\n" for i in items)
    return path


def page_data(path: Path) -> Any:
    """Returns the data in a page of `--html` or of `rpcl report`."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


def assert_same_pairs(results: Iterable[dict], wanted: Iterable[dict]) -> None:
    """The same conversations and pairs but for rounding: what one has more is at the threshold."""
    for result, other in zip(results, wanted, strict=True):
        assert [t["text"] for t in result["utterances"]] == [t["text"] for t in other["utterances"]]
        one, two = (
            dict(zip(map(tuple, r["pairs"]), r["pair_confidences"], strict=True))
            for r in (result, other)
        )
        lowest = min([*one.values(), *two.values()], default=0.0)
        for pair in one.keys() | two.keys():  # written with three digits
            assert one.get(pair, lowest) == pytest.approx(two.get(pair, lowest), abs=1.1e-3)
