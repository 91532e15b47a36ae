"""ECF's official feature tables (GitHub NUSTM/MECPE), whose map of rows is a pickle.

A pickle is a program that can call any function, so this one is never executed. `pickletools` lists
its instructions, which must be exactly those of an array of one dict; the items are extracted from
them.
"""

import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

# The pickle of an array before the items of its dict: instructions by name, strings and numbers as
# Python literals. Everything that is neither listed here nor handled below is refused.
_BEFORE_ITEMS = """
    'numpy.core.multiarray' '_reconstruct' STACK_GLOBAL
    'numpy' 'ndarray' STACK_GLOBAL 0 TUPLE1 b'b' TUPLE3 REDUCE
    MARK 1 EMPTY_TUPLE
    'numpy' 'dtype' STACK_GLOBAL 'O8' NEWFALSE NEWTRUE TUPLE3 REDUCE
    MARK 3 '|' NONE NONE NONE -1 -1 63 TUPLE BUILD
    NEWFALSE EMPTY_LIST EMPTY_DICT
"""
_VALUES = {"BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES"}


def read_official(array_path: Path, mapping_path: Path, check_values: bool = True) -> FeatureTable:
    """Opens one of ECF's two official tables; the features stay on disk.

    Args:
      array_path: `audio_embedding_6373.npy` or `video_embedding_4096.npy`, [rows, dimension] of
        float16, float32 or float64.
      mapping_path: `video_id_mapping.npy`, the row of every `dia<D>utt<U>`.
      check_values: see `FeatureTable.load`.

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
        return _read_items(_instructions(content[header.end() :]))
    except ValueError as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: contains something other than a dict of rows by utterance id ({reason}); "
            f"nothing was executed, {_GET_IT}"
        ) from error


def _read_items(instructions: Iterator[tuple[str, Any]]) -> dict[str, int]:
    """Returns the items of the dict in a pickled array.

    An item is a key, a row and SETITEM; several are keys and rows between MARK and SETITEMS.

    Raises:
      ValueError: an instruction is not allowed at its position.
    """
    rows: dict[str, int] = {}
    many = False
    _expect(instructions, _BEFORE_ITEMS)
    for name, key in instructions:
        if name == "MARK" and not many:
            many = True
        elif name == "SETITEMS" and many:
            many = False
        elif name == "APPEND" and not many:
            break
        elif type(key) is str:
            row_name, row = next(instructions)
            if type(row) is not int:
                raise ValueError(f"{row_name} for the row of {key[:40]!r}")
            rows[key] = row
            if not many:
                _expect(instructions, "SETITEM")
        else:
            raise ValueError(f"{name} for an id")
    _expect(instructions, "TUPLE BUILD STOP")
    return rows


def _expect(instructions: Iterator[tuple[str, Any]], expected: str) -> None:
    for text in expected.split():
        name, value = next(instructions)
        found = name if value is None else repr(value)
        if found.replace("numpy._core", "numpy.core") != text:  # NumPy 2 renamed it
            raise ValueError(f"{found} instead of {text}")


def _instructions(program: bytes) -> Iterator[tuple[str, Any]]:
    """Yields the name of every instruction and the string or number that it pushes, else None.

    Instructions that only store to the memo are skipped. BINGET is resolved, so a string that is
    fetched from the memo is yielded again.
    """
    memo: dict[int, Any] = {}
    value: Any = None
    argument: Any
    for instruction, argument, _ in pickletools.genops(program):
        name = instruction.name
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = value
        elif name not in ("PROTO", "FRAME"):
            if name == "GLOBAL":  # from protocol 4 on: two strings and STACK_GLOBAL
                yield from ((name, part) for part in argument.split(" ", 1))
                name = "STACK_GLOBAL"
            if name == "BINGET":
                value = memo.get(argument)
            else:
                value = argument if name in _VALUES else None
            yield name, value
