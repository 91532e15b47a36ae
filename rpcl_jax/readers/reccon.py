"""RECCON (English, text alone), the part from DailyDialog; GitHub declare-lab/RECCON."""

from pathlib import Path

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.readers.benchmark_files import find_split
from rpcl_jax.readers.mecad import read_evidence

_FILES = {
    "train": ["dailydialog_train.json"],
    "dev": ["dailydialog_valid.json"],
    "test": ["dailydialog_test.json"],
}
_ADVICE = (
    "download RECCON (https://github.com/declare-lab/RECCON, data/original_annotation) and pass "
    "its folder as --config.data.root"
)


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads a split of RECCON; `read_evidence` describes the files.

    Args:
      root: folder with `dailydialog_train.json`, `dailydialog_valid.json` and
        `dailydialog_test.json`.
    """
    return read_evidence(find_split(root, _FILES, split, _ADVICE))
