"""ECF with the paper's setting: RoBERTa-base fine-tuned, text + audio + vision."""

from ml_collections import ConfigDict

from rpcl_jax.run.base_config import base_config


def get_config(objective: str = "rpcl") -> ConfigDict:
    """The data are looked for under data/ECF, the encoder on the hub."""
    c = base_config(objective)
    c.data.name = "ecf"
    c.data.format = "ecf"
    c.data.root = "data/ECF"
    c.data.audio = "data/ECF/features/audio"
    c.data.vision = "data/ECF/features/vision"
    c.text.pretrained = "FacebookAI/roberta-base"
    return c
