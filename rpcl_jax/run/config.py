"""A config's validation, and the objects that it describes."""

import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rpcl_jax.data.features import MODALITIES
from rpcl_jax.errors import InputError
from rpcl_jax.models.ecpe import BACKBONES, PairExtractor
from rpcl_jax.models.text_encoder import TextEncoderConfig
from rpcl_jax.objective import Objective
from rpcl_jax.readers.corpus import FORMATS, SPLITS, SYNTHETIC, named_emotions, sources
from rpcl_jax.run.base_config import OBJECTIVES, base_config, flatten

_CHOICES = {
    "objective": tuple(OBJECTIVES),
    "modalities": ("t", "ta", "tv", "tav"),
    "data.unknown_emotion": ("refuse", "neutral", "skip"),
    "data.candidates": ("past", "all"),
    "text.context": ("utterance", "dialogue"),
    "text.dtype": ("auto", "float32", "bfloat16"),
    "model.backbone": tuple(BACKBONES),
    "optimizer.schedule": ("constant", "linear"),
}
_FRACTIONS = (
    *("text.dropout", "text.attention_dropout", "model.dropout"),
    *("data.modality_dropout", "rpcl.corruption_rate", "optimizer.warmup"),
)
# Lowest and highest value of every integer. The highest are far above any real run; beyond them,
# memory or 32-bit counters run out.
_LIMITS = {
    **{field: (0, 2**32 - 1) for field in ("seed", "data.seed")},
    **{field: (0, 2**20) for field in ("patience", "rpcl.top_k")},
    **{field: (1, 2**20) for field in ("epochs", "data.max_utterances", "diagnostics.top_k")},
    **{f"data.sizes.{split}": (1, 2**20) for split in SPLITS},
    "batch_size": (1, 2**16),
    "devices": (0, 2**16),
    "text.max_tokens": (3, 2**17),  # a word piece between the special tokens
    "text.row_length": (1, 2**17),
    "text.lora_rank": (0, 2**10),
    **{f"text.encoder.{size}": (0, 2**16) for size in ("hidden_size", "intermediate_size")},
    **{f"text.encoder.num_{parts}": (0, 2**10) for parts in ("layers", "heads")},
    "model.width": (1, 2**16),
    "model.heads": (1, 2**10),
    "model.fusion_layers": (0, 2**10),
    "model.scorer_layers": (1, 2**10),
    "model.pair_width": (4, 2**16),  # the scorer's product has a quarter of it
}


def check_config(config: ConfigDict) -> None:
    """Raises InputError unless `check_fields` passes and the fields can train together."""
    check_fields(config)
    c = config
    if c.text.max_tokens > c.text.row_length:
        raise InputError(
            f"config.text.row_length: {c.text.row_length} is less than config.text.max_tokens, "
            f"{c.text.max_tokens}; make it at least that"
        )
    if c.model.width % c.model.heads:
        raise InputError(
            f"config.model.width: {c.model.width} is not a multiple of config.model.heads, "
            f"{c.model.heads}; change one of them"
        )
    if c.model.backbone in ("hilo", "two_step") and c.model.width % 2:
        raise InputError(
            f"config.model.width: {c.model.width} is odd; make it even for {c.model.backbone!r}"
        )
    if c.model.backbone == "two_step" and not c.model.fusion_layers:
        raise InputError(
            "config.model.fusion_layers: is 0; the backbone 'two_step' needs at least 1"
        )
    if c.text.lora_rank and not (c.text.pretrained and c.text.finetune):
        raise InputError(
            f"config.text.lora_rank: {c.text.lora_rank} adapts an encoder that is pretrained and "
            "not frozen; name one in config.text.pretrained and leave config.text.finetune True, "
            "or set the rank to 0"
        )
    if not c.text.pretrained:
        _check_own_encoder(c)
    if c.data.format != SYNTHETIC:
        _check_data(c)


