"""The splits and feature tables that a config names, whatever their format."""

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
# Each reads a split: folder, name of the split -> dialogues.
READERS: Mapping[str, Callable[[Path, str], list[Dialogue]]] = {
    "ecf": ecf.read_split,
    "mecad": mecad.read_split,
    "mec4": mec4.read_split,
    "conversations": conversations.read_split,
}


SYNTHETIC = "synthetic"  # generated, not read
FORMATS = (*READERS, SYNTHETIC)


class Corpus(NamedTuple):
    """Dialogues by split and feature tables by modality."""

    splits: dict[str, list[Dialogue]]
    tables: dict[str, FeatureTable]


def load_corpus(config: ConfigDict) -> Corpus:
    """Reads what `config.data` names and `config.modalities` asks for.

    Raises:
      InputError: something is not there or not as it should be; the message says what to do.
    """
    wanted = [MODALITIES[letter] for letter in "av" if letter in config.modalities]
    if config.data.format == SYNTHETIC:
        splits, generated = _generate(config)
        return Corpus(splits, {modality: generated[modality] for modality in wanted})
    splits = load_splits(config)
    tables = {modality: load_table(config.data[modality], modality) for modality in wanted}
    for modality, table in tables.items():
        if not table.row_of_id:
            raise InputError(f"{table.path}: no utterance has {modality}; go without it")
        for split, dialogues in splits.items():
            table.check_covers(dialogues, split)
    return Corpus(splits, tables)


def load_splits(config: ConfigDict, names: Sequence[str] = SPLITS) -> dict[str, list[Dialogue]]:
    """The dialogues of `config.data` alone, by split.

    Args:
      config: of a run.
      names: which splits; the others need not be there.

    Raises:
      InputError: a file is not there or not as it should be.
    """
    for name in names:
        if name not in SPLITS:
            raise InputError(f"{name!r} is no split; the splits are {', '.join(SPLITS)}")
    if config.data.format == SYNTHETIC:
        generated = _generate(config)[0]
        return {name: generated[name] for name in names}
    read_split = READERS[config.data.format]
    splits = {split: read_split(Path(config.data.root), split) for split in names}
    for split, dialogues in splits.items():
        _check_emotions(dialogues, split, config)
    return splits


def load_table(path: str, modality: str) -> FeatureTable:
    """The feature table at `path`: a folder of ours, or a `.npy` file as ECF's authors give it.

    Raises:
      InputError: there is none, or it is not as it should be.
    """
    if not path:
        raise InputError(
            f"config.data.{modality}: names no feature table; tools/extract_features.py makes one "
            "of clips, or go without: --config.modalities=t"
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
                    f"{split}: conversation {dialogue.id} says that there is an emotion, but not "
                    "which; train with --config.data.emotions=binary"
                )
