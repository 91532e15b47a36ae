"""A trained run as one folder that can be given to others, in the layout of the Hugging Face hub.

config.json          threshold, emotions, features, sizes, and the run's config
model.safetensors    every parameter, with adapters merged into the text encoder; or, without the
                     encoder, those that were trained
tokenizer.json, …    the text encoder's tokenizer
README.md            the model card

Nothing in it says where files lie on the machine of the run.
"""

import dataclasses
import shutil
import uuid
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rpcl_jax.batching.stream import stream_batches
from rpcl_jax.data.dialogue import NEUTRAL, Dialogue, Utterance
from rpcl_jax.data.features import MODALITIES, absent_table
from rpcl_jax.errors import InputError
from rpcl_jax.files import (
    MODEL_FIELDS,
    check_not_pointer,
    errors_name,
    make_folder,
    read_json,
    write_json,
    write_text,
    written_whole,
)
from rpcl_jax.models.adapters import combine, merge_adapters, separate_adapters
from rpcl_jax.models.pretrained import (
    WEIGHTS,
    hub_name,
    load_pretrained,
    load_tokenizer,
    resolve_pretrained,
)
from rpcl_jax.models.text_encoder import ENCODER, TextEncoderConfig
from rpcl_jax.run.base_config import base_config
from rpcl_jax.run.config import build_model, parse_config, read_config, to_json, trains_encoder
from rpcl_jax.run.hosts import agree
from rpcl_jax.run.text_vectors import LoadedEncoder, check_positions, encoder_digest
from rpcl_jax.run.workdir import TrainedRun
from rpcl_jax.training.mesh import fetch, make_mesh, own_places, replicate

_LAYOUT = 1  # increment it when older versions of this package cannot read the folder
_FIELDS = MODEL_FIELDS | {
    **{"layout": int, "threshold": Real, "emotions": list},
    **{"run": dict, "run.objective": str, "run.data": dict, "run.rpcl": dict},
}
_AGAIN = "get it again, or export the run again (`rpcl export`)"


