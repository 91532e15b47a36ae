"""RECCON (English, DailyDialog), text alone, all-MiniLM-L6-v2 frozen.

    python -m rpcl_jax.main --config=configs/reccon.py

A run takes three and a half minutes of CPU time on a Xeon (two cores). With seed 42, `rpcl` reaches
a Pair F1 of 47.99 on validation and 41.39 on test. In Causal Emotion Entailment (docs/method.md),
F1 of causes, of others and macro F1 are 63.42, 83.69 and 73.56 on validation, and 56.97, 83.55 and
70.26 on test. The validation split has only 47 conversations.

The data are the DailyDialog part of RECCON (data/original_annotation of declare-lab/RECCON), read
from data/RECCON; for the encoder, see configs/ecf_minilm.py.
"""

from ml_collections import ConfigDict

from configs import ecf_frozen


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config: the settings of configs/ecf_frozen.py, which were chosen on ECF."""
    c = ecf_frozen.get_config(objective)
    c.data.name = "reccon"
    c.data.format = "reccon"
    c.data.root = "data/RECCON"
    c.data.audio = ""  # text alone
    c.data.vision = ""
    return c
