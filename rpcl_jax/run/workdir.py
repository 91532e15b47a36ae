"""The folder of a run: whose it is, that one process trains in it, and its splits.

config.json, model.safetensors, tokenizer.json, …    its best epoch; see `rpcl_jax.run.model_folder`
checkpoints/         the last checkpoint, from which training continues
metrics.jsonl        the log; TensorBoard's events are beside it
predictions/         {dev,test}.json the pairs, {dev,test}.npz every confidence
result.json          present once the run is finished
lock                 held by the process that trains here
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.data.dialogue import is_of
from rpcl_jax.errors import InputError
from rpcl_jax.files import locked, read_json
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.corpus import SYNTHETIC, Corpus, load_corpus, sources
from rpcl_jax.run import text_encoder
from rpcl_jax.run.base_config import flatten
from rpcl_jax.run.config import parse_config, to_json
from rpcl_jax.run.hosts import agree
from rpcl_jax.run.model_folder import LAYOUT, LIBRARY, TrainedRun, read_description, save_model
from rpcl_jax.run.text_encoder import LoadedEncoder, corpus_batches, describe_data
from rpcl_jax.training.mesh import is_main_process

_LOG = logging.getLogger(__name__)


def run_name(config: ConfigDict) -> str:
    """`<objective>-<modalities>[-<backbone>]-seed<seed>`; the default backbone is left out."""
    backbone = config.model.backbone
    parts = [config.objective, config.modalities, "" if backbone == "transformer" else backbone]
    return "-".join([*filter(None, parts), f"seed{config.seed}"])


def check_owner(workdir: Path, config: ConfigDict) -> None:
    """Raises InputError where `workdir` belongs to another config or holds something else."""
    path = workdir / "config.json"
    if path.exists():
        old, new = flatten(to_json(read_run_config(workdir))), flatten(to_json(config))
        differences = [
            f"{field}: {old[field]!r} there, {new[field]!r} asked for"
            for field in sorted(new.keys() - {"devices", "checkpoint_minutes"})  # may change
            if old[field] != new[field]
        ]
        if differences:
            raise InputError(
                f"{path}: this folder belongs to a run with another config "
                f"({'; '.join(differences[:3])}); choose another --workdir"
            )
    elif workdir.exists() and any(
        there.name not in ("lock", "checkpoints") and there.suffix != ".tmp"  # of a killed process
        for there in workdir.iterdir()
    ):
        raise InputError(
            f"{workdir}: not empty, and not the folder of a run; choose another --workdir"
        )


def locked_run(workdir: Path) -> AbstractContextManager[int]:
    """Holds the lock of a run's or a grid's folder; see `rpcl_jax.files.locked`."""
    return locked(
        workdir / "lock", f"{workdir}: another process is training in it; wait for it, or stop it"
    )


def read_run_config(folder: Path) -> ConfigDict:
    """Returns the config of a run; raises InputError for any other folder, even an exported one."""
    return parse_config(_read_run(folder)["run"], folder / "config.json")


def _read_run(folder: Path) -> dict[str, Any]:
    described = read_description(folder)
    if "folder" not in described:
        raise InputError(
            f"{folder / 'config.json'}: of a model that `rpcl export` wrote, which predicts "
            "(--mode=predict) and has no data; give the folder of a run"
        )
    return described


def read_result(workdir: Path, config: ConfigDict) -> dict[str, Any]:
    """Returns the `result.json` of a finished run; raises InputError if it is of another run."""
    result = read_json(workdir / "result.json")
    for field in ("objective", "modalities", "seed"):
        if result[field] != config[field]:
            raise InputError(
                f"{workdir / 'result.json'}: of a run with {field} {result[field]}, and the "
                f"folder's has {config[field]}; restore it, or delete the folder to train anew"
            )
    return result


def begin_run(
    workdir: Path, config: ConfigDict, encoder: LoadedEncoder, corpus: Corpus, begun: bool
) -> None:
    """Makes `workdir` this config's: writes everything of a model folder but the parameters.

    If the run has `begun`, with a checkpoint, raises InputError if its features, emotions or
    encoder were others.
    """
    described: dict[str, Any] = {
        "library_name": LIBRARY,
        "architectures": [PairExtractor.__name__],
        "layout": LAYOUT,
        "emotions": list(corpus.emotions),
        "feature_tables": {
            name: {**table.description, "dimension": table.dimension}
            for name, table in corpus.tables.items()
        },
        "encoder": dataclasses.asdict(encoder.config),
        "encoder_elsewhere": text_encoder.encoder_elsewhere(encoder, config),
        "word_pieces": encoder.word_pieces._asdict(),
        "data": data_digests(corpus, is_main_process()),
        "folder": str(Path.cwd()),  # from which relative paths in the config start
        "run": to_json(config),
    }
    if begun:
        _check_unchanged(workdir, described, corpus)
    if not is_main_process():
        return
    save_model(workdir, described, encoder.tokenizer)


def _check_unchanged(workdir: Path, described: dict[str, Any], corpus: Corpus) -> None:
    before = read_description(workdir)
    for name, table in corpus.tables.items():
        table.check_same_extractor(before["feature_tables"][name])
    check_data(workdir, described["data"])
    digests = [(d["encoder_elsewhere"] or {}).get("digest") for d in (before, described)]
    for same, what in (
        (digests[0] == digests[1], "the parameters of its text encoder"),
        (before["emotions"] == described["emotions"], "the emotions of its training split"),
        (
            before["encoder"] == described["encoder"],
            "the sizes of its text encoder or the words of its training split",
        ),
    ):
        if not same:
            raise InputError(
                f"{workdir}: {what} have changed since it was begun; restore them or choose "
                "another --workdir"
            )


def data_digests(corpus: Corpus, of_tables: bool = True) -> dict[str, str]:
    """Returns a digest of every split, with its labels, and of every feature table, by name.

    Of several corpora, every one has splits of its own, such as "test of reccon". Tables are read
    whole for it. Of several processes, only the first needs their digests.
    """
    parts = dict(corpus.splits)
    if corpus.names:
        parts = {
            f"{split} of {name}": [d for d in dialogues if is_of(d, name)]
            for split, dialogues in corpus.splits.items()
            for name in corpus.names
        }
    digests = {
        part: hashlib.sha256(json.dumps([*map(dialogue_object, dialogues)]).encode()).hexdigest()
        for part, dialogues in parts.items()
    }
    tables = corpus.tables if of_tables else {}
    return digests | {name: table.digest() for name, table in tables.items()}


def changed_data(workdir: Path, now: Mapping[str, str]) -> list[str]:
    """Returns the names of the splits and tables that differ from those a run was trained with."""
    before = read_description(workdir).get("data", {})
    return [name for name in now if before.get(name, now[name]) != now[name]]


def check_data(workdir: Path, now: Mapping[str, str]) -> None:
    """Raises InputError unless a run was trained with the data of these `data_digests`."""
    if changed := changed_data(workdir, now):
        raise InputError(
            f"{workdir}: its data have changed since it was begun ({', '.join(changed)}); restore "
            "them, or choose another folder for a run with the data of now"
        )


def check_but_train(workdir: Path, now: Mapping[str, str]) -> None:
    """`check_data` for an evaluation, which changes of the training split leave as it was."""
    others = {part: digest for part, digest in now.items() if part.split()[0] != "train"}
    check_data(workdir, others)
    if changed_data(workdir, now):
        _LOG.warning(f"{workdir}: its training split has changed since it was begun")


def with_data(workdir: Path, config: ConfigDict) -> ConfigDict:
    """Returns a run's config with paths that lead to its data from the current folder too."""
    start = Path(_read_run(workdir)["folder"])
    found = config.copy_and_resolve_references()
    for field in ("root", "audio", "vision"):
        paths = config.data[field].split(",") if field == "root" else [config.data[field]]
        found.data[field] = ",".join(
            str(start / path)
            if path and not Path(path).expanduser().exists() and (start / path).exists()
            else path
            for path in paths
        )
    for source in sources(found) if config.data.format != SYNTHETIC else ():
        if not source.root.exists():
            raise InputError(
                f"{workdir}: its conversations are not found in {source.root}; put them back "
                "there, or start the command in the folder where the run was trained"
            )
    return found


def read_splits(run: TrainedRun, without: Iterable[str] = ()) -> dict[str, Batches]:
    """Returns the batches of a run's own splits; its folder is not an exported one.

    The modalities in `without`, "audio" or "vision", are taken away from every utterance. Raises
    InputError if its data are no longer there, or not the same.
    """
    config = with_data(run.folder, run.config)
    corpus = load_corpus(config, run.emotions, is_main_process())
    check_but_train(run.folder, data_digests(corpus, is_main_process()))
    agree("the data", lambda: describe_data(corpus, run.encoder, config))
    dialogues = [dialogue for split in corpus.splits.values() for dialogue in split]
    given = {name: table for name, table in corpus.tables.items() if name not in without}
    corpus = corpus._replace(tables=run.complete(given, dialogues))
    return corpus_batches(run.encoder, corpus, run.config, run.mesh)
