"""Loads the splits and feature tables that a config names, in any format."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import EMOTIONAL, Dialogue
from rpcl_jax.data.features import MODALITIES, FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.readers import conversations, ecf, mec4, mecad
from rpcl_jax.readers.ecf_features import read_official

SPLITS = ("train", "dev", "test")
# Each reader maps a folder and the name of a split to the dialogues of the split.
READERS: Mapping[str, Callable[[Path, str], list[Dialogue]]] = {
    "ecf": ecf.read_split,
    "mecad": mecad.read_split,
    "mec4": mec4.read_split,
    "conversations": conversations.read_split,
}

SYNTHETIC = "synthetic"  # generated in memory
FORMATS = (*READERS, SYNTHETIC)


class Corpus(NamedTuple):
    """Dialogues by split and feature tables by modality."""

    splits: dict[str, list[Dialogue]]
    tables: dict[str, FeatureTable]


def load_corpus(config: ConfigDict) -> Corpus:
    """Loads the splits that `config.data` names and the tables that `config.modalities` requires.

    Raises:
      InputError: a file is missing or malformed, or a table lacks an utterance.
    """
    wanted = [MODALITIES[letter] for letter in "av" if letter in config.modalities]
    if config.data.format == SYNTHETIC:
        splits, generated = _generate(config)
        return Corpus(splits, {modality: generated[modality] for modality in wanted})
    splits = load_splits(config)
    tables = {modality: load_table(config.data[modality], modality) for modality in wanted}
    for modality, table in tables.items():
        if not table.row_of_id:
            raise InputError(f"{table.path}: no utterance has {modality}; train without it")
        for split, dialogues in splits.items():
            table.check_covers(dialogues, split)
    return Corpus(splits, tables)


def load_splits(config: ConfigDict, names: Sequence[str] = SPLITS) -> dict[str, list[Dialogue]]:
    """Loads the dialogues that `config.data` names, by split.

    Args:
      config: config of a run.
      names: the splits to load; the files of the others need not exist.

    Raises:
      InputError: a name is not a split, or a file is missing or malformed.
    """
    for name in names:
        if name not in SPLITS:
            raise InputError(f"{name!r} is not a split; the splits are {', '.join(SPLITS)}")
    if config.data.format == SYNTHETIC:
        generated = _generate(config)[0]
        return {name: generated[name] for name in names}
    read_split = READERS[config.data.format]
    splits = {split: read_split(Path(config.data.root), split) for split in names}
    for split, dialogues in splits.items():
        _check_emotions(dialogues, split, config)
    return splits


def load_table(path: str, modality: str) -> FeatureTable:
    """Loads the feature table at `path`: a folder, or one of ECF's official `.npy` files.

    Raises:
      InputError: the table is missing or malformed.
    """
    if not path:
        raise InputError(
            f"config.data.{modality}: no feature table is named; make one with "
            "tools/extract_features.py, or train on text alone with --config.modalities=t"
        )
    if path.endswith(".npy"):
        return read_official(Path(path), Path(path).with_name("video_id_mapping.npy"))
    return FeatureTable.load(Path(path))


def _generate(config: ConfigDict) -> tuple[dict[str, list[Dialogue]], dict[str, FeatureTable]]:
    return synthetic.generate_corpus(config.data.seed, sizes=config.data.sizes.to_dict())


def _check_emotions(dialogues: list[Dialogue], split: str, config: ConfigDict) -> None:
    if config.data.emotions == "categories":
        for dialogue in dialogues:
            if any(utterance.emotion == EMOTIONAL for utterance in dialogue.utterances):
                raise InputError(
                    f"{split}: conversation {dialogue.id} has an emotion without a category; train "
                    "with --config.data.emotions=binary"
                )
