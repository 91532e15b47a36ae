"""The folder of a run: whose it is, and everything that inference needs.

config.json          the run's config; another config is refused here
model.json           sizes of the text encoder, and whose features were read
tokenizer/           the text encoder's tokenizer
checkpoints/         last and best epoch
metrics.jsonl        what was logged, and TensorBoard's events beside it
predictions/         {dev,test}.json the pairs, {dev,test}.npz every confidence
result.json          there when the run is finished
lock                 held by the process that trains here
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from transformers import PreTrainedTokenizerBase

from rpcl_jax.checkpoint import Checkpoints
from rpcl_jax.data.dialogue import EMOTION_CLASSES
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.encoder import LoadedEncoder, encoder_digest, load_text_encoder
from rpcl_jax.errors import InputError, file_errors
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.models.pretrained import load_tokenizer
from rpcl_jax.models.text_encoder import TextEncoderConfig


class TrainedModel(NamedTuple):
    """A model with the parameters of its best epoch, and how its input is made."""

    config: ConfigDict
    model: PairExtractor
    params: dict
    tokenizer: PreTrainedTokenizerBase
    frozen_encoder: LoadedEncoder | None
    feature_tables: dict[str, dict]  # what `table.json` said, of the modalities beside text
    epoch: int  # the best one


def default_workdir(name: str, config: ConfigDict) -> Path:
    """`runs/<name>/<objective>-<modalities>-seed<seed>`; `name` is that of the config's file."""
    return Path("runs") / name / f"{config.objective}-{config.modalities}-seed{config.seed}"


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Writes a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def check_owner(workdir: Path, config: ConfigDict) -> None:
    """Raises InputError where `workdir` belongs to another config or holds something else."""
    path = workdir / "config.json"
    if path.exists():
        differences = _differences(read_json(path), json.loads(config.to_json()))
        if differences:
            raise InputError(
                f"{path}: this folder belongs to a run with another config "
                f"({'; '.join(differences[:3])}); choose another --workdir"
            )
    elif workdir.exists() and any(path.name != "lock" for path in workdir.iterdir()):
        raise InputError(f"{workdir}: not empty and no run of ours; choose another --workdir")


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[int]:
    """While this holds, no other process trains in `workdir`; a killed one holds it no longer.

    Yields the lock's file descriptor: a process that inherits it holds the lock too.

    Raises:
      InputError: another process does.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{workdir}: another process is training in it; wait for it, or stop it"
            ) from error
        yield file.fileno()


def read_json(path: Path) -> Any:
    """Reads a JSON file of a run.

    Raises:
      InputError: it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there; is {path.parent} the folder of a run?") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno} is not JSON; was it edited?") from error


def _differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """`field: old value there, new value asked for` of every field that differs."""
    differences = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            differences.append(f"{prefix}{key}: {a!r} there, {b!r} asked for")
    return differences


def build_model(config: ConfigDict, encoder: TextEncoderConfig) -> PairExtractor:
    """The model of a config around a text encoder, or without it where the config freezes it."""
    dtype = config.text.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return PairExtractor(
        encoder=encoder if config.text.finetune else None,
        modalities=config.modalities,
        emotions=len(EMOTION_CLASSES[config.data.emotions]),
        width=config.model.width,
        heads=config.model.heads,
        fusion_layers=config.model.fusion_layers,
        scorer_layers=config.model.scorer_layers,
        pair_width=config.model.pair_width,
        dropout=config.model.dropout,
        dtype=jnp.dtype(dtype),
    )


def save_description(
    workdir: Path,
    config: ConfigDict,
    encoder: LoadedEncoder,
    tables: Mapping[str, FeatureTable],
) -> None:
    """Makes `workdir` this config's and writes what `load_trained` needs beside checkpoints."""
    write_json(workdir / "config.json", json.loads(config.to_json()))
    with file_errors(workdir / "tokenizer"):
        encoder.tokenizer.save_pretrained(workdir / "tokenizer")
    description: dict[str, Any] = {
        "encoder": dataclasses.asdict(encoder.config),
        "feature_tables": {
            name: {**table.description, "dimension": table.dimension}
            for name, table in tables.items()
        },
    }
    if not config.text.finetune:  # its parameters are in no checkpoint
        description["frozen_encoder"] = encoder_digest(encoder)
    write_json(workdir / "model.json", description)


def load_trained(workdir: Path) -> TrainedModel:
    """The model of a run at its best epoch.

    Raises:
      InputError: no run there, or none with a checkpoint yet.
    """
    config = ConfigDict(read_json(workdir / "config.json"))
    checkpoints = Checkpoints(workdir)
    last = checkpoints.last()
    if last is None:
        raise InputError(f"{workdir}: no checkpoint yet; train the run first")
    description = read_json(workdir / "model.json")
    model = build_model(config, TextEncoderConfig(**description["encoder"]))
    frozen_encoder = None
    if not config.text.finetune:
        frozen_encoder = load_text_encoder(config, ())
        if encoder_digest(frozen_encoder) != description["frozen_encoder"]:
            raise InputError(
                f"{config.text.pretrained}: not the encoder that {workdir} was trained with; "
                "put that one there"
            )
    epoch = checkpoints.progress(last)["best_epoch"]
    return TrainedModel(
        config=config,
        model=model,
        params=checkpoints.restore_state(epoch)["params"],
        tokenizer=load_tokenizer(workdir / "tokenizer"),
        frozen_encoder=frozen_encoder,
        feature_tables=description["feature_tables"],
        epoch=epoch,
    )
