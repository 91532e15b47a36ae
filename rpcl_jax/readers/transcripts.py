"""Conversations as people have them, to be predicted or converted: one stream from many formats.

`conversations_in` yields every conversation of a file or a folder, or the reason why it cannot be
read. What a prediction does not need is mended and counted (`rpcl_jax.readers.objects`). JSON
lines, gzip or not, are read in constant memory.
"""

import codecs
import contextlib
import gzip
import io
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.readers import conversations, semeval
from rpcl_jax.readers.objects import parse_json

_DEEPEST = 100  # levels of JSON; Python cannot write what is nested much deeper
_LINES = {".jsonl", ".ndjson"}
_SUFFIXES = (".json", *sorted(_LINES))
# A place in the input, and what is there.
Found = tuple[str, dict[str, Any] | InputError]


def conversations_in(path: Path, mended: Counter[str]) -> Iterator[Found]:
    """Yields the conversations of a file, or of all files of a folder and its subfolders.

    Args:
      path: file or folder. Of a folder, the files with a known suffix are read, in the order of
        their names, and hidden ones are not.
      mended: counts what was mended, by kind; see `describe`.

    Yields:
      The place ("file:line", or "file: conversation 'id'"), and what is there: a conversation in
      the format of `rpcl_jax.readers.conversations` or of `rpcl_jax.readers.semeval`, which `parse`
      accepts; or the InputError that says why it cannot be read. Objects are yielded as they stood
      there, except that one without an id gets one, and that numbers which are not finite are
      None, so that `rpcl_jax.files.write_json` can write them. Ids may be repeated.

    Raises:
      InputError: there is no such file, or no file in the folder that can be read.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        yield from _file(path, _stem(Path(path.name)), mended)
        return
    files = [file for file in sorted(path.rglob("*")) if _is_readable(file.relative_to(path))]
    if not files:
        raise InputError(f"{path}: no file in it ends in {', '.join(_SUFFIXES)}; check the folder")
    for file in files:
        yield from _file(file, _stem(file.relative_to(path)), mended)


def parse(item: dict[str, Any], place: str, mended: Counter[str]) -> Dialogue:
    """Returns the dialogue of a conversation that `conversations_in` yields, without labels.

    Args:
      item: in our format or in SemEval's.
      place: with which messages start.
      mended: counts what was mended.

    Raises:
      InputError: the conversation is malformed.
    """
    if conversations.is_ours(item):
        return conversations.parse_conversation(item, place, mended, "1")
    return semeval.parse_conversation(item, place, False, mended, "1")


def describe(mended: Counter[str]) -> str:
    """Returns what was mended as one line, "" if nothing was."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(mended.items()) if count)


def _is_readable(file: Path) -> bool:
    named = Path(file.stem if file.suffix.lower() == ".gz" else file.name)
    return named.suffix.lower() in _SUFFIXES and not any(part[0] == "." for part in file.parts)


def _stem(file: Path) -> str:
    """The file's name without its suffixes; conversations without an id are named after it."""
    file = file.with_suffix("") if file.suffix.lower() == ".gz" else file
    return str(file.with_suffix("") if file.suffix.lower() in _SUFFIXES else file.name)


def _file(path: Path, name: str, mended: Counter[str]) -> Iterator[Found]:
    try:
        with _opened(path) as file:
            for number, (place, item) in enumerate(_json(file, path, mended), 1):
                yield place, _checked(item, place, f"{name}-{number}", mended)
    except InputError as error:
        yield str(path), error
    except OSError as error:
        yield str(path), InputError(f"{path}: {error.strerror or error}; check the file")
    except (EOFError, zlib.error) as error:
        yield str(path), InputError(f"{path}: the gzip file is damaged ({error}); make it again")
    except UnicodeDecodeError as error:
        yield str(path), InputError(f"{path}: not {error.encoding}, as it claims; save it as UTF-8")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Yields the bytes of a file, unzipped."""
    with path.open("rb") as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield file
            return
        with gzip.open(file) as unzipped:
            yield io.BufferedReader(cast(Any, unzipped))


def _lines(file: BinaryIO, head: bytes) -> Iterable[bytes]:
    """The lines of a file as UTF-8, if it is UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return (line.encode() for line in io.TextIOWrapper(file, "utf-16", newline="\n"))
    return file


