"""Conversations as people have them, to be predicted or converted: one stream from many formats.

`conversations_in` yields every conversation of a file or a folder, or the reason why it cannot be
read. What a prediction does not need is repaired and counted (`rpcl_jax.readers.json_fields`). JSON
lines are read in constant memory, gzip or not; other files are read whole, one at a time.
"""

import codecs
import contextlib
import gzip
import io
import logging
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

from rpcl_jax.data.dialogue import CLIP_ENDINGS, Dialogue, unique_id, with_unique_ids
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.files import check_not_pointer
from rpcl_jax.readers import annotations, conversations, ecf, mec4, mecad, semeval, subtitles
from rpcl_jax.readers.benchmark_files import ReadLog
from rpcl_jax.readers.chats import read_plain
from rpcl_jax.readers.conversations import dialogue_object, write_conversations
from rpcl_jax.readers.json_fields import parse_json
from rpcl_jax.readers.json_turns import no_such_path, single_turn, turns_in
from rpcl_jax.readers.tables import group_turns, is_table, read_table, spoken_words

_LOG = logging.getLogger(__name__)
_EMPTY = "is empty; check that it is the right file"
_DEEPEST = 100  # levels of JSON; Python cannot write what is nested much deeper
_JSON_LINES = {".jsonl", ".ndjson"}
_JSON = {".json", *_JSON_LINES}
_TABLES = {".csv", ".tsv"}
# The richest first: of files that differ in nothing else, it is read.
_SUFFIXES = (
    *(".json", ".jsonl", ".ndjson"),
    *(*subtitles.SUFFIXES, *annotations.SUFFIXES),
    *(".tsv", ".csv", ".txt"),
)
_ANNOTATIONS = {"@UTF8": ".cha", "@Begin": ".cha", 'File type = "ooText': ".textgrid"}
# Between letters, most of these are letters elsewhere: "sch\x94n".
_OF_ALL_CODE_PAGES = re.compile(
    rb"(?:[\x00-\x7f\x85\x92\x97\xa0]|(?<![A-Za-z])[\x91\x93-\x96]|[\x91\x93-\x96](?![A-Za-z]))*"
)
_STARTS_JSON = re.compile(r"\{|\[\s*[{\[\]]")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Files that are no transcripts, beside one of a corpus of ConvoKit and of an export from Slack.
_BESIDE = {
    "utterances.jsonl": "speakers users conversations corpus index",
    "channels.json": "users channels groups dms mpims canvases integration_logs file_conversations "
    "lists org_users",
}
_NO_TRANSCRIPT = re.compile(r"(?i)(read[-_ ]?me|licen[sc]e|requirements|changelog)(\.txt)?")
_SECONDS = 10.0, 3.0  # a clip is longer than its words could be: beyond this, and this a word
_File = TypeVar("_File", bound=PurePath)
# A place in the input, and what is there.
Found = tuple[str, dict[str, Any] | InputError]


def conversations_in(
    path: str | Path,
    repaired: Counter[str],
    watch: Callable[[int], object] = int,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Found]:
    """Yields the conversations of a file, or of all files of a folder and its subfolders.

    Formats are told apart by suffix and content; docs/data.md describes them. Each may be gzipped.

    Args:
      path: file, folder, or pattern with `*`; see `files_in`.
      repaired: counts what was repaired or left out, by kind; see `describe`.
      watch: is told how many bytes of `files_in(path)` have been read since it was last called.
      columns: which fields are in which columns of tables and which paths of JSON, see
        `rpcl_jax.readers.tables.parse_columns`; what is not given is known by its name.

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
    path = Path(path).expanduser()
    folder, pattern = _split_pattern(path)
    several = pattern is not None
    for file in files_in(path, repaired):
        name = file.relative_to(folder) if several else Path(path.name)
        for place, item in _file(file, _stem(name), repaired, watch, columns or {}):
            if several and isinstance(item, dict):
                item = {"source": name.as_posix(), **item}
            yield place, item


def _split_pattern(path: Path) -> tuple[Path, str | None]:
    """Returns the folder of a pattern and the rest of it; None if the path is one file."""
    if path.is_dir():
        return path, "**/*"
    parts = path.parts
    plain = next((k for k, part in enumerate(parts) if set("*?[") & set(part)), None)
    if path.exists() or plain is None:
        return path, None
    return Path(*parts[:plain]), "/".join(parts[plain:])


def files_in(path: Path, repaired: Counter[str] | None = None) -> list[Path]:
    """Returns the files that `conversations_in` reads.

    Args:
      path: a file; a folder, of which the files with a suffix of the formats are read, in the order
        of their names, but no hidden ones; or a pattern such as `talks/*.vtt`.
      repaired: counts the files that are not read.
    """
    folder, pattern = _split_pattern(path)
    if pattern is None:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        return [path]
    found = sorted(file for file in folder.glob(pattern) if file.is_file())
    if path.is_dir():
        inside = transcripts_among([file.relative_to(path) for file in found], repaired)
        files = [path / file for file in inside]
    else:
        files = _richest([file for file in found if not file.name.startswith(".")], repaired)
    if not files:
        what = f"no file in it ends in {', '.join(_SUFFIXES)}" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; check the path")
    return files


def parse(
    item: dict[str, Any], place: str, repaired: Counter[str], labelled: bool = False
) -> Dialogue:
    """Returns the dialogue of a conversation that `conversations_in` yields.

    Args:
      labelled: whether to read emotions and pairs, if present.
    """
    log = ReadLog(place, repaired)
    if conversations.is_ours(item):
        return conversations.parse_conversation(item, place, labelled, log, "1")
    return semeval.parse_conversation(item, place, None if labelled else False, log, "1")


def read_dialogues(
    path: Path, columns: Mapping[str, str] | None = None, labelled: bool = False
) -> list[Dialogue]:
    """Reads all conversations, see `conversations_in`, and logs what was repaired.

    Args:
      labelled: whether they have labels, which are read; predictions are none.

    Raises:
      InputError: a conversation cannot be read, or there is none. It has all that is wrong.
    """
    repaired = Counter[str]()
    faults = Faults()
    dialogues = []
    for place, item in conversations_in(path, repaired, columns=columns):
        with faults.collected():
            if isinstance(item, InputError):
                raise item
            if labelled and "predicted_by" in item:
                raise InputError(
                    f"{place}: its labels are what a model predicted; correct them and remove "
                    "'predicted_by'"
                )
            dialogues.append(parse(item, place, Counter(), labelled))
            if labelled and dialogues[-1].pairs is None:
                raise InputError(f"{place}: has no 'pairs'; label it, with [] if there are none")
    faults.check()
    if not dialogues:
        raise InputError(f"{path}: contains no conversation; check that it is the right file")
    log_repaired(repaired)
    return dialogues


def convert(
    source: Path, target: Path, columns: Mapping[str, str] | None = None
) -> tuple[int, int]:
    """Writes the conversations of a file or a folder in our format, with the labels they have.

    Ids of conversations and utterances that are repeated get a number, as training requires. What
    cannot be read is left out and logged, and so is what was repaired.

    Args:
      source, columns: see `conversations_in`.
      target: file of JSON lines, replaced if it exists.

    Returns:
      The number of conversations that were written, and of those that were not.

    Raises:
      InputError: there is no such file, or nothing in it can be read; then nothing is written.
    """
    repaired = Counter[str]()
    counts = Counter[bool]()
    ids, utterance_ids = Counter[str](), Counter[str]()

    def readable() -> Iterator[Dialogue]:
        for place, item in conversations_in(source, repaired, columns=columns):
            try:
                if isinstance(item, InputError):
                    raise item
                repaired["predictions of a model, written as labels"] += "predicted_by" in item
                dialogue = with_unique_ids(
                    parse(item, place, Counter(), labelled=True), utterance_ids
                )
                own = unique_id(dialogue.id, ids)
                repaired["repeated ids of conversations (given a number)"] += own != dialogue.id
                yield replace(dialogue, id=own)
                counts[True] += 1
            except InputError as error:
                counts[False] += 1
                _LOG.warning(f"cannot be read: {error}")
        if not counts[True]:
            raise InputError(f"{source}: no conversation can be read, so nothing was written")

    write_conversations(target, readable())
    log_repaired(repaired)
    return counts[True], counts[False]


def log_repaired(repaired: Counter[str]) -> None:
    """Logs what was repaired, if anything was."""
    if describe(repaired):
        _LOG.warning(f"repaired: {describe(repaired)}")


def describe(repaired: Counter[str]) -> str:
    """Returns what was repaired as one line, "" if nothing was."""
    return "; ".join(f"{kind}: {count}" for kind, count in sorted(repaired.items()) if count)


def _suffix(file: PurePath) -> str:
    """The suffix in lower case, without that of gzip."""
    return (Path(file.stem) if file.suffix.lower() == ".gz" else file).suffix.lower()


def _stem(file: PurePath) -> str:
    """The file's name without its suffixes, which names conversations without an id."""
    file = file.with_suffix("") if file.suffix.lower() == ".gz" and file.stem else file
    return str(file.with_suffix("") if file.suffix.lower() in _SUFFIXES else file)


def transcripts_among(
    files: Iterable[PurePath], repaired: Counter[str] | None = None
) -> list[PurePath]:
    """Returns those of a folder's files, by their paths in it, that are read as transcripts.

    Of files that differ only in the suffix, as Whisper writes them, the richest is read.
    """
    files = [f for f in files if not any(part.startswith(".") for part in f.parts)]
    beside = {
        f.parent / f"{name}.json"
        for f in files
        for name in _BESIDE.get(f.name.removesuffix(".gz"), "").split()
    }
    kept = [f for f in files if _suffix(f) in _SUFFIXES and f not in beside]
    kept = [f for f in kept if not _NO_TRANSCRIPT.fullmatch(f.name)]
    if repaired is not None:
        others = Counter(_suffix(f) for f in files if _suffix(f) not in (*_SUFFIXES, *CLIP_ENDINGS))
        listed = ", ".join(suffix or "no suffix" for suffix in sorted(others)[:8])
        repaired[f"files of other types, {listed} (not read)"] += others.total()
    return _richest(kept, repaired)


def _richest(files: list[_File], repaired: Counter[str] | None) -> list[_File]:
    order = {suffix: k for k, suffix in enumerate(_SUFFIXES)}
    richest: dict[str, _File] = {}
    for file in sorted(files, key=lambda f: order.get(_suffix(f), len(order))):
        richest.setdefault(_stem(file), file)
    chosen = [file for file in files if richest[_stem(file)] == file]
    if repaired is not None:
        repaired["other forms of transcripts that are read (left out)"] += len(files) - len(chosen)
    return chosen


def _file(
    path: Path,
    name: str,
    repaired: Counter[str],
    watch: Callable[[int], object],
    columns: Mapping[str, str],
) -> Iterator[Found]:
    try:
        with _opened(path, watch) as file:
            contents = _contents(file, path, name, repaired, columns)
            for number, (place, item) in enumerate(contents, 1):
                yield place, _checked(item, place, f"{name}-{number}", repaired)
    except InputError as error:
        yield str(path), error
    except OSError as error:
        yield str(path), InputError(f"{path}: {error.strerror or error}; check the file")
    except (EOFError, zlib.error) as error:
        yield str(path), InputError(f"{path}: the gzip file is damaged ({error}); make it again")
    except UnicodeDecodeError as error:
        yield str(path), InputError(f"{path}: not {error.encoding}, as it claims; save it as UTF-8")