def check_fields(config: ConfigDict) -> None:
    """Raises InputError unless every field exists and has a value of its kind and range."""
    fields, known = flatten(config), flatten(base_config())
    for field in sorted(fields.keys() ^ known.keys()):
        problem = "is missing" if field in known else "does not exist"
        raise InputError(f"config.{field} {problem}; rpcl_jax/run/base_config.py has all fields")
    for field, value in fields.items():
        _check_field(field, value, known[field])
    for name in config.data.format.split(","):
        _check_choice("data.format", name, FORMATS)
    named_emotions(config)


def _check_data(c: ConfigDict) -> None:
    if not c.data.root:
        raise InputError("config.data.root: is empty; it must name the folder of the benchmark")
    if len(sources(c)) > 1 and c.modalities != "t":
        raise InputError(
            f"config.data.root: several corpora, {c.data.root}, are trained on as text only; add "
            "--config.modalities=t"
        )
    for modality in (MODALITIES[letter] for letter in "av" if letter in c.modalities):
        if not c.data[modality]:
            raise InputError(
                f"config.data.{modality}: is empty; name a feature table, or go without: "
                "--config.modalities=t"
            )


def _check_own_encoder(c: ConfigDict) -> None:
    if not c.text.finetune:
        raise InputError(
            "config.text.finetune: False freezes an encoder, which must be pretrained; "
            "name one in config.text.pretrained"
        )
    for field, value in c.text.encoder.items():
        if value < 1:
            raise InputError(
                f"config.text.encoder.{field}: is {value}; it must be at least 1, or name an "
                "encoder in config.text.pretrained"
            )
    if c.text.encoder.hidden_size % c.text.encoder.num_heads:
        raise InputError(
            f"config.text.encoder.hidden_size: {c.text.encoder.hidden_size} is not a multiple of "
            f"config.text.encoder.num_heads, {c.text.encoder.num_heads}; change one of them"
        )


def _check_field(field: str, value: Any, default: Any) -> None:
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if type(value) not in kinds:
        raise InputError(f"config.{field}: {value!r} is not of type {kinds[-1].__name__}")
    if field in _CHOICES:
        _check_choice(field, value, _CHOICES[field])
    if isinstance(value, bool | str):
        return
    if field in _LIMITS:
        low, high = _LIMITS[field]
        allowed, wanted = low <= value <= high, f"from {low} to {high}"
    elif field in _FRACTIONS:
        allowed, wanted = 0 <= value < 1, "at least 0 and less than 1"
    elif field == "optimizer.clip_norm":  # 0 would undo every gradient
        allowed, wanted = 0 < value < math.inf, "more than 0"
    else:
        allowed, wanted = 0 <= value < math.inf, "at least 0 and finite"
    if not allowed:
        raise InputError(f"config.{field}: is {value}; it must be {wanted}")


def _check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"config.{field}: {value!r} is unknown; it may be {', '.join(choices)}")


def load_config_file(path: str | Path, objective: str) -> ConfigDict:
    """Returns the config of `get_config(objective)` in a file."""
    spec = importlib.util.spec_from_file_location("config_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(objective)


def parse_config(written: dict[str, Any], path: Path) -> ConfigDict:
    """Returns the config that `to_json` wrote; raises InputError if it is not of this version."""
    try:
        config = base_config(written["objective"])
        config.update(written)
        check_fields(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a config of this version of rpcl_jax ({reason}); train the run again, or "
            "update rpcl_jax if a newer version wrote it"
        ) from error
    return config


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Returns a config as `config.json` holds it."""
    return json.loads(config.to_json())


def objective_of(config: ConfigDict) -> Objective:
    """Returns the weights and switches of `config.rpcl`."""
    fields = config.rpcl.to_dict()
    return Objective(**fields | {"top_k": fields["top_k"] or None})


def build_model(
    config: ConfigDict, encoder: TextEncoderConfig, emotions: Sequence[str]
) -> PairExtractor:
    """Returns the model of a config around a text encoder of these sizes."""
    dtype = config.text.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return PairExtractor(
        encoder=encoder,
        modalities=config.modalities,
        emotions=len(emotions),
        dtype=jnp.dtype(dtype),
        **config.model,
    )
