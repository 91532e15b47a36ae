"""Training that begins with the parameters of a finished model, `config.init`."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rpcl_jax.batching.tokenizer import WordPieces
from rpcl_jax.errors import InputError
from rpcl_jax.models.adapters import combine, merge_adapters, separate_adapters
from rpcl_jax.models.pretrained import hub_name, load_tokenizer
from rpcl_jax.models.text_encoder import ENCODER
from rpcl_jax.readers.corpus import Corpus
from rpcl_jax.run.base_config import flatten
from rpcl_jax.run.config import to_json
from rpcl_jax.run.model_folder import (
    TrainedRun,
    check_finished,
    load_model,
    model_folder,
    read_description,
)
from rpcl_jax.run.text_encoder import LoadedEncoder, encoder_digest, is_frozen

_LOG = logging.getLogger(__name__)


def load_start(config: ConfigDict, mesh: Mesh) -> TrainedRun:
    """Loads the model that `config.init` names.

    Raises InputError if it is a run that is not finished, or if a model of `config` has other
    modalities, sizes or adapters.
    """
    folder = model_folder(config.init)
    check_finished(folder)
    encoder, elsewhere = config.text.pretrained, read_description(folder).get("encoder_elsewhere")
    here = elsewhere and encoder and not hub_name(encoder)
    start = load_model(folder, mesh.size, encoder=encoder if here else None)
    here, there = flatten(to_json(config)), flatten(to_json(start.config))
    must_agree = ["modalities", *(f for f in here if f.startswith("model.") and "dropout" not in f)]
    if bool(config.text.pretrained) != bool(start.config.text.pretrained):
        must_agree.append("text.pretrained")
    elif not config.text.pretrained:
        must_agree += ["text.max_tokens", *(f for f in here if f.startswith("text.encoder."))]
    flags = [f"--config.{f}={there[f]}" for f in must_agree if here[f] != there[f]]
    if flags:
        raise InputError(
            f"config.init: the parameters of {config.init} are of another kind of model than this "
            f"config's; add {' '.join(flags)}"
        )
    rank = start.encoder.config.lora_rank
    if rank and (is_frozen(config) or config.text.lora_rank not in (0, rank)):
        raise InputError(
            f"config.init: {config.init} has adapters of rank {rank}; add "
            f"--config.text.lora_rank={rank} to train them on, or --config.text.lora_rank=0 to "
            "train the whole encoder, with them merged into it (both with "
            "--config.text.finetune=True)"
        )
    if _stays(config) and not (is_frozen(start.config) or rank):
        raise InputError(
            f"config.init: {config.init} has a trained text encoder, which cannot be frozen or "
            "get adapters. Go on training it with --config.text.finetune=True "
            "--config.text.lora_rank=0"
        )
    return start


def _stays(config: ConfigDict) -> bool:
    """Returns whether a run leaves the encoder's own parameters as `text.pretrained` has them."""
    return is_frozen(config) or bool(config.text.lora_rank)


def read_words(folder: Path) -> WordPieces:
    """Returns the tokenizer of a model folder."""
    return load_tokenizer(folder, read_description(folder)["encoder"]["vocab_size"])


def check_start(
    start: TrainedRun, encoder: LoadedEncoder, corpus: Corpus, config: ConfigDict
) -> None:
    """Raises InputError unless `start` can go on with this text encoder and these features."""
    for modality, table in corpus.tables.items():
        table.check_same_extractor(start.feature_tables[modality])
    own = separate_adapters(start.params_with_encoder[ENCODER])[1] if _stays(config) else None
    digests = (
        encoder_digest(encoder if _stays(config) else encoder._replace(params=None)),
        encoder_digest(start.encoder._replace(params=own)),
    )
    if digests[0] != digests[1]:
        raise InputError(
            f"config.text.pretrained: {config.text.pretrained} is not the text encoder of "
            f"{config.init}, but has other sizes, word pieces or parameters; name that one, "
            f"{start.config.text.pretrained}"
        )


def start_parameters(
    start: TrainedRun, drawn: dict[str, Any], emotions: Sequence[str]
) -> dict[str, Any]:
    """Returns `drawn`, a new model's parameters, with those of `start` in their place.

    What `start` does not have stays as drawn: adapters, and the emotion head's logits of emotions
    that are new. The parameters are moved, which leaves `start` empty.
    """
    params = jax.device_get(start.params_with_encoder)
    start.params.clear()  # or they would be on the devices twice
    start.params_with_encoder.clear()
    if ENCODER not in drawn:
        del params[ENCODER]
    elif not separate_adapters(drawn[ENCODER])[0]:
        params[ENCODER] = merge_adapters(params[ENCODER])
    kept = {emotion: k for k, emotion in enumerate(start.emotions) if emotion in emotions}
    head = {}
    for name, new in drawn["emotion_head"].items():
        old = params["emotion_head"][name]
        columns = [old[..., kept[e]] if e in kept else new[..., k] for k, e in enumerate(emotions)]
        head[name] = jnp.stack(columns, axis=-1)
    parts = {
        "kept": list(kept),
        "new": [emotion for emotion in emotions if emotion not in kept],
        "left out": [emotion for emotion in start.emotions if emotion not in kept],
    }
    listed = "; ".join(f"{part}: {', '.join(names)}" for part, names in parts.items() if names)
    _LOG.info(f"going on from {start.folder}; emotions {listed}")
    return combine(drawn, params | {"emotion_head": head})
