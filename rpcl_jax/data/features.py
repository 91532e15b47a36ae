"""Feature tables: what an audio or vision model said of every utterance, one row each.

A table is a folder with `features.npy` (float32 or float16 [rows, dimension]), `ids.txt` (the
utterance id of every row, one per line) and `table.json` (`{"extractor": …, "model": …,
"revision": …, "dimension": …}`; only the dimension is read back, the rest says where it is from).
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError

_GET_IT = (
    "write the table with rpcl_jax.data.features.FeatureTable.save, name its folder by "
    "--config.data.audio or --config.data.vision, or go without: --config.modalities=t"
)
_CHECKED_AT_ONCE = 1 << 24  # numbers, so that a large table is never whole in memory


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows of features by utterance id.

    Attributes:
      values: float32 or float16 [rows, dimension], mapped from disk if loaded.
      row_of_id: row of an utterance id.
      description: the contents of `table.json`.
      path: the folder it is from; what error messages call the table.
    """

    values: np.ndarray
    row_of_id: Mapping[str, int]
    description: Mapping[str, Any] = field(default_factory=dict)
    path: Path | str = "feature table"

    @property
    def dimension(self) -> int:
        """Numbers in a row."""
        return self.values.shape[1]

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """The rows of `ids` in that order, float32 [len(ids), dimension].

        Raises:
          KeyError: one is not in the table; `check_covers` is there to find out before.
        """
        return np.asarray(self.values[[self.row_of_id[i] for i in ids]], np.float32)

    def check_covers(self, dialogues: Iterable[Dialogue], split: str) -> None:
        """Raises InputError unless every utterance of `dialogues`, called `split`, has a row."""
        ids = [utterance.id for dialogue in dialogues for utterance in dialogue.utterances]
        missing = [i for i in ids if i not in self.row_of_id]
        if missing:
            raise InputError(
                f"{self.path}: no row for {len(missing)} of the {len(ids)} utterances of {split}, "
                f"the first being {missing[0]}; extract their features too"
            )

    @classmethod
    def load(cls, folder: Path) -> "FeatureTable":
        """Opens and checks the table in `folder`; the numbers stay on disk.

        Raises:
          InputError: a file of it is missing or not what it should be, the files do not fit each
            other, an id is there twice, or a number is NaN or infinite.
        """
        for name in ("features.npy", "ids.txt", "table.json"):
            if not (folder / name).is_file():
                raise InputError(f"{folder / name}: not there; {_GET_IT}")
        description = _read_description(folder / "table.json")
        values = _map_values(folder / "features.npy", description["dimension"])
        row_of_id = _read_ids(folder / "ids.txt", len(values))
        _check_finite(values, list(row_of_id), folder / "features.npy")
        return cls(values, row_of_id, description, folder)

    def save(self, folder: Path) -> None:
        """Writes the table as a new folder, whole or not at all.

        Raises:
          InputError: something is there already.
        """
        if folder.exists():
            raise InputError(f"{folder}: is there already; remove it or write somewhere else")
        ids = sorted(self.row_of_id, key=self.row_of_id.__getitem__)
        description = {**self.description, "dimension": self.dimension}
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
        unfinished.mkdir(parents=True)
        try:
            np.save(unfinished / "features.npy", self.values, allow_pickle=False)
            (unfinished / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
            (unfinished / "table.json").write_text(json.dumps(description), encoding="utf-8")
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished)
            raise


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); write the table again") from error
    dimension = description.get("dimension") if isinstance(description, dict) else None
    if not isinstance(dimension, int) or dimension < 1:
        raise InputError(f'{path}: must hold {{"dimension": numbers in a row, …}}; add it')
    return description


def _map_values(path: Path, dimension: int) -> np.ndarray:
    try:
        # Reads arrays of plain numbers only: neither archives nor pickles, which could run code.
        values = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be read as a NumPy array of numbers ({reason}); nothing is ever "
            "unpickled, write it with FeatureTable.save"
        ) from error
    if values.ndim != 2 or values.dtype not in (np.float32, np.float16):
        raise InputError(
            f"{path}: is {values.dtype} {list(values.shape)}; it must be float32 or float16 "
            "[rows, dimension]"
        )
    if values.shape[1] != dimension:
        raise InputError(
            f"{path}: has {values.shape[1]} numbers in a row, table.json says {dimension}; "
            "correct the one that is wrong"
        )
    return values


def _read_ids(path: Path, rows: int) -> dict[str, int]:
    try:
        ids = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from error
    if len(ids) != rows:
        raise InputError(
            f"{path}: has {len(ids)} ids, features.npy {rows} rows; there must be one id per row"
        )
    row_of_id: dict[str, int] = {}
    for row, utterance_id in enumerate(ids):
        if utterance_id in row_of_id:
            raise InputError(
                f"{path}:{row + 1}: {utterance_id!r} is on line {row_of_id[utterance_id] + 1} too; "
                "remove one, with its row"
            )
        row_of_id[utterance_id] = row
    return row_of_id


def _check_finite(values: np.ndarray, ids: Sequence[str], path: Path) -> None:
    step = max(1, _CHECKED_AT_ONCE // values.shape[1])
    for start in range(0, len(values), step):
        bad = ~np.isfinite(values[start : start + step]).all(axis=1)
        if bad.any():
            row = start + int(np.argmax(bad))
            raise InputError(
                f"{path}: row {row} ({ids[row]}) holds NaN or infinity; extract it again"
            )
