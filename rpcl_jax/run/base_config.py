"""Every field of a config and its default: the paper's setting. Other configs set what differs."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rpcl_jax.errors import InputError

_NO_RANKING: dict[str, Any] = {"row_weight": 0.0}
_NO_CORRUPTION: dict[str, Any] = {"corruption_weight": 0.0, "alignment_weight": 0.0}
# What each objective changes in `config.rpcl`; docs/method.md, "Objectives", has the table.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "base": _NO_RANKING | _NO_CORRUPTION,
    "rpcl": {},
    "fixed_margin": _NO_CORRUPTION | {"adaptive_margin": False},
    "utterance_dropout": _NO_RANKING | {"protect_gold": False, "corruption_weight": 0.0},
    "pair_weight": _NO_RANKING | {"corruption_rate": 0.0},  # both views are clean
    "cdmr": _NO_CORRUPTION,
    "ccps": _NO_RANKING,
    "no_alignment": {"alignment_weight": 0.0},
    "no_corrupted_ce": {"corruption_weight": 0.0},
    "no_adaptive_margin": {"adaptive_margin": False},
    "no_top_k": {"top_k": 0},
}


def base_config(objective: str = "rpcl") -> ConfigDict:
    """The paper's setting with the weights and switches of an objective, a name in OBJECTIVES."""
    if objective not in OBJECTIVES:
        raise InputError(
            f"{objective!r} is not an objective; the objectives are {', '.join(OBJECTIVES)}"
        )
    c = ConfigDict()
    c.seed = 42  # the paper's: 42, 345, 456
    c.objective = objective  # the name of a run; what it means is in `rpcl` below
    c.modalities = "tav"  # text, audio, vision: "t", "ta", "tv" or "tav"
    # Folder or hub name of a finished model whose parameters training begins with; empty: anew.
    c.init = ""
    c.epochs = 30
    c.patience = 5  # epochs without a better validation Pair F1 before stopping; 0: never stop
    c.batch_size = 32  # dialogues in a step, over all devices
    # Minutes after which a checkpoint is saved within an epoch too; 0: at the end of epochs.
    c.checkpoint_minutes = 0.0
    c.devices = 0  # how many devices train; 0: all that are visible

    c.data = ConfigDict()
    # Several corpora are trained on together, as text, where these three have commas between them.
    c.data.name = ""  # the benchmark's name, for tables and reports
    c.data.format = ""  # a name in rpcl_jax/readers/corpus.py, one for each or for all
    c.data.root = ""  # folder of the benchmark
    c.data.audio = ""  # folder of a feature table, or one of ECF's official .npy files
    c.data.vision = ""  # the same
    # Classes of the emotion head: "auto" (neutral and what the training split has), "binary"
    # (neutral and emotional), or names such as "neutral,joy,sadness".
    c.data.emotions = "auto"
    c.data.unknown_emotion = "refuse"  # an emotion outside the classes: "refuse", "neutral", "skip"
    c.data.max_utterances = 35  # longer dialogues are cut
    c.data.candidates = "past"  # V: "past" (causes j ≤ i) or "all" cells
    c.data.modality_dropout = 0.0  # share of dialogues trained without their audio, their vision
    c.data.seed = 0  # of the generated corpus, format "synthetic"
    c.data.sizes = ConfigDict()  # of the generated corpus, in dialogues
    c.data.sizes.train = 600
    c.data.sizes.dev = 100
    c.data.sizes.test = 150

    c.text = ConfigDict()
    c.text.pretrained = ""  # folder or hub name of the encoder; empty: train `encoder` from scratch
    c.text.encoder = ConfigDict()  # sizes where `pretrained` is empty
    c.text.encoder.hidden_size = 0  # width, a multiple of num_heads
    c.text.encoder.num_layers = 0  # transformer layers
    c.text.encoder.num_heads = 0  # attention heads
    c.text.encoder.intermediate_size = 0  # of the feed-forward network
    c.text.context = "utterance"  # what a word attends to: its "utterance" or the "dialogue"
    c.text.speaker_names = False  # "name:" before every utterance
    c.text.max_tokens = 512  # word pieces in a segment, special tokens included
    c.text.row_length = 512  # word pieces in a packed row, at least max_tokens
    c.text.dropout = 0.1  # on hidden states
    c.text.attention_dropout = 0.1  # on attention weights
    c.text.finetune = True  # False: the encoder is frozen and its vectors are computed once
    # Rank of low-rank adapters, which are trained in place of the encoder; 0: none.
    c.text.lora_rank = 0
    c.text.cache = "runs/text_vectors"  # folder for the vectors of a frozen encoder
    c.text.dtype = "auto"  # of activations: float32 on a CPU, bfloat16 elsewhere

    c.model = ConfigDict()
    c.model.backbone = "transformer"  # or "hilo", "two_step", "graph": docs/method.md, "Backbones"
    c.model.width = 400  # of utterance representations h
    c.model.heads = 8  # attention heads; width must be a multiple
    c.model.fusion_layers = 2  # the backbone's own layers over the dialogue, before h
    c.model.scorer_layers = 1  # the same in the pair scorer, after h; "two_step" has none
    c.model.pair_width = 200  # of the pair scorer's cells
    c.model.dropout = 0.1  # of everything but the text encoder

    c.rpcl = ConfigDict()  # rpcl_jax.objective.Objective
    c.rpcl.row_weight = 0.3  # λ_row; 0: no ranking
    c.rpcl.base_margin = 0.05  # m0
    c.rpcl.adaptive_margin = True  # eq. 9; False: every margin is m0
    c.rpcl.top_k = 8  # hard negatives per row; 0: all negatives
    c.rpcl.corruption_rate = 0.30  # ρ
    c.rpcl.protect_gold = True  # eq. 12; False: any utterance may be zeroed
    c.rpcl.corruption_weight = 0.75  # λ_cor
    c.rpcl.alignment_weight = 0.2  # λ_ali

    c.diagnostics = ConfigDict()  # the same for every objective, so that runs can be compared
    c.diagnostics.top_k = c.rpcl.top_k
    c.diagnostics.base_margin = c.rpcl.base_margin

    c.rpcl.update(OBJECTIVES[objective])

    c.optimizer = ConfigDict()
    c.optimizer.encoder_learning_rate = 1e-5
    c.optimizer.learning_rate = 5e-5  # of everything else
    c.optimizer.schedule = "constant"  # or "linear": decay to 0 at the last epoch
    c.optimizer.warmup = 0.0  # fraction of all steps
    c.optimizer.weight_decay = 1e-4  # of matrices and tables
    c.optimizer.clip_norm = 1.0  # of the gradient's global norm
    return c


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of a nested config by dotted name, such as "data.root"."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields
