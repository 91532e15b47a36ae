"""Conversations as people have them, to be predicted or converted: one stream from many formats.

`conversations_in` yields every conversation of a file or a folder, or the reason why it cannot be
read. What a prediction does not need is mended and counted (`rpcl_jax.readers.json_fields`). JSON lines
are read in constant memory, gzip or not; other files are read whole, one at a time.
"""

import codecs
import contextlib
import gzip
import io
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, cast

from rpcl_jax.data.dialogue import Dialogue, own_id, with_own_ids
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.files import check_not_pointer
from rpcl_jax.readers import conversations, semeval
from rpcl_jax.readers.conversations import write_conversations
from rpcl_jax.readers.json_fields import parse_json
from rpcl_jax.readers.shared import Reading
from rpcl_jax.readers.subtitles import is_subtitle, read_plain, read_subtitles
from rpcl_jax.readers.tables import group_turns, is_table, is_turn, read_table

_EMPTY = "is empty; check that it is the right file"
_DEEPEST = 100  # levels of JSON; Python cannot write what is nested much deeper
_JSON_LINES = {".jsonl", ".ndjson"}
_JSON = {".json", *_JSON_LINES}
_TABLES = {".csv", ".tsv"}
_SUFFIXES = (*sorted(_JSON), ".srt", ".vtt", *sorted(_TABLES), ".txt")
_STARTS_JSON = re.compile(r"\{|\[\s*[{\[\]]")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# The other files of a corpus of ConvoKit.
_CONVOKIT = {"speakers.json", "users.json", "conversations.json", "corpus.json", "index.json"}
# A place in the input, and what is there.
Found = tuple[str, dict[str, Any] | InputError]


def conversations_in(
    path: Path, mended: Counter[str], watch: Callable[[int], object] = int
) -> Iterator[Found]:
    """Yields the conversations of a file, or of all files of a folder and its subfolders.

    Formats are told apart by suffix and content: ours, SemEval's, Whisper's and WhisperX's JSON,
    ConvoKit's `utterances.jsonl` and JSON of single turns like it, SRT, WebVTT, CSV, TSV, and text
    with lines of `Name: words`. Each may be gzipped; docs/data.md describes them.

    Args:
      path: file or folder. Of a folder, the files with a suffix of these formats are read, in the
        order of their names, but no hidden ones.
      mended: counts what was mended, by kind; see `describe`.
      watch: is told how many bytes of `files_in(path)` have been read since it was last called.

    Yields:
      The place ("file:line", or "file: conversation 'id'"), and what is there: a conversation in
      the format of `rpcl_jax.readers.conversations` or of `rpcl_jax.readers.semeval`, which `parse`
      accepts; or the InputError that says why it cannot be read. Objects of these two formats are
      yielded as they stood there, except that one without an id gets one, and that numbers which
      are not finite are None, so that `rpcl_jax.files.write_json` can write them. Ids may be
      repeated; of a folder, a conversation without a "source" gets one, its file.

    Raises:
      InputError: there is no such file, or no file in the folder that can be read.
    """
    for file in files_in(path):
        name = file.relative_to(path) if path.is_dir() else Path(path.name)
        for place, item in _file(file, _stem(name), mended, watch):
            if path.is_dir() and isinstance(item, dict):
                item = {"source": name.as_posix(), **item}
            yield place, item


