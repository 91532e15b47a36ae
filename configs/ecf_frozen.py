"""ECF, text alone, all-MiniLM-L6-v2 frozen: the quickest run on real data.

    python -m rpcl_jax.main --config=configs/ecf_frozen.py

A run takes three quarters of a minute on 2 CPU cores, with vectors and programs in the caches. For
data and encoder, see configs/ecf_minilm.py; for all results, results/README.md. With other
backbones, these were chosen:

    --config.model.backbone=two_step --config.model.fusion_layers=2
    --config.model.backbone=hilo --config.model.scorer_layers=2
    --config.model.backbone=graph
"""

from ml_collections import ConfigDict

from configs import ecf_minilm


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config; layers, dropout, rate and epochs were chosen by `base` on validation."""
    c = ecf_minilm.get_config(objective)
    c.text.finetune = False
    c.model.width = 200
    c.model.pair_width = 100
    c.model.dropout = 0.3
    c.model.fusion_layers = 0  # h before any exchange between utterances
    c.model.scorer_layers = 3
    c.epochs = 12
    c.optimizer.learning_rate = 2e-3
    return c
