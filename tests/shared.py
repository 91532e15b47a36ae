"""What several tests use: the real inputs where they are, and a run small enough to repeat."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from ml_collections import ConfigDict

from configs import demo

ROOT = Path(__file__).resolve().parents[1]
SHARED = (ROOT / "../shared").resolve()
ECF = SHARED / "data/ECF"
MECAD = SHARED / "data/MECAD"
MINILM = SHARED / "models/all-MiniLM-L6-v2"
# Of a command as a user runs it: on one device, without tests/conftest.py's eight.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}


def needs(there: bool, what: str) -> pytest.MarkDecorator:
    """Skips a test where something it needs is not there; .ci/run wants it to fail instead."""
    return pytest.mark.skipif(not there and "RPCL_RUN_ALL_TESTS" not in os.environ, reason=what)


def import_or_skip(package: str) -> ModuleType:
    """Imports an optional package, or skips the test file; .ci/run wants it to fail instead."""
    if "RPCL_RUN_ALL_TESTS" in os.environ:
        return importlib.import_module(package)
    return pytest.importorskip(package)


needs_ecf = needs(ECF.is_dir(), f"no ECF at {ECF}")
needs_mecad = needs(MECAD.is_dir(), f"no MECAD at {MECAD}")
needs_minilm = needs(MINILM.is_dir(), f"no encoder at {MINILM}")
needs_espeak = needs(shutil.which("espeak-ng") is not None, "no espeak-ng")


def tiny_config(objective: str = "rpcl") -> ConfigDict:
    """The demo's config, shrunk to seconds; eight devices share its batches."""
    c = demo.get_config(objective)
    c.data.sizes = ConfigDict({"train": 48, "dev": 16, "test": 16})
    c.text.encoder.update({"hidden_size": 32, "num_layers": 1, "intermediate_size": 64})
    c.model.update({"width": 32, "fusion_layers": 1, "pair_width": 32})
    c.epochs = 3
    return c


def run_python(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs Python from the repository as a user does.

    It must end with `status`, and without a traceback unless `--debug` asks for one.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "--debug" in arguments or "Traceback" not in done.stderr
    return done