def files_in(path: Path) -> list[Path]:
    """Returns the files that `conversations_in` reads.

    Raises:
      InputError: there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        return [path]
    inside = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]
    files = [path / file for file in transcripts_among(inside)]
    if not files:
        raise InputError(f"{path}: no file in it ends in {', '.join(_SUFFIXES)}; check the folder")
    return files


def parse(
    item: dict[str, Any], place: str, mended: Counter[str], labelled: bool = False
) -> Dialogue:
    """Returns the dialogue of a conversation that `conversations_in` yields.

    Args:
      item: in our format or in SemEval's.
      place: with which messages start.
      mended: counts what was mended.
      labelled: whether to read emotions and pairs, if present.

    Raises:
      InputError: the conversation is malformed.
    """
    reading = Reading(place, mended)
    if conversations.is_ours(item):
        return conversations.parse_conversation(item, place, labelled, reading, "1")
    return semeval.parse_conversation(item, place, None if labelled else False, reading, "1")


def read_dialogues(path: Path) -> list[Dialogue]:
    """Reads all conversations of a file or a folder without labels; says on stderr what it mended.

    Raises:
      InputError: a conversation cannot be read, or there is none. It has all that is wrong.
    """
    mended = Counter[str]()
    faults = Faults()
    dialogues = []
    for place, item in conversations_in(path, mended):
        with faults.collected():
            if isinstance(item, InputError):
                raise item
            dialogues.append(parse(item, place, Counter()))
    faults.check()
    if not dialogues:
        raise InputError(f"{path}: contains no conversation; check that it is the right file")
    report(mended)
    return dialogues


def convert(source: Path, target: Path) -> tuple[int, int]:
    """Writes the conversations of a file or a folder in our format, with the labels they have.

    Ids of conversations and utterances that are repeated get a number, as training requires. What
    cannot be read is left out and named on stderr, and so is what was mended.

    Args:
      source: see `conversations_in`.
      target: file of JSON lines, replaced if it exists.

    Returns:
      The number of conversations that were written, and of those that were not.

    Raises:
      InputError: there is no such file, or nothing in it can be read; then nothing is written.
    """
    mended = Counter[str]()
    counts = Counter[bool]()
    ids, utterance_ids = Counter[str](), Counter[str]()

    def readable() -> Iterator[Dialogue]:
        for place, item in conversations_in(source, mended):
            try:
                if isinstance(item, InputError):
                    raise item
                mended["predictions of a model, written as labels"] += "predicted_by" in item
                dialogue = with_own_ids(parse(item, place, Counter(), labelled=True), utterance_ids)
                own = own_id(dialogue.id, ids)
                mended["repeated ids of conversations (given a number)"] += own != dialogue.id
                yield replace(dialogue, id=own)
                counts[True] += 1
            except InputError as error:
                counts[False] += 1
                print(f"cannot be read: {error}", file=sys.stderr)
        if not counts[True]:
            raise InputError(f"{source}: no conversation can be read, so nothing was written")

    write_conversations(target, readable())
    report(mended)
    return counts[True], counts[False]


def report(mended: Counter[str]) -> None:
    """Prints what was mended to stderr, if anything was."""
    if describe(mended):
        print(f"mended: {describe(mended)}", file=sys.stderr)


def describe(mended: Counter[str]) -> str:
    """Returns what was mended as one line, "" if nothing was."""
    return "; ".join(f"{kind}: {count}" for kind, count in sorted(mended.items()) if count)


def _suffix(file: PurePath) -> str:
    """The suffix in lower case, without that of gzip."""
    return (Path(file.stem) if file.suffix.lower() == ".gz" else file).suffix.lower()


def _stem(file: Path) -> str:
    """The file's name without its suffixes, which names conversations without an id."""
    file = file.with_suffix("") if file.suffix.lower() == ".gz" and file.stem else file
    return str(file.with_suffix("") if file.suffix.lower() in _SUFFIXES else file)


def transcripts_among(files: Iterable[PurePath]) -> list[PurePath]:
    """Returns those of a folder's files, by their paths in it, that are read as transcripts."""
    files = list(files)
    convokit = {f.parent for f in files if f.name in ("utterances.jsonl", "utterances.jsonl.gz")}
    return [
        file
        for file in files
        if _suffix(file) in _SUFFIXES
        and not any(part.startswith(".") for part in file.parts)
        and not (file.name in _CONVOKIT and file.parent in convokit)
    ]


