"""Robust Pair Confidence Learning for multimodal emotion-cause pair extraction."""

import os

# Suppresses the "PyTorch was not found" warning of Transformers: only its tokenizers and configs
# are used here, and these do not need PyTorch.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
