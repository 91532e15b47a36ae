"""ECF's official feature tables (GitHub NUSTM/MECPE), whose map of rows is a pickle.

A pickle is a program that can call functions, so this one is never executed. (An allow-list of
NumPy's names would not do: `dtype.__setstate__` can make pointers out of bytes.) Strings and
numbers are read from the list of its instructions, and the file is refused unless pickle writes
exactly these instructions for a dict of them.
"""

import pickle
import pickletools
import re
from collections.abc import Iterator
from itertools import dropwhile, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from rpcl_jax.data.features import FeatureTable, check_finite, map_array
from rpcl_jax.errors import InputError
from rpcl_jax.files import check_not_pointer

_GET_IT = "download the file again from https://github.com/NUSTM/MECPE"
_MOST_BYTES = 1 << 20  # limit for the map; the official one has a third of this
# The header that np.save writes for an array of one object.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': (False|True), 'shape': \(\), \} *\n",
    re.DOTALL,
)
_VALUES = {"BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"}


def read_official(array_path: Path, mapping_path: Path, check_values: bool = True) -> FeatureTable:
    """Opens one of ECF's two official tables; the features stay on disk.

    Args:
      array_path: `audio_embedding_6373.npy` or `video_embedding_4096.npy`, [rows, dimension] of
        float16, float32 or float64.
      mapping_path: `video_id_mapping.npy`, the row of every `dia<D>utt<U>`.

    Returns:
      The table; `values` keeps the dtype of the file. Rows that the map does not name (row 0 in
      the official tables) are kept and have no id.

    Raises:
      InputError: a file is missing or malformed, the map names a row that does not exist, or a row
        that has an id contains a number that is NaN, infinite or too large for float32.
    """
    row_of_id = read_mapping(mapping_path)
    values = map_array(array_path, ("float16", "float32", "float64"), _GET_IT)
    for utterance_id, row in row_of_id.items():
        if not 0 <= row < len(values):
            raise InputError(
                f"{mapping_path}: {utterance_id[:40]!r} has row {row}, but {array_path} has "
                f"{len(values)} rows; the files do not match, {_GET_IT}"
            )
    if check_values:
        check_finite(values, row_of_id, array_path, _GET_IT)
    description = {
        "extractor": "official features of ECF",
        "model": array_path.name,
        "revision": "https://github.com/NUSTM/MECPE",
        "dimension": values.shape[1],
    }
    return FeatureTable(values, row_of_id, description, array_path)


def read_mapping(path: Path) -> dict[str, int]:
    """Reads `video_id_mapping.npy`, a pickled dict, without executing the pickle.

    Raises:
      InputError: the file is missing, or is not an array of one dict from strings to integers as
        `np.save` writes it.
    """
    check_not_pointer(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path}: has more than {_MOST_BYTES} bytes; {_GET_IT}")
    header = _HEADER.match(content)
    if header is None:
        raise InputError(f"{path}: is not a NumPy array of one object; {_GET_IT}")
    try:
        return _read_items(content[header.end() :])
    except ValueError as error:
        raise InputError(
            f"{path}: contains something other than a dict of rows by utterance id; nothing was "
            f"executed, {_GET_IT}"
        ) from error


def _read_items(program: bytes) -> dict[str, int]:
    """Returns the dict in a pickled array; raises ValueError if the pickle is of anything else."""
    after_dict = dropwhile(lambda item: item[0] != "EMPTY_DICT", _instructions(program))
    values = [value for name, value in after_dict if name in _VALUES]
    rows = dict(zip(values[::2], values[1::2], strict=False))
    if not all(type(key) is str and type(row) is int for key, row in rows.items()):
        raise ValueError("other types")
    array = np.empty((), object)
    array[()] = rows
    again = pickle.dumps(array, protocol=int.from_bytes(program[1:2]))
    if any(a != b for a, b in zip_longest(_instructions(program), _instructions(again))):
        raise ValueError("other instructions")
    return rows


def _instructions(program: bytes) -> Iterator[tuple[str, Any]]:
    """Yields name and argument of every instruction; a broken one raises ValueError."""
    for instruction, argument, _ in pickletools.genops(program):
        if isinstance(argument, str):
            argument = argument.replace("numpy._core", "numpy.core")  # NumPy 2 renamed it
        if instruction.name != "FRAME":
            yield instruction.name, argument
