"""RECCON (English, DailyDialog), text alone, all-MiniLM-L6-v2 frozen.

    python -m rpcl_jax.main --config=configs/reccon.py

TODO
"""

from ml_collections import ConfigDict

from configs import ecf_frozen


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config; its settings are those of configs/ecf_frozen.py."""
    c = ecf_frozen.get_config(objective)
    c.data.name = "reccon"
    c.data.format = "reccon"
    c.data.root = "data/RECCON"
    c.data.audio = ""  # text alone
    c.data.vision = ""
    return c
