"""Robust Pair Confidence Learning for multimodal emotion-cause pair extraction."""

import os

# Transformers would say "PyTorch was not found" whenever it is imported; only its tokenizers and
# configs are used here, which do not need PyTorch.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
