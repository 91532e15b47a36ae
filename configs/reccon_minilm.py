"""RECCON (English, DailyDialog), text alone, all-MiniLM-L6-v2 (six layers of width 384) fine-tuned.

    python -m rpcl_jax.main --config=configs/reccon_minilm.py

The settings are those of configs/ecf_minilm.py, but for the layers, which were chosen by the
validation Pair F1 of `base` here, the mean of five seeds. The validation split has only 47
conversations. For data and encoder, see configs/reccon_frozen.py and configs/ecf_minilm.py.
"""

from ml_collections import ConfigDict

from configs import ecf_minilm


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config: the settings of configs/ecf_minilm.py with other layers."""
    c = on_reccon(ecf_minilm.get_config(objective))
    c.model.fusion_layers = 2
    c.model.scorer_layers = 1
    return c


def on_reccon(c: ConfigDict) -> ConfigDict:
    """Makes a config of ECF read RECCON, and returns it."""
    c.data.name = "reccon"
    c.data.format = "reccon"
    c.data.root = "data/RECCON"
    c.data.audio = ""  # text alone
    c.data.vision = ""
    return c
