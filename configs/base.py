"""What a run is. The values are the paper's setting; the other configs say only what differs."""

from ml_collections import ConfigDict


def get_config(objective: str = "rpcl") -> ConfigDict:
    """`objective` is what stands after the colon: `--config=configs/ecf.py:base`."""
    c = ConfigDict()
    c.seed = 42  # the paper's: 42, 345, 456
    c.objective = objective  # a name of rpcl_jax.objective.VARIANTS
    c.modalities = "tav"  # text, audio, vision; any subset with t
    c.epochs = 30
    c.patience = 5  # epochs without a better validation Pair F1 before stopping
    c.batch_size = 32  # dialogues in a step, over all devices

    c.data = ConfigDict()
    c.data.name = ""  # of the benchmark; runs go to runs/<name>
    c.data.format = ""  # ecf, mecad, mec4, conversations or synthetic; see rpcl_jax/data/corpus.py
    c.data.root = ""
    c.data.audio = ""  # folders of the feature tables, or one of ECF's official .npy files
    c.data.vision = ""
    c.data.emotions = "categories"  # or "binary": what the emotion head tells apart
    c.data.max_utterances = 35
    c.data.candidates = "past"  # V: "past" (causes j ≤ i) or "all" cells

    c.text = ConfigDict()
    c.text.pretrained = ""  # folder or hub name; empty: a small encoder learned from nothing
    c.text.context = "utterance"  # what words attend to: their "utterance" or the "dialogue"
    c.text.speaker_names = False  # "name:" before every utterance
    c.text.max_tokens = 512  # of one segment
    c.text.row_length = 512  # word pieces in a packed row, at least max_tokens
    c.text.dropout = 0.1  # on hidden states
    c.text.attention_dropout = 0.1  # on attention weights
    c.text.finetune = True  # False: the encoder is frozen, its vectors are computed once
    c.text.cache = "runs/text_vectors"  # where a frozen encoder's vectors are kept
    c.text.dtype = "auto"  # of activations: float32 on CPU, bfloat16 elsewhere

    c.model = ConfigDict()
    c.model.width = 400
    c.model.heads = 8
    c.model.fusion_layers = 2
    c.model.scorer_layers = 1
    c.model.pair_width = 200
    c.model.dropout = 0.1

    c.rpcl = ConfigDict()  # rpcl_jax.objective.Objective; a variant overrides some
    c.rpcl.row_weight = 0.3
    c.rpcl.base_margin = 0.05
    c.rpcl.adaptive_margin = True
    c.rpcl.top_k = 8
    c.rpcl.corruption_rate = 0.30
    c.rpcl.protect_gold = True
    c.rpcl.corruption_weight = 0.75
    c.rpcl.alignment_weight = 0.2

    c.optimizer = ConfigDict()
    c.optimizer.encoder_learning_rate = 1e-5
    c.optimizer.learning_rate = 5e-5  # of everything else
    c.optimizer.schedule = "constant"  # or "linear" decay to 0 at the last epoch
    c.optimizer.warmup = 0.0  # fraction of all steps
    c.optimizer.weight_decay = 1e-4
    c.optimizer.clip_norm = 1.0
    return c
