"""ECF, text alone, with all-MiniLM-L6-v2: six layers of width 384, quick on two CPU cores."""

from ml_collections import ConfigDict

from configs import ecf


def get_config(objective: str = "rpcl") -> ConfigDict:
    """Learning rates, schedule, context and candidates were chosen by validation Pair F1."""
    c = ecf.get_config(objective)
    c.modalities = "t"
    c.text.pretrained = "sentence-transformers/all-MiniLM-L6-v2"
    c.text.speaker_names = True
    c.text.max_tokens = 128
    c.text.row_length = 128
    c.text.attention_dropout = 0.0
    c.model.dropout = 0.3
    c.batch_size = 16
    c.epochs = 7
    c.optimizer.encoder_learning_rate = 5e-5
    c.optimizer.learning_rate = 5e-4
    c.optimizer.schedule = "linear"
    c.optimizer.warmup = 0.1
    return c