def _decoded(data: bytes, where: str, mended: Counter[str]) -> str:
    """Returns the text of a file or of a line.

    What is not UTF-8 is Windows-1252, unless a third of it and more is beyond ASCII, which no
    language written in Latin letters is.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        beyond = sum(byte > 127 for byte in data)
        with contextlib.suppress(UnicodeDecodeError):
            if beyond < len(data) / 3:
                text = data.decode("cp1252")
                mended["lines that are not UTF-8 (read as Windows-1252)"] += 1
                return text
        raise InputError(f"{where}: byte {error.start} is not UTF-8; save it as UTF-8") from error


def _json(file: io.BufferedReader, path: Path, mended: Counter[str]) -> Iterator[tuple[str, Any]]:
    """Yields what a JSON file contains: the elements of a list, or the lines."""
    lines = enumerate(_lines(file, file.peek()), 1)
    number, line = next(((k, line) for k, line in lines if not _is_empty(line)), (1, b""))
    if _is_empty(line):
        raise InputError(f"{path}: is empty; check that it is the right file")
    seen = Counter[str]()
    first = _json_line(number, line, path, seen)
    broken = isinstance(first[1], InputError) and _LINES.intersection(path.suffixes)
    if isinstance(first[1], dict) or (broken and line.lstrip().startswith(b"{")):
        mended.update(seen)
        yield first
        for number, line in lines:
            if not _is_empty(line):
                yield _json_line(number, line, path, mended)
        return
    whole = line + b"".join(line for _, line in lines)
    try:
        parsed = _loaded(whole, path, number, mended)
    except InputError:
        later = [
            _json_line(k, line, path, mended)
            for k, line in enumerate(whole.split(b"\n"), number)
            if not _is_empty(line)
        ]
        if not any(isinstance(item, dict) for _, item in later):
            raise
        yield from later
        return
    for number, item in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
        yield f"{path}: conversation {_name(item, number)}", item


def _is_empty(line: bytes) -> bool:
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def _json_line(number: int, line: bytes, path: Path, mended: Counter[str]) -> tuple[str, Any]:
    try:
        return f"{path}:{number}", _loaded(line, path, number, mended)
    except InputError as error:
        return f"{path}:{number}", error


def _loaded(data: bytes, path: Path, line: int, mended: Counter[str]) -> Any:
    return parse_json(_decoded(data, f"{path}:{line}", mended), str(path), line)


def _name(item: Any, number: int) -> str:
    if isinstance(item, dict):
        for key in ("id", "conversation_ID"):
            if isinstance(item.get(key), (str, int)):
                return repr(item[key])
    return f"number {number}"


def _checked(
    item: Any, place: str, default: str, mended: Counter[str]
) -> dict[str, Any] | InputError:
    """Returns an object that can be parsed and written, with an id."""
    if isinstance(item, InputError):
        return item
    try:
        if not isinstance(item, dict):
            raise InputError(f"{place}: expected a conversation but found {str(item)[:40]!r}")
        if "utterances" in item:
            key = "id"
        elif "conversation" in item:
            key = "conversation_ID"
        else:
            raise InputError(
                f"{place}: has neither 'utterances' (our format) nor 'conversation' (that of "
                "SemEval-2024 Task 3); docs/data.md has examples"
            )
        item = _writable(item, place, mended)
        if item.get(key) is None:
            item = {key: default, **{k: v for k, v in item.items() if k != key}}
            mended["conversations without id (numbered)"] += 1
        parse(item, place, mended)
    except InputError as error:
        return error
    return item


def _writable(value: Any, place: str, mended: Counter[str], level: int = 0) -> Any:
    """Returns JSON in which numbers that are not finite, which it cannot express, are None."""
    if level > _DEEPEST:
        raise InputError(f"{place}: nested deeper than {_DEEPEST} levels; is it a conversation?")
    if isinstance(value, dict):
        return {key: _writable(v, place, mended, level + 1) for key, v in value.items()}
    if isinstance(value, list):
        return [_writable(v, place, mended, level + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        mended["numbers that are not finite (null)"] += 1
        return None
    return value
