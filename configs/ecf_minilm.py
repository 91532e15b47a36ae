"""ECF, text alone, all-MiniLM-L6-v2 (six layers of width 384) fine-tuned.

    python -m rpcl_jax.main --config=configs/ecf_minilm.py

A run of 7 epochs takes ten minutes on one CPU thread. The test Pair F1 of five seeds is
55.57 ± 0.35 (`rpcl`) and 55.52 ± 0.19 (`:base`); see results/README.md.

The data are read from data/ECF, and the encoder is downloaded from the hub. Pass local copies as
--config.data.root=FOLDER and --config.text.pretrained=FOLDER.
"""

from ml_collections import ConfigDict

from configs import ecf


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Returns the config.

    The layers, at a dropout of 0.3, and then the dropout were chosen by the validation Pair F1 of
    `base`. Batches, rates and epochs had been chosen by that of `rpcl`, with other layers.
    """
    c = ecf.get_config(objective)
    c.modalities = "t"
    c.text.pretrained = "sentence-transformers/all-MiniLM-L6-v2"
    c.text.speaker_names = True
    c.text.max_tokens = 128
    c.text.row_length = 128
    c.text.attention_dropout = 0.0
    c.model.fusion_layers = 0  # h before any exchange between utterances
    c.model.scorer_layers = 3
    c.model.dropout = 0.15
    c.batch_size = 16
    c.epochs = 7
    c.optimizer.encoder_learning_rate = 5e-5
    c.optimizer.learning_rate = 5e-4
    c.optimizer.schedule = "linear"
    c.optimizer.warmup = 0.1
    return c
