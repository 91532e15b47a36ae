"""A generated corpus and a small encoder learned from nothing: minutes on two CPU cores."""

from ml_collections import ConfigDict

from configs import base


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Text, audio and vision; nothing is read or downloaded."""
    c = base.get_config(objective)
    c.data.name = "synthetic"
    c.data.format = "synthetic"
    c.data.seed = 0
    c.data.sizes = ConfigDict({"train": 600, "dev": 100, "test": 150})
    c.text.encoder = ConfigDict(  # sizes of rpcl_jax.models.text_encoder.TextEncoderConfig
        {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 256}
    )
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