def _file(
    path: Path, name: str, mended: Counter[str], watch: Callable[[int], object]
) -> Iterator[Found]:
    try:
        with _opened(path, watch) as file:
            for number, (place, item) in enumerate(_contents(file, path, name, mended), 1):
                yield place, _checked(item, place, f"{name}-{number}", mended)
    except InputError as error:
        yield str(path), error
    except OSError as error:
        yield str(path), InputError(f"{path}: {error.strerror or error}; check the file")
    except (EOFError, zlib.error) as error:
        yield str(path), InputError(f"{path}: the gzip file is damaged ({error}); make it again")
    except UnicodeDecodeError as error:
        yield str(path), InputError(f"{path}: not {error.encoding}, as it claims; save it as UTF-8")


def _contents(
    file: io.BufferedReader, path: Path, name: str, mended: Counter[str]
) -> Iterator[tuple[str, Any]]:
    """Yields the objects of a file in any format with their places, or their errors."""
    start = file.peek()
    if not start:
        raise InputError(f"{path}: {_EMPTY}")
    if b"\0" in start and not start.startswith(_UTF16):
        raise InputError(f"{path}: is no text; export it as one of {', '.join(_SUFFIXES)}")
    encoding = "utf-16" if start.startswith(_UTF16) else "utf-8-sig"
    text = start.decode(encoding, "ignore").lstrip()
    if _suffix(path) in _JSON or _STARTS_JSON.match(text):
        yield from _json_conversations(file, path, name, mended)
        return
    whole = _decoded(b"".join(_lines(file)), path, "", mended).replace("\r\n", "\n")
    whole = whole.replace("\r", "\n")
    if not whole.strip():
        raise InputError(f"{path}: {_EMPTY}")
    if _suffix(path) in _TABLES:
        yield from group_turns(read_table(whole, str(path)), name, str(path))
    elif _suffix(path) in (".srt", ".vtt") or is_subtitle(text):
        yield str(path), read_subtitles(whole.lstrip(), name, str(path))
    elif is_table(whole.partition("\n")[0]):
        yield from group_turns(read_table(whole, str(path)), name, str(path))
    else:
        yield from read_plain(whole, name, str(path), mended)


def _json_conversations(
    file: io.BufferedReader, path: Path, name: str, mended: Counter[str]
) -> Iterator[tuple[str, Any]]:
    """Yields what a JSON file contains; single turns are collected to conversations."""
    turns = []
    for number, (place, item) in enumerate(_json(file, path, mended), 1):
        if is_turn(item):
            turns.append(item)
        elif isinstance(item, dict) and isinstance(item.get("segments"), list):
            segments = item["segments"]
            if not segments:
                yield place, InputError(f"{place}: its 'segments' are empty: no speech was found")
            elif all(isinstance(segment, dict) for segment in segments):
                own = name if number == 1 else f"{name}-{number}"
                yield from ((place, found) for _, found in group_turns(segments, own, place))
            else:
                error = f"{place}: its 'segments' are not those of Whisper; check the file"
                yield place, InputError(error)
        else:
            yield place, item
    yield from group_turns(turns, name, str(path))


class _Watched(io.FileIO):
    """A file that says how many bytes are read from it."""

    def __init__(self, path: Path, watch: Callable[[int], object]):
        super().__init__(path)
        self._watch = watch

    def readinto(self, buffer: Any) -> int | None:  # what a BufferedReader calls
        count = super().readinto(buffer)
        self._watch(count or 0)
        return count


@contextlib.contextmanager
def _opened(path: Path, watch: Callable[[int], object]) -> Iterator[io.BufferedReader]:
    """Yields the bytes of a file, unzipped."""
    check_not_pointer(path)
    with io.BufferedReader(cast(Any, _Watched(path, watch))) as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield file
            return
        with gzip.open(file) as unzipped:
            yield io.BufferedReader(cast(Any, unzipped))