def export_run(workdir: Path, out: Path, card: str, with_encoder: bool = True) -> None:
    """Writes a finished run as a folder that `load_exported` reads.

    Args:
      workdir: the run's folder.
      out: the new folder.
      card: text of the model card.
      with_encoder: False leaves out the parameters of the text encoder that were not trained, and
        names the encoder instead.

    Raises:
      InputError: there is no finished run, `out` exists, or the encoder cannot be left out because
        it was trained.
    """
    if out.exists():
        raise InputError(f"{out}: already exists; remove it or write elsewhere")
    run = TrainedRun.from_workdir(workdir, devices=1)
    params, sizes, named = dict(run.params_with_encoder), run.encoder.config, None
    if with_encoder:
        if sizes.lora_rank:
            params[ENCODER] = merge_adapters(params[ENCODER])
            sizes = dataclasses.replace(sizes, lora_rank=0)
    elif trains_encoder(run.config):
        raise InputError(
            f"{workdir}: its text encoder was trained, so that it cannot be left out; export it "
            "with the encoder"
        )
    else:
        digest = read_json(workdir / "model.json")["frozen_encoder"]
        named = {"name": public_name(run.config.text.pretrained), "digest": digest}
        params[ENCODER], _ = separate_adapters(params[ENCODER])
    described = {
        "library_name": "rpcl_jax",
        "architectures": [type(run.model).__name__],
        "layout": _LAYOUT,
        "threshold": read_json(workdir / "result.json")["threshold"],
        "emotions": run.emotions,
        "feature_tables": {
            modality: {
                key: public_name(str(table[key])) if key == "model" else table[key]
                for key in ("extractor", "model", "revision", "dimension")
                if key in table
            }
            for modality, table in run.feature_tables.items()
        },
        "encoder": dataclasses.asdict(sizes),
        "encoder_elsewhere": named,
        "run": to_json(_without_paths(run.config)),
    }
    tensors = _by_name(fetch(params))
    make_folder(out.parent)
    unfinished = out.with_name(f".{out.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with errors_name(out, unfinished):
            shutil.copytree(workdir / "tokenizer", unfinished)
            write_json(unfinished / "config.json", described)
            with written_whole(unfinished / WEIGHTS) as file:
                file.write(save(tensors, metadata={"format": "flax"}))
            write_text(unfinished / "README.md", card)
            unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def is_exported(folder: Path) -> bool:
    """Returns whether this is an exported run and not the folder of a run."""
    return (folder / WEIGHTS).is_file()


def described_features(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the descriptions of the features that a run reads, by modality.

    Args:
      folder: of the run, or exported.

    Raises:
      InputError: it is neither.
    """
    if is_exported(folder):
        return read_json(folder / "config.json", MODEL_FIELDS)["feature_tables"]
    return read_json(folder / "model.json")["feature_tables"]


def described_config(folder: Path) -> ConfigDict:
    """Returns the config of a run.

    Args:
      folder: of the run, or exported.

    Raises:
      InputError: it is neither.
    """
    path = folder / "config.json"
    if is_exported(folder):
        return parse_config(read_json(path, _FIELDS)["run"], path)
    return read_config(path)


def resolve_exported(name: str | Path, revision: str | None = None) -> Path:
    """Returns the folder of an exported run, downloaded if it is named on the Hugging Face hub.

    Args:
      name: of a folder, or of a model on the hub.
      revision: branch, tag or commit on the hub; None is its main branch.

    Raises:
      InputError: there is no such model, or the folder is not an exported run.
    """
    folder = resolve_pretrained(name, revision)
    if is_exported(folder):
        return folder
    if (folder / "model.json").is_file():
        raise InputError(
            f"{folder}: the folder of a run, which is not exported; give it as --workdir (in "
            "Python, Predictor.from_workdir), or export it with `rpcl export`"
        )
    raise InputError(f"{folder / WEIGHTS}: not found; {_AGAIN}")


def load_exported(folder: Path, devices: int | None = None) -> tuple[TrainedRun, float]:
    """Loads a folder that `export_run` wrote onto a number of devices, or all.

    Returns:
      The run, without its data, and the threshold.

    Raises:
      InputError: a file is missing or damaged, the parameters are not those of the model that
        `config.json` describes, or the encoder elsewhere is another one.
    """
    path = folder / "config.json"
    described = read_json(path, _FIELDS)
    agree("the model", lambda: described)
    if described["layout"] > _LAYOUT:
        raise InputError(f"{path}: written by a newer version of rpcl_jax; update it")
    if not 0 <= described["threshold"] <= 1:  # nor NaN
        raise InputError(f"{path}: threshold is {described['threshold']}; {_AGAIN}")
    config = parse_config(described["run"], path)
    features, emotions = described["feature_tables"], tuple(described["emotions"])
    reads = [MODALITIES[letter] for letter in "av" if letter in config.modalities]
    named = [e for e in emotions if isinstance(e, str)]
    distinct = len(set(named)) == len(emotions) > 1 and emotions[0] == NEUTRAL
    if not distinct or sorted(features) != reads:
        raise InputError(f"{path}: its emotions or its features are not those of a run; {_AGAIN}")
    try:
        sizes = TextEncoderConfig(**described["encoder"])
        tokenizer = load_tokenizer(folder, sizes.vocab_size)
        encoder = LoadedEncoder(sizes, None, tokenizer)
        check_positions(sizes, config, str(path))
        mesh = make_mesh(devices)
        shapes = _shapes(config, emotions, features, encoder, mesh)
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: describes no model ({reason}); {_AGAIN}") from error
    elsewhere = _load_elsewhere(described, encoder, path)
    there = _by_name(elsewhere)
    shapes = {name: shape for name, shape in shapes.items() if name not in there}
    params = combine(unflatten_dict(_read(folder / WEIGHTS, shapes), sep="."), elsewhere)
    if not config.text.finetune:
        encoder = encoder._replace(params=params.pop(ENCODER))
    run = TrainedRun(config, emotions, features, encoder, replicate(params, mesh), mesh)
    return run, float(described["threshold"])


def _load_elsewhere(
    described: Mapping[str, Any], encoder: LoadedEncoder, path: Path
) -> dict[str, Any]:
    """Returns the parameters of the encoder that an exported run names; {} if it names none."""
    named = described.get("encoder_elsewhere")
    if not named:
        return {}
    if not isinstance(named, dict) or {type(named.get(k)) for k in ("name", "digest")} != {str}:
        raise InputError(f"{path}: encoder_elsewhere is not a name and a digest; {_AGAIN}")
    correct = f"give the folder or hub name of its text encoder at encoder_elsewhere.name in {path}"
    try:
        sizes, params, _ = load_pretrained(named["name"])
    except InputError as error:
        raise InputError(f"{error}; {correct}") from error
    if encoder_digest(LoadedEncoder(sizes, params, encoder.tokenizer)) != named["digest"]:
        raise InputError(
            f"{named['name']}: not the text encoder that {path.parent} was trained with; {correct}"
        )
    return {ENCODER: params}


def public_name(name: str) -> str:
    """Returns a model's name on the hub, or the last part of the name of a folder.

    >>> public_name("FacebookAI/roberta-base"), public_name("../models/mine/roberta")
    ('FacebookAI/roberta-base', 'roberta')
    """
    return hub_name(name) or Path(name).name


def _without_paths(config: ConfigDict) -> ConfigDict:
    config, default = config.copy_and_resolve_references(), base_config()
    for field in ("root", "audio", "vision"):
        config.data[field] = default.data[field]
    config.text.cache = default.text.cache
    config.text.pretrained = public_name(config.text.pretrained)
    return config


def _by_name(tree: Mapping[str, Any]) -> dict[str, Any]:
    return flatten_dict(dict(tree), sep=".")


def _shapes(
    config: ConfigDict,
    emotions: tuple[str, ...],
    features: Mapping[str, Mapping[str, Any]],
    encoder: LoadedEncoder,
    mesh: Mesh,
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter by name, from an invented dialogue of one word."""
    dialogue = Dialogue("", (Utterance("", "a", "a"),))
    tables = {m: absent_table(description, [dialogue]) for m, description in features.items()}
    ((_, batch),) = stream_batches(
        [dialogue], encoder.tokenizer, tables, config, mesh.size, emotions, own_places(mesh)
    )
    model = build_model(config, encoder.config, emotions)
    tree = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    return {name: leaf.shape for name, leaf in _by_name(tree).items()}


def _read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads the parameters, which must have exactly these names and shapes."""
    check_not_pointer(path)
    try:
        with safe_open(path, framework="numpy") as opened:
            names = opened.keys()  # `opened` itself cannot be iterated
            tensors = {name: opened.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found; {_AGAIN}") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: unreadable ({error}); {_AGAIN}") from error
    problems = [f"{name} is missing" for name in shapes if name not in tensors]
    for name, tensor in tensors.items():
        if name not in shapes:
            problems.append(f"{name} is left over")
        elif (tensor.shape, tensor.dtype) != (shapes[name], np.float32):
            problems.append(
                f"{name} is {tensor.dtype} {list(tensor.shape)} instead of float32 "
                f"{list(shapes[name])}"
            )
        elif not np.isfinite(tensor).all():
            problems.append(f"{name} contains NaN or infinity")
    if problems:
        more = f"; and {len(problems) - 5} more like these" if len(problems) > 5 else ""
        raise InputError(
            f"{path}: does not fit config.json: {'; '.join(problems[:5])}{more}; {_AGAIN}"
        )
    return tensors
