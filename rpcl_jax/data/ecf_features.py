"""ECF's official feature tables (GitHub NUSTM/MECPE), whose map of rows is a pickle.

A pickle is a program that may call anything. This one is not run: its instructions are listed by
`pickletools` and followed by a machine that has numbers, strings, tuples, lists and dicts, knows
three names of NumPy as the shape of an array, and calls nothing.
"""

import pickletools
import re
from pathlib import Path
from typing import Any

from rpcl_jax.data.features import FeatureTable, check_finite, map_array
from rpcl_jax.errors import InputError

_GET_IT = "take the file from https://github.com/NUSTM/MECPE again"
_MOST_BYTES = 1 << 22  # of the map; the real one has a tenth
# How np.save begins the file of an object that is no array.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': (False|True), 'shape': \(\), \} *\n",
    re.DOTALL,
)

_MARK = object()  # on the stack, where a tuple or the items of a dict or list begin
# What NumPy's objects are to the machine: words, which its rules look for and nobody calls.
_RECONSTRUCT, _NDARRAY, _DTYPE = object(), object(), object()
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("BININT", "BININT1", "BININT2"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES"),
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Array:
    """The array of the file before (None) and after it is told its one element."""

    element: Any = None


class _ObjectDtype:
    """The dtype of that array."""


def read_official(array_path: Path, mapping_path: Path) -> FeatureTable:
    """Opens one of ECF's two official tables; the numbers stay on disk.

    Args:
      array_path: `audio_embedding_6373.npy` or `video_embedding_4096.npy`, [rows, dimension] of
        float16, float32 or float64.
      mapping_path: `video_id_mapping.npy`, the row of every `dia<D>utt<U>`.

    Returns:
      The table, its `values` of the type that the file has; rows that the map does not name (in
      the official tables, row 0) are there and belong to no id.

    Raises:
      InputError: a file is not there or not of its form, an id has a row that is not there, or a
        number of a row that has an id is NaN, infinite, or too large for float32.
    """
    row_of_id = read_mapping(mapping_path)
    values = map_array(array_path, ("float16", "float32", "float64"), _GET_IT)
    for utterance_id, row in row_of_id.items():
        if not 0 <= row < len(values):
            raise InputError(
                f"{mapping_path}: {utterance_id[:40]!r} has row {row}, but {array_path} has "
                f"{len(values)} rows; they do not belong together, {_GET_IT}"
            )
    check_finite(values, row_of_id, array_path, _GET_IT)
    description = {
        "extractor": "official features of ECF",
        "model": array_path.name,
        "revision": "https://github.com/NUSTM/MECPE",
        "dimension": values.shape[1],
    }
    return FeatureTable(values, row_of_id, description, array_path)


def read_mapping(path: Path) -> dict[str, int]:
    """Reads `video_id_mapping.npy`, a pickled dict, without running the pickle.

    Raises:
      InputError: the file is not there, or is anything but an array of one dict from strings to
        whole numbers, as `np.save` writes it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path}: has more than {_MOST_BYTES} bytes; {_GET_IT}")
    header = _HEADER.match(content)
    if header is None:
        raise InputError(f"{path}: is no NumPy array of one object; {_GET_IT}")
    try:
        mapping = _follow(content[header.end() :])
    except (ValueError, LookupError) as error:
        raise InputError(
            f"{path}: holds something other than a dict of rows by utterance id "
            f"({_line(error)}); nothing was run, {_GET_IT}"
        ) from error
    for key, row in mapping.items():
        if type(row) is not int:
            raise InputError(f"{path}: the row of {key[:40]!r} is no whole number; {_GET_IT}")
    return mapping


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:100]


def _follow(program: bytes) -> dict[str, Any]:
    """The one dict with string keys of the array that a pickle makes.

    Raises:
      ValueError: an instruction, a name or an operand is none that such an array needs.
      LookupError: an operand is not on the stack or in the memo.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(program):
        name = instruction.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in _TUPLES:
            stack.append(tuple(_take(stack, _TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(_take_to_mark(stack)))
        elif name == "APPEND":
            (element,) = _take(stack, 1)
            _expect(stack[-1], list).append(element)
        elif name == "APPENDS":
            elements = _take_to_mark(stack)
            _expect(stack[-1], list).extend(elements)
        elif name == "SETITEM":
            items = _take(stack, 2)
            _set_items(_expect(stack[-1], dict), items)
        elif name == "SETITEMS":
            items = _take_to_mark(stack)
            _set_items(_expect(stack[-1], dict), items)
        elif name == "GLOBAL":
            stack.append(_name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_name(*_take(stack, 2)))
        elif name == "REDUCE":
            stack.append(_reduced(*_take(stack, 2)))
        elif name == "BUILD":
            (state,) = _take(stack, 1)
            _build(stack[-1], state)
        elif name == "STOP":
            (array,) = stack
            return _expect(_expect(array, _Array).element, dict)
        else:
            raise ValueError(f"the instruction {name}")
    raise ValueError("no end")


def _take(stack: list[Any], count: int) -> list[Any]:
    """Takes the last `count` values off the stack."""
    if len(stack) < count or any(value is _MARK for value in stack[len(stack) - count :]):
        raise LookupError("too few operands")
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return taken


def _take_to_mark(stack: list[Any]) -> list[Any]:
    """Takes off the stack what lies over the last mark, and the mark."""
    taken: list[Any] = []
    while stack:
        value = stack.pop()
        if value is _MARK:
            return taken[::-1]
        taken.append(value)
    raise LookupError("no mark")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__} instead of {kind.__name__.strip('_')}")
    return value


def _set_items(target: dict[str, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Strings only: to hash a tuple of tuples can take for ever.
        target[_expect(key, str)] = value


def _name(module: Any, name: Any) -> object:
    found = _NAMES.get((_expect(module, str), _expect(name, str)))
    if found is None:
        raise ValueError(f"the name {module}.{name}")
    return found


def _reduced(function: Any, arguments: Any) -> _Array | _ObjectDtype:
    """What NumPy would return for one of the two calls that an array of objects is pickled with."""
    match arguments:
        case (array, (0,), b"b") if function is _RECONSTRUCT and array is _NDARRAY:
            return _Array()
        case ("O8", False, True) if function is _DTYPE:
            return _ObjectDtype()
    raise ValueError("a call")


def _build(target: Any, state: Any) -> None:
    """Sets the state of one of the two objects of `_reduced`."""
    match state:
        # An array's: version, shape, dtype, order, elements.
        case (1, (), _ObjectDtype(), False, [element]) if type(target) is _Array:
            target.element = element
        # A dtype's: version, byte order, and nothing that matters to objects.
        case (3, "|", None, None, None, -1, -1, 63) if type(target) is _ObjectDtype:
            pass
        case _:
            raise ValueError("a state")
