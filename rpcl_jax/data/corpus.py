"""The splits and feature tables that a config names, whatever their format."""

from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from rpcl_jax.data import synthetic
from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.data.readers import ecf
from rpcl_jax.errors import InputError

SPLITS = ("train", "dev", "test")
FEATURES = {"a": "audio", "v": "vision"}


class Corpus(NamedTuple):
    """Dialogues by split and feature tables by modality."""

    splits: dict[str, list[Dialogue]]
    tables: dict[str, FeatureTable]


def load_corpus(config: ConfigDict) -> Corpus:
    """Reads what `config.data` names and `config.modalities` asks for.

    Raises:
      InputError: something is not there or not as it should be; the message says what to do.
    """
    wanted = [FEATURES[letter] for letter in "av" if letter in config.modalities]
    if config.data.name == "synthetic":
        splits, tables = synthetic.generate_corpus(
            config.data.seed, sizes=config.data.sizes.to_dict()
        )
        return Corpus(splits, {modality: tables[modality] for modality in wanted})
    if config.data.name != "ecf":
        raise InputError(
            f"config.data.name: {config.data.name!r} is unknown; known: ecf, synthetic"
        )
    splits = {split: ecf.read_split(Path(config.data.root), split) for split in SPLITS}
    tables = {modality: FeatureTable.load(Path(config.data[modality])) for modality in wanted}
    for table in tables.values():
        for split, dialogues in splits.items():
            table.check_covers(dialogues, split)
    return Corpus(splits, tables)
