"""The demo's model in small, and a batch of generated dialogues for it."""

import numpy as np
from shared import tiny_config

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.run.config import build_model
from rpcl_jax.run.text_encoder import load_text_encoder

SPLITS, TABLES = synthetic.generate_corpus(4, sizes={"train": 16})
ODD = np.arange(13)  # dialogues, in a batch of 16 places


def small_batches(devices):
    """The batches for a number of devices."""
    config = tiny_config()
    encoder = load_text_encoder(config, SPLITS["train"])
    return Batches(SPLITS["train"], encoder.tokenizer, TABLES, config, devices, EMOTIONS)


def small_model(devices, objective="rpcl", dropout=0.0, members=ODD):
    """The config, the model, and a batch of these dialogues for a number of devices."""
    config = tiny_config(objective)
    config.model.dropout = config.text.dropout = config.text.attention_dropout = dropout
    encoder = load_text_encoder(config, SPLITS["train"])
    _, batch = small_batches(devices).make(members)
    return config, build_model(config, encoder.config, EMOTIONS), batch
