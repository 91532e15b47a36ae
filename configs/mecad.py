"""MECAD (Chinese), text + audio + vision, with the paper's setting."""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """The data are looked for under data/MECAD, the encoder on the hub."""
    c = base_config(objective)
    c.data.name = "mecad"
    c.data.format = "mecad"
    c.data.root = "data/MECAD"
    c.data.audio = "data/MECAD/features/audio"
    c.data.vision = "data/MECAD/features/vision"
    c.text.pretrained = "hfl/chinese-roberta-wwm-ext"
    return c
