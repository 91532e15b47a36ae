"""Feature tables: one row of audio or vision features per utterance.

A table is a folder with `features.npy` (float32 or float16 [rows, dimension]), `ids.txt` (the
utterance id of every row, one per line) and `table.json` (`{"extractor": …, "model": …,
"revision": …, "dimension": …}`). The optional `absent.txt` lists the utterances that lack the
modality, one `id<tab>reason` per line.
"""

import hashlib
import json
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.files import check_not_pointer, new_folder, read_json

# The modalities other than text, by their letter in `config.modalities`.
MODALITIES = {"a": "audio", "v": "vision"}
_GET_IT = (
    "make the table with `rpcl extract` and pass its folder as --config.data.audio or "
    "--config.data.vision, or train on text alone with --config.modalities=t"
)
_CHECKED_AT_ONCE = 1 << 24  # numbers; a large table is never in memory as a whole


class Features(NamedTuple):
    """Features of utterances: float32 `values` [..., dimension] and bool `present` [...].

    Values are 0 where the modality is absent.
    """

    values: Any  # a NumPy array on the host, a JAX array on the devices
    present: Any


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows of features by utterance id.

    Attributes:
      values: [rows, dimension], memory-mapped if loaded; float32 or float16 in our own tables.
      row_of_id: the row of each utterance id.
      description: the contents of `table.json`.
      path: the folder it was loaded from, for error messages.
      absent: the reason why an utterance has no row, by its id.
    """

    values: np.ndarray
    row_of_id: Mapping[str, int]
    description: Mapping[str, Any] = field(default_factory=dict)
    path: Path | str = "feature table"
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        """Returns the number of features in a row."""
        return self.values.shape[1]

    def rows(self, ids: Sequence[str]) -> Features:
        """Returns the features of `ids` in that order; `check_covers` tells if all are there."""
        present = np.array([i not in self.absent for i in ids], bool)
        values = np.zeros((len(ids), self.dimension), np.float32)
        rows = [self.row_of_id[i] for i in ids if i not in self.absent]
        values[present] = self.values[rows]
        return Features(values, present)

    def normalisation(self, dialogues: Iterable[Dialogue]) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and standard deviation of the rows of `dialogues`, float32 [dimension] each.

        Utterances without the modality are ignored. A deviation of only rounding error is replaced
        by 1, so that it can be divided by. If there are no rows, the result is 0 and 1.
        """
        ids = [utterance.id for dialogue in dialogues for utterance in dialogue.utterances]
        rows = np.array(sorted(self.row_of_id[i] for i in ids if i not in self.absent), int)
        if not len(rows):
            return np.zeros(self.dimension, np.float32), np.ones(self.dimension, np.float32)
        parts = _in_parts(rows, self.dimension)
        # Two passes: with the sum of squares alone, rounding would hide small deviations.
        mean = sum(self.values[part].sum(0, dtype=np.float64) for part in parts) / len(rows)
        squares = sum(((self.values[part] - mean) ** 2).sum(0) for part in parts)
        deviation = np.sqrt(squares / len(rows))
        # The smallest normal float32: subnormals may be flushed to zero.
        varies = deviation > np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
        return mean.astype(np.float32), np.where(varies, deviation, 1.0).astype(np.float32)

    def digest(self) -> str:
        """Returns a digest of the ids, the absent ids and all rows, which it reads."""
        ids = sorted(self.row_of_id)
        digest = hashlib.sha256(json.dumps([ids, sorted(self.absent)]).encode())
        for rows in _in_parts(np.array([self.row_of_id[i] for i in ids], int), self.dimension):
            digest.update(np.ascontiguousarray(self.values[rows]).data)
        return digest.hexdigest()

    def check_covers(self, dialogues: Iterable[Dialogue], split: str) -> None:
        """Raises InputError if an utterance of `split` has no row and is not listed as absent."""
        ids = [utterance.id for dialogue in dialogues for utterance in dialogue.utterances]
        missing = [i for i in ids if i not in self.row_of_id and i not in self.absent]
        if missing:
            raise InputError(
                f"{self.path}: no row for {len(missing)} of the {len(ids)} utterances of {split}, "
                f"the first being {missing[0]}; extract their features too"
            )

    def check_same_extractor(self, trained_with: Mapping[str, Any]) -> None:
        """Raises InputError if the table is from another extractor than the run's.

        `trained_with` is the description of the run's table in its `config.json`.
        """
        description = {**self.description, "dimension": self.dimension}
        check_same_extractor(description, trained_with, str(self.path))

    @classmethod
    def load(cls, folder: Path, check_values: bool = True) -> "FeatureTable":
        """Opens and checks the table in `folder`; the features stay on disk.

        To look for values that are not finite, it reads the whole table. Of several processes, one
        that does so is enough.
        """
        for name in ("features.npy", "ids.txt", "table.json"):
            if not (folder / name).is_file():
                raise InputError(f"{folder / name}: not found; {_GET_IT}")
        description = read_json(folder / "table.json", {"dimension": int})
        path, dimension = folder / "features.npy", description["dimension"]
        mend = "nothing is ever unpickled; write it with FeatureTable.save"
        values = map_array(path, ("float32", "float16"), mend)
        if values.shape[1] != dimension:
            raise InputError(
                f"{path}: has {values.shape[1]} features per row, but table.json says {dimension}; "
                "correct the one that is wrong"
            )
        row_of_id = _read_ids(folder / "ids.txt", len(values))
        if check_values:
            check_finite(values, row_of_id, path, "extract it again")
        absent = _read_absent(folder / "absent.txt", row_of_id)
        return cls(values, row_of_id, description, folder, absent)

    def save(self, folder: Path) -> None:
        """Writes the table atomically, as a new folder."""
        ids = sorted(self.row_of_id, key=self.row_of_id.__getitem__)
        rows = np.array([self.row_of_id[i] for i in ids], int)
        # In ECF's official tables, some rows have no id, and the dtype may be float64.
        values = self.values
        if not np.array_equal(rows, np.arange(len(values))):
            values = values[rows]
        if values.dtype != np.float16:
            values = values.astype(np.float32, copy=False)
        with new_folder(folder) as new:
            np.save(new / "features.npy", values, allow_pickle=False)
            (new / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
            if self.absent:
                lines = [f"{i}\t{' '.join(reason.split())}\n" for i, reason in self.absent.items()]
                (new / "absent.txt").write_text("".join(lines), encoding="utf-8")
            description = {**self.description, "dimension": self.dimension}
            (new / "table.json").write_text(json.dumps(description), encoding="utf-8")


def absent_table(description: Mapping[str, Any], dialogues: Iterable[Dialogue]) -> FeatureTable:
    """Returns the table of dialogues that lack a modality."""
    absent = {utterance.id: "" for dialogue in dialogues for utterance in dialogue.utterances}
    values = np.zeros((0, description["dimension"]), np.float32)
    return FeatureTable(values, {}, description, absent=absent)


def check_same_extractor(
    description: Mapping[str, Any], trained_with: Mapping[str, Any], where: str
) -> None:
    """Raises InputError if two descriptions are of different extractors."""
    # "model" is not compared: its path may differ between machines; the revision identifies it.
    for name in ("dimension", "extractor", "revision"):
        if description.get(name) != trained_with.get(name):
            raise InputError(
                f"{where}: its {name} is {description.get(name)!r}, but the run was trained with "
                f"{trained_with.get(name)!r}; extract the features as for training"
            )


def map_array(path: Path, types: Sequence[str], mend: str) -> np.ndarray:
    """Memory-maps the array [rows, dimension] in a `.npy` file; error messages end with `mend`."""
    check_not_pointer(path)
    try:
        # Reads plain numeric arrays only, neither archives nor pickles, which could execute code.
        values = np.lib.format.open_memmap(path, mode="r")
    # The last four come from NumPy's parser when a header is damaged.
    except (
        *(ValueError, OSError),
        *(SyntaxError, tokenize.TokenError, TypeError, OverflowError),
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be read as a NumPy array of numbers ({reason}); {mend}"
        ) from error
    if values.ndim != 2 or not values.shape[1] or values.dtype not in map(np.dtype, types):
        raise InputError(
            f"{path}: is {values.dtype} {list(values.shape)}; it must be {' or '.join(types)} "
            "[rows, dimension]"
        )
    return values


def check_finite(values: np.ndarray, row_of_id: Mapping[str, int], path: Path, mend: str) -> None:
    """Raises InputError if a row that has an id contains a value that is not finite in float32."""
    id_of_row = {row: utterance_id for utterance_id, row in row_of_id.items()}
    for rows in _in_parts(np.array(sorted(id_of_row), int), values.shape[1]):
        with np.errstate(over="ignore"):
            finite = np.isfinite(values[rows].astype(np.float32, copy=False)).all(axis=1)
        if not finite.all():
            row = int(rows[np.argmin(finite)])
            raise InputError(
                f"{path}: row {row} ({id_of_row[row][:40]!r}) contains NaN, infinity, or a number "
                f"too large for float32; {mend}"
            )


def _in_parts(rows: np.ndarray, dimension: int) -> list[np.ndarray]:
    step = max(1, _CHECKED_AT_ONCE // dimension)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _read_ids(path: Path, rows: int) -> dict[str, int]:
    ids = _read_lines(path)
    if len(ids) != rows:
        raise InputError(
            f"{path}: has {len(ids)} ids, but features.npy has {rows} rows; write one id per row"
        )
    row_of_id: dict[str, int] = {}
    for row, utterance_id in enumerate(ids):
        if utterance_id in row_of_id:
            raise InputError(
                f"{path}:{row + 1}: {utterance_id!r} is also on line "
                f"{row_of_id[utterance_id] + 1}; remove one of them and its row"
            )
        row_of_id[utterance_id] = row
    return row_of_id


def _read_lines(path: Path) -> list[str]:
    """Returns the lines of a file, split at line feeds only, unlike `splitlines`."""
    check_not_pointer(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from error
    return text.removesuffix("\n").split("\n") if text else []


def _read_absent(path: Path, row_of_id: Mapping[str, int]) -> dict[str, str]:
    if not path.exists():
        return {}
    absent = dict(line.partition("\t")[::2] for line in _read_lines(path))
    for utterance_id in absent.keys() & row_of_id:
        raise InputError(f"{path}: {utterance_id!r} also has a row; remove one of the two")
    return absent
