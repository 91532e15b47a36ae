"""Robust Pair Confidence Learning for multimodal emotion-cause pair extraction."""
