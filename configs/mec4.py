"""MEC4 (Chinese), text + audio + vision, with the paper's setting."""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """The data are looked for under data/MEC4, the encoder on the hub."""
    c = base_config(objective)
    c.data.name = "mec4"
    c.data.format = "mec4"
    c.data.root = "data/MEC4"
    c.data.audio = "data/MEC4/features/audio"
    c.data.vision = "data/MEC4/features/vision"
    c.data.emotions = "binary"  # the benchmark gives no categories
    c.text.pretrained = "hfl/chinese-roberta-wwm-ext"
    return c
