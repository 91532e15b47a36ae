"""What several tests use: the real inputs where they are, and a run small enough to repeat."""

import os
from pathlib import Path

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
needs_ecf = pytest.mark.skipif(not ECF.is_dir(), reason=f"no ECF at {ECF}")
needs_mecad = pytest.mark.skipif(not MECAD.is_dir(), reason=f"no MECAD at {MECAD}")
needs_minilm = pytest.mark.skipif(not MINILM.is_dir(), reason=f"no encoder at {MINILM}")


def tiny_config(objective: str = "rpcl") -> ConfigDict:
    """The demo's config, shrunk to seconds; eight devices share its batches."""
    c = demo.get_config(objective)
    c.data.sizes = ConfigDict({"train": 48, "dev": 16, "test": 16})
    c.text.encoder.update({"hidden_size": 32, "num_layers": 1, "intermediate_size": 64})
    c.model.update({"width": 32, "fusion_layers": 1, "pair_width": 32})
    c.epochs = 3
    return c
