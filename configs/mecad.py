"""MECAD (Chinese) with the paper's setting except the encoder; text, audio and vision.

    python -m rpcl_jax.main --config=configs/mecad.py

The encoder is hfl/chinese-roberta-wwm-ext, because the paper's RoBERTa-base is English. Requires
feature tables from `rpcl extract`, and in practice a GPU. We have not trained this config to the
end, so there is no time or score to expect.
"""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config; data are read from data/MECAD, the encoder from the hub."""
    c = base_config(objective)
    c.data.name = "mecad"
    c.data.format = "mecad"
    c.data.root = "data/MECAD"
    c.data.audio = "data/MECAD/features/audio"
    c.data.vision = "data/MECAD/features/vision"
    c.text.pretrained = "hfl/chinese-roberta-wwm-ext"
    return c
