"""Robust Pair Confidence Learning for multimodal emotion-cause pair extraction."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpcl_jax import corruption, losses
    from rpcl_jax import torch_losses as torch_losses
    from rpcl_jax.predict import Predictor

__all__ = ["Predictor", "corruption", "losses"]
_LAZY = (*__all__, "torch_losses")  # which needs PyTorch

# Suppresses the "PyTorch was not found" warning of Transformers: only its tokenizers and configs
# are used here, and these do not need PyTorch.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def __getattr__(name: str) -> Any:
    """Imports what `_LAZY` lists when it is first used: JAX and PyTorch take seconds."""
    if name == "Predictor":
        return importlib.import_module("rpcl_jax.predict").Predictor
    if name in _LAZY:
        return importlib.import_module(f"rpcl_jax.{name}")
    raise AttributeError(f"module 'rpcl_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
