"""RECCON (English, DailyDialog), text alone, all-MiniLM-L6-v2 (six layers of width 384) fine-tuned.

python -m rpcl_jax.main --config=configs/reccon_minilm.py
"""

from ml_collections import ConfigDict

from configs import ecf_minilm


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config: the settings of configs/ecf_minilm.py, chosen on both benchmarks."""
    c = ecf_minilm.get_config(objective)
    c.data.name = "reccon"
    c.data.format = "reccon"
    c.data.root = "data/RECCON"
    c.data.audio = ""  # text alone
    c.data.vision = ""
    return c
