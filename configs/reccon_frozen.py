"""RECCON (English, DailyDialog), text alone, all-MiniLM-L6-v2 frozen.

    python -m rpcl_jax.main --config=configs/reccon_frozen.py

The setting is that of configs/ecf_frozen.py, chosen on both benchmarks. The validation split has
only 47 conversations. results/README.md has the results, Causal Emotion Entailment among them.

The data are the DailyDialog part of RECCON (data/original_annotation of declare-lab/RECCON), read
from data/RECCON; for the encoder, see configs/ecf_minilm.py.
"""

from ml_collections import ConfigDict

from configs import ecf_frozen
from configs.reccon_minilm import on_reccon


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config: the settings of configs/ecf_frozen.py, chosen on both benchmarks."""
    return on_reccon(ecf_frozen.get_config(objective))
