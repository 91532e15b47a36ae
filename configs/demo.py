"""A generated corpus and a small encoder learned from nothing: minutes on two CPU cores."""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Text, audio and vision; nothing is read or downloaded."""
    c = base_config(objective)
    c.data.name = "synthetic"
    c.data.format = "synthetic"
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
