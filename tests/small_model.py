"""The demo's model in small, and a batch of 13 generated dialogues for it."""

import numpy as np
from shared import tiny_config

from rpcl_jax.batching.pipeline import make_batches
from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.run.config import build_model
from rpcl_jax.run.text_vectors import load_text_encoder

SPLITS, TABLES = synthetic.generate_corpus(4, sizes={"train": 13})


def small_model(devices, objective="rpcl", dropout=0.0):
    """The config, the model, and a batch for a number of devices."""
    config = tiny_config(objective)
    config.model.dropout = config.text.dropout = config.text.attention_dropout = dropout
    encoder = load_text_encoder(config, SPLITS["train"])
    batches = make_batches(SPLITS["train"], encoder.tokenizer, TABLES, config, devices, EMOTIONS)
    _, batch = batches.make(np.arange(13))
    return config, build_model(config, encoder.config, EMOTIONS), batch
