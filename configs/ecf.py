"""ECF (English) with the paper's setting: RoBERTa-base fine-tuned; text, audio and vision.

    python -m rpcl_jax.main --config=configs/ecf.py

Requires feature tables from `rpcl extract`, and in practice a GPU. We have not trained this
config to the end, so there is no time or score to expect.
"""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config; data are read from data/ECF, the encoder from the hub."""
    c = base_config(objective)
    c.data.name = "ecf"
    c.data.format = "ecf"
    c.data.root = "data/ECF"
    c.data.audio = "data/ECF/features/audio"
    c.data.vision = "data/ECF/features/vision"
    c.text.pretrained = "FacebookAI/roberta-base"
    return c
