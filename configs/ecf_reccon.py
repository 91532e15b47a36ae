"""ECF and RECCON together, text alone, all-MiniLM-L6-v2 with adapters: the package's own model.

    python -m rpcl_jax.main --config=configs/ecf_reccon.py

A run takes 47 minutes on one busy CPU thread; results/pretrained.md has its scores. The layers are
narrower than in configs/ecf_minilm.py, so that the model without the encoder has 6 MB.
"""

from ml_collections import ConfigDict

from configs import ecf_minilm


def get_config(objective: str = "base") -> ConfigDict:
    """Returns the config; unlike elsewhere, the objective is `base` unless another is named."""
    c = ecf_minilm.get_config(objective)
    c.data.name = "ecf,reccon"
    c.data.format = "ecf,reccon"
    c.data.root = "data/ECF,data/RECCON"
    c.data.emotions = "neutral,anger,disgust,fear,joy,sadness,surprise"
    c.data.unknown_emotion = "neutral"  # RECCON has two that are "excited"
    c.data.audio = ""  # text alone
    c.data.vision = ""
    c.text.lora_rank = 8
    c.model.width = 200
    c.model.pair_width = 100
    c.optimizer.encoder_learning_rate = 1e-3
    c.optimizer.learning_rate = 1e-3
    return c