def _lines(file: io.BufferedReader) -> Iterable[bytes]:
    """The lines of a file; those of UTF-16 become UTF-8."""
    if file.peek().startswith(_UTF16):
        return (line.encode() for line in io.TextIOWrapper(file, "utf-16", newline="\n"))
    return file


def _decoded(data: bytes, path: Path, line: str, mended: Counter[str]) -> str:
    """Returns the text of a file, or of a line of it, ":5".

    What is not UTF-8 is Windows-1252 if it can be a language written in Latin letters, in which
    accented letters are few, or stand among plain ones in their words.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        words = re.findall(rb"[A-Za-z\xc0-\xff]+", data)
        letters, accented = b"".join(words), b"".join(w for w in words if not w.isascii())
        beyond = len(re.sub(rb"[A-Za-z]", b"", letters))
        with contextlib.suppress(UnicodeDecodeError):
            if beyond <= max(len(letters) / 10, len(accented) / 2, 1):
                text = data.decode("cp1252")
                mended[f"not in UTF-8, read as Windows-1252, in {path}"] += 1
                return text
        raise InputError(
            f"{path}{line}: byte {error.start} is not UTF-8; save it as UTF-8 (iconv -f GBK -t "
            "UTF-8, or another encoding)"
        ) from error


def _json(file: io.BufferedReader, path: Path, mended: Counter[str]) -> Iterator[tuple[str, Any]]:
    """Yields what a JSON file contains: the elements of a list, or the lines."""
    lines = enumerate(_lines(file), 1)
    number, line = next(((k, line) for k, line in lines if not _is_empty(line)), (1, b""))
    if _is_empty(line):
        raise InputError(f"{path}: {_EMPTY}")
    seen = Counter[str]()
    first = _json_line(number, line, path, seen)
    broken = isinstance(first[1], InputError) and _JSON_LINES.intersection(path.suffixes)
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
        if whole.lstrip()[:1] != b"{" or not any(isinstance(item, dict) for _, item in later):
            raise
        yield from later
        return
    for number, item in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
        yield f"{path}: conversation {_name(item, number)}", item


def _is_empty(line: bytes) -> bool:
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def _json_line(number: int, line: bytes, path: Path, mended: Counter[str]) -> tuple[str, Any]:
    try:
        return f"{path}:{number}", _loaded(line.rstrip(), path, number, mended)
    except InputError as error:
        return f"{path}:{number}", error


def _loaded(data: bytes, path: Path, line: int, mended: Counter[str]) -> Any:
    seen = Counter[str]()
    parsed = parse_json(_decoded(data, path, f":{line}", seen), str(path), line)
    mended.update(seen)
    return parsed


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
                f"{place}: has neither 'utterances' (our format), 'conversation' (that of "
                "SemEval-2024 Task 3) nor 'text'; docs/data.md has examples"
            )
        seen = Counter[str]()  # of a conversation that is refused, nothing is mended
        item = _writable(item, place, seen)
        if item.get(key) is None:
            item = {key: default, **{k: v for k, v in item.items() if k != key}}
            seen["conversations without id (named after their file)"] += 1
        parse(item, place, seen)
        mended.update(seen)
    except InputError as error:
        return error
    return item


def _writable(value: Any, place: str, mended: Counter[str], level: int = 0) -> Any:
    """Returns JSON in which numbers that are not finite, which it cannot express, are None.

    As times they become strings instead: None as an end would mean the end of the recording.
    """
    if level > _DEEPEST:
        raise InputError(f"{place}: nested deeper than {_DEEPEST} levels; is it a conversation?")
    if isinstance(value, dict):
        written = {key: _writable(v, place, mended, level + 1) for key, v in value.items()}
        times = (key for key in ("start", "end") if isinstance(value.get(key), float))
        return written | {key: str(value[key]) for key in times if written[key] is None}
    if isinstance(value, list):
        return [_writable(v, place, mended, level + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        mended["numbers that are not finite (null)"] += 1
        return None
    return value