def _contents(
    file: io.BufferedReader,
    path: Path,
    name: str,
    repaired: Counter[str],
    columns: Mapping[str, str],
) -> Iterator[tuple[str, Any]]:
    """Yields the objects of a file in any format with their places, or their errors."""
    start = file.peek()
    if not start:
        raise InputError(f"{path}: {_EMPTY}")
    if b"\0" in start and not start.startswith(_UTF16):
        raise InputError(
            f"{path}: is no text; export it as one of {', '.join(_SUFFIXES)}, or, if it is text in "
            "UTF-16, save it as UTF-8"
        )
    encoding = "utf-16" if start.startswith(_UTF16) else "utf-8-sig"
    text, suffix = start.decode(encoding, "ignore").lstrip(), _suffix(path)
    if suffix in _JSON or _STARTS_JSON.match(text):
        yield from _json_conversations(file, path, name, repaired, columns)
        return
    whole = _decoded(b"".join(_lines(file)), path, "", repaired).replace("\r\n", "\n")
    whole = re.sub(r"[\r\u2028\u2029]", "\n", whole).replace("\u200b", "")
    if not whole.strip():
        raise InputError(f"{path}: {_EMPTY}")
    head = whole.lstrip().partition("\n")[0]
    known = next((kind for begin, kind in _ANNOTATIONS.items() if text.startswith(begin)), suffix)
    if suffix in _TABLES or is_table(head.strip("|"), columns):
        table = read_table(whole.lstrip("\n"), str(path), columns)
        yield from group_turns(table, name, str(path), repaired, columns)
    elif known in annotations.SUFFIXES:
        yield str(path), annotations.read_annotations(whole, known, name, str(path), repaired)
    elif suffix in subtitles.SUFFIXES or subtitles.is_subtitle(text):
        yield str(path), subtitles.read_subtitles(whole.lstrip(), name, str(path), suffix, repaired)
    elif re.match(r"<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise InputError(f"{path}: is HTML or XML; export it as JSON, a table or text")
    elif ecf.is_ecf_text(whole):
        yield from _labelled(ecf.parse_ecf_text(whole.rstrip().split("\n"), path), path)
    else:
        together = columns.get("conversation") == ""
        yield from read_plain(whole, name, str(path), repaired, together)


def _labelled(dialogues: Iterable[Dialogue], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the dialogues of a benchmark in our format."""
    for dialogue in dialogues:
        yield f"{path}: conversation {dialogue.id!r}", dialogue_object(dialogue)


def _json_conversations(
    file: io.BufferedReader,
    path: Path,
    name: str,
    repaired: Counter[str],
    columns: Mapping[str, str],
) -> Iterator[tuple[str, Any]]:
    """Yields what a JSON file contains; single turns are collected to conversations."""
    turns, mapped = [], bool(columns.get("text"))
    there: set[str] = set()
    for number, (place, item) in enumerate(_json(file, path, repaired), 1):
        if isinstance(item, InputError) or (not mapped and _is_native(item)):
            yield place, item
        elif not mapped and mecad.is_evidence(item):
            yield from _labelled(mecad.parse_evidence([item], path), path)
        elif not mapped and isinstance(item, dict) and "dia_len" in item:
            yield from _labelled(mec4.read_mec4(path), path)
            return
        elif not mapped and (turn := single_turn(item, columns)) is not None:
            turns.append(turn)
        elif not isinstance(item, (dict, list)):
            error = f"{place}: expected a conversation but found {str(item)[:40]!r}"
            yield place, InputError(error)
        else:
            own = name if number == 1 else f"{name}-{number}"
            try:
                for inner, rows in turns_in(item, columns, own, place):
                    there |= {f for row in rows for f in columns if row.get(f) is not None}
                    if inner is None:
                        turns += rows
                        continue
                    grouped = group_turns(rows, inner, place, repaired, columns, True)
                    yield from ((place, found) for _, found in grouped)
            except InputError as error:
                yield place, error
    there |= {f for row in turns for f in columns if row.get(f) is not None}
    absent = [path for field, path in columns.items() if path and field not in there]
    if there and absent:
        yield str(path), no_such_path(str(path), absent[0])
    elif turns:
        yield from group_turns(turns, name, str(path), repaired, columns)


def _is_native(item: Any) -> bool:
    """Returns whether a JSON object is in our format or SemEval's, right or wrong."""
    if not isinstance(item, dict):
        return False
    turns = item.get("utterances", item.get("conversation"))
    if isinstance(turns, list) and turns:
        return any("text" in t if isinstance(t, dict) else not isinstance(t, str) for t in turns)
    return turns is not None and single_turn(item) is None


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


def _decoded(data: bytes, path: Path, line: str, repaired: Counter[str]) -> str:
    """Returns the text of a file, or of a line of it, ":5".

    What is not UTF-8 is read where all of Windows' code pages agree: quotation marks, dashes, dots.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if _OF_ALL_CODE_PAGES.fullmatch(data):
            repaired[f"not in UTF-8, read as Windows-1252, in {path}"] += 1
            return data.decode("cp1252")
        raise InputError(
            f"{path}{line}: byte {error.start} is not UTF-8, and its encoding is unknown; save it "
            f"as UTF-8, or name its encoding: iconv -f ENCODING -t utf-8 {path.name} > new.txt "
            "(WINDOWS-1252 is of Western Europe, WINDOWS-1250 of Poland, WINDOWS-1251 of Russia)"
        ) from error


def _json(file: io.BufferedReader, path: Path, repaired: Counter[str]) -> Iterator[tuple[str, Any]]:
    """Yields what a JSON file contains: the elements of a list, or the lines."""
    lines = enumerate(_lines(file), 1)
    number, line = next(((k, line) for k, line in lines if not _is_empty(line)), (1, b""))
    if _is_empty(line):
        raise InputError(f"{path}: {_EMPTY}")
    seen = Counter[str]()
    first = _json_line(number, line, path, seen)
    broken = isinstance(first[1], InputError) and _JSON_LINES.intersection(path.suffixes)
    if isinstance(first[1], dict) or (broken and line.lstrip().startswith(b"{")):
        repaired.update(seen)
        yield first
        for number, line in lines:
            if not _is_empty(line):
                yield _json_line(number, line, path, repaired)
        return
    whole = line + b"".join(line for _, line in lines)
    try:
        parsed = _loaded(whole, path, number, repaired)
    except InputError:
        later = [
            _json_line(k, line, path, repaired)
            for k, line in enumerate(whole.split(b"\n"), number)
            if not _is_empty(line)
        ]
        if whole.lstrip()[:1] != b"{" or not any(isinstance(item, dict) for _, item in later):
            raise
        yield from later
        return
    for number, item in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
        ids = [item.get(key) for key in ("id", "conversation_ID")] if isinstance(item, dict) else []
        named = [repr(own) for own in ids if isinstance(own, (str, int))]
        yield f"{path}: conversation {(*named, f'number {number}')[0]}", item


def _is_empty(line: bytes) -> bool:
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def _json_line(number: int, line: bytes, path: Path, repaired: Counter[str]) -> tuple[str, Any]:
    try:
        return f"{path}:{number}", _loaded(line.rstrip(), path, number, repaired)
    except InputError as error:
        return f"{path}:{number}", error


def _loaded(data: bytes, path: Path, line: int, repaired: Counter[str]) -> Any:
    seen = Counter[str]()
    parsed = parse_json(_decoded(data, path, f":{line}", seen), str(path), line)
    repaired.update(seen)
    return parsed


def _checked(
    item: Any, place: str, default: str, repaired: Counter[str]
) -> dict[str, Any] | InputError:
    """Returns an object that can be parsed and written, with an id."""
    if isinstance(item, InputError):
        return item
    try:
        key = "id" if conversations.is_ours(item) else "conversation_ID"
        seen = Counter[str]()  # of a conversation that is refused, nothing is repaired
        item = _writable(item, place, seen)
        if item.get(key) is None:
            item = {key: default, **{k: v for k, v in item.items() if k != key}}
            seen["conversations without id (named after their file)"] += 1
        _check_words(parse(item, place, seen), place, seen)
        repaired.update(seen)
    except InputError as error:
        return error
    return item


def _check_words(dialogue: Dialogue, place: str, repaired: Counter[str]) -> None:
    """Counts clips that are too long for their words; raises InputError if there are no words."""
    if not any(re.search(r"\w", utterance.text) for utterance in dialogue.utterances):
        raise InputError(
            f"{place}: none of its {len(dialogue.utterances)} utterances has words; if they are "
            "under another name, say which: --columns=text=NAME"
        )
    for utterance in dialogue.utterances:
        clip = utterance.clip
        if clip and clip.end is not None:
            longest = _SECONDS[0] + _SECONDS[1] * spoken_words(utterance.text)
            repaired["clips that are longer than their words can be"] += (
                clip.end - (clip.start or 0.0) > longest
            )


def _writable(value: Any, place: str, repaired: Counter[str], level: int = 0) -> Any:
    """Returns JSON in which numbers that are not finite, which it cannot express, are None.

    As times they become strings instead: None as an end would mean the end of the recording.
    """
    if level > _DEEPEST:
        raise InputError(f"{place}: nested deeper than {_DEEPEST} levels; is it a conversation?")
    if isinstance(value, dict):
        written = {key: _writable(v, place, repaired, level + 1) for key, v in value.items()}
        times = (key for key in ("start", "end") if isinstance(value.get(key), float))
        return written | {key: str(value[key]) for key in times if written[key] is None}
    if isinstance(value, list):
        return [_writable(v, place, repaired, level + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        repaired["numbers that are not finite (null)"] += 1
        return None
    return value
