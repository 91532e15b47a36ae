"""Turns one by one: rows of a table, lines of ConvoKit's `utterances.jsonl`, Whisper's segments."""

import contextlib
import csv
import heapq
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import is_blank, seconds
from rpcl_jax.readers.subtitles import recording

# What a field is called in lower case, without spaces, hyphens and underscores.
_NAMES = {
    "text": ("text", "utterance", "message", "content"),
    "speaker": ("speaker", "speakername", "user", "name", "author"),
    "conversation": (
        "dialogueid",
        "dialogid",
        "conversationid",
        "dialogue",
        "conversation",
        "root",
    ),
    "number": ("utteranceid", "turnid", "turn"),
    "id": ("id",),
    "emotion": ("emotion",),
    "start": ("starttime", "start"),
    "end": ("endtime", "end"),
    "video": ("video", "videoname"),
    "season": ("season",),
    "episode": ("episode",),
    "reply": ("replyto",),
    "time": ("timestamp",),
    "source": ("source",),
}
_FIELDS = {name: field for field, names in _NAMES.items() for name in names}
_PREDICTED = "causes"  # a column of the tables that predictions are written to
_DELIMITERS = ",;\t|"


def is_turn(item: Any) -> bool:
    """Returns whether a JSON object is one turn, and not a conversation."""
    whole = isinstance(item, Mapping) and any(
        isinstance(item.get(key), list) for key in ("utterances", "conversation", "segments")
    )
    return isinstance(item, Mapping) and not whole and "text" in _columns(item)


def is_table(line: str) -> bool:
    """Returns whether a line is the head of a table of turns."""
    try:
        columns = _columns(_head(line)[1])
    except csv.Error:
        return False
    return "text" in columns and len(columns) > 1


def _columns(names: Iterable[str | None]) -> dict[str, str]:
    """Returns the fields of `_NAMES` that are among `names`, and what they are called there."""
    columns: dict[str, str] = {}
    for name in names:
        field = _FIELDS.get(re.sub(r"[\s_-]", "", name or "").lower())
        if field and name:
            columns.setdefault(field, name)
    return columns


def _head(line: str) -> tuple[str, list[str]]:
    """Returns the delimiter of a table, by its first line, and the names of its columns."""
    named = {d: next(csv.reader([line], delimiter=d), []) for d in _DELIMITERS}
    delimiter = max(named, key=lambda d: len(_columns(named[d])))
    return delimiter, named[delimiter]


def read_table(text: str, where: str) -> list[Mapping[str, Any]]:
    """Reads the rows of a table, as `csv.DictReader` returns them.

    The first line names the columns; the delimiter is a comma, a semicolon, a tab or "|".

    Args:
      text: of the file.
      where: the name of the file.

    Raises:
      InputError: there is no column of texts, no row, or the quotation marks are wrong.
    """
    if text.lower().startswith("sep="):  # Excel's
        text = text.partition("\n")[2]
    line = text.partition("\n")[0].rstrip("\r")
    try:
        delimiter, names = _head(line)
        if "text" not in _columns(names):
            raise InputError(
                f"{where}: its first line {line[:60]!r} names no column 'text' or 'Utterance'; "
                "name the columns there (docs/data.md)"
            )
        try:
            rows = _rows(text, delimiter, csv.QUOTE_MINIMAL)
        except csv.Error:
            if delimiter != "\t":
                raise
            rows = _rows(text, delimiter, csv.QUOTE_NONE)  # its texts may contain anything else
    except csv.Error as error:
        raise InputError(
            f"{where}: {error}; put texts in quotation marks, and double those within them"
        ) from error
    if not rows:
        raise InputError(f"{where}: has no row below its first line; check the file")
    return rows


def _rows(text: str, delimiter: str, quoting: Any) -> list[Mapping[str, Any]]:
    file = io.StringIO(text, newline="")
    return list(csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True))


def group_turns(
    turns: Iterable[Mapping[str, Any]], name: str, where: str
) -> Iterator[tuple[str, Any]]:
    """Yields the conversations of turns in our format with their places, or their errors.

    A turn without the id of its conversation belongs to that of the turn before. The turns of a
    conversation are put in the order of their replies and times; without these, of their numbers.
    In a table of predictions, conversations from different sources are different ones, and so are
    those of one source with the same id: the n-th row with one number belongs to the n-th of them.

    Args:
      turns: objects or rows whose keys are those of `_NAMES`.
      name: of the file: the id of a conversation that has none, and the recording that times refer
        to where no other is named.
      where: the name of the file.
    """
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    seen = Counter[tuple[str, str, str]]()
    current = name
    for turn in turns:
        row = {field: turn[key] for field, key in _columns(turn).items()}
        row["more"] = [cell for cell in turn.get(None, ()) if cell]  # type: ignore[call-overload]
        if not is_blank(row.get("conversation")):
            current = str(row["conversation"])
        source, time = "", 0
        if _PREDICTED in turn:
            source = "" if is_blank(row.get("source")) else str(row["source"])
            key = (source, current, str(row.get("number")))
            time, seen[key] = seen[key], seen[key] + 1
        groups.setdefault((source, current, time), []).append(row)
    for (source, conversation, _), rows in groups.items():
        place = f"{where}: conversation {conversation!r}{f' of {source}' if source else ''}"
        more = next((row["more"] for row in rows if row["more"]), None)
        if more:
            cell = more[-1][:40]
            error = f"{place}: a row has more cells than there are columns, at the end {cell!r}"
            yield place, InputError(f"{error}; put texts with the delimiter in quotation marks")
            continue
        utterances = [_utterance(row, conversation, name) for row in _ordered(rows)]
        ids = [utterance["id"] for utterance in utterances if "id" in utterance]
        if len(set(ids)) < len(ids):
            for utterance in utterances:
                utterance.pop("id", None)
        yield (
            place,
            {
                **({"source": source} if source else {}),
                "id": conversation,
                "utterances": utterances,
            },
        )


def _utterance(row: Mapping[str, Any], conversation: str, name: str) -> dict[str, Any]:
    text, emotion, number = row.get("text"), row.get("emotion"), row.get("number")
    item = {"speaker": row.get("speaker"), "text": text.strip() if isinstance(text, str) else text}
    if "conversation" in row:
        if _number(number) is not None:
            item["id"] = f"dia{conversation}_utt{str(number).strip()}"  # so are MELD's clips named
        elif isinstance(row.get("id"), str):
            item["id"] = row["id"]
    if isinstance(emotion, str) and emotion.strip():
        item["emotion"] = emotion.strip()
    clip = {"start": _time(row.get("start")), "end": _time(row.get("end"))}
    video, season, episode = (
        row.get("video"),
        _number(row.get("season")),
        _number(row.get("episode")),
    )
    if isinstance(video, str) and video.strip():
        item["clip"] = {"video": video.strip(), **clip}
    elif clip["start"] is not None or clip["end"] is not None:
        film = season is not None and episode is not None
        item["clip"] = {
            "video": f"S{season:02.0f}E{episode:02.0f}" if film else recording(name),
            **clip,
        }
    return item


def _time(value: Any) -> Any:
    """Returns a time in seconds, None if it is blank, and as it is if it is no time."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    time = seconds(value)
    return value if time is None else time  # the reader of our form counts it as unusable


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the turns of a conversation in the order in which they were said, as far as known."""
    times = [_number(row.get("time")) for row in rows]
    if None in times:
        times = [0.0] * len(rows)
    if any("reply" in row or "time" in row for row in rows):
        places = {str(row.get("id")): k for k, row in enumerate(rows)}
        parents = [places.get(str(row.get("reply")), k) for k, row in enumerate(rows)]
        answers: dict[int, list[int]] = {}
        for k, parent in enumerate(parents):
            answers.setdefault(parent, []).append(k)
        # The earliest turn whose question has been said is next.
        ready = [(times[k], k) for k, parent in enumerate(parents) if parent == k]
        heapq.heapify(ready)
        order: dict[int, None] = {}
        while ready:
            k = heapq.heappop(ready)[1]
            order[k] = None
            for answer in answers.get(k, ()):
                if answer not in order:
                    heapq.heappush(ready, (times[answer], answer))
        rest = (k for k in range(len(rows)) if k not in order)  # in a circle of replies
        return [rows[k] for k in (*order, *rest)]
    numbers = [_number(row.get("number")) for row in rows]
    if None in numbers:
        return rows
    return [rows[k] for k in sorted(range(len(rows)), key=lambda k: numbers[k] or 0.0)]


def _number(value: Any) -> float | None:
    """Returns a number, or a time in ISO 8601 as a number, or None."""
    for convert in (float, lambda text: datetime.fromisoformat(text).timestamp()):
        with contextlib.suppress(ValueError, OverflowError, OSError):
            number = convert(str(value).strip())
            if math.isfinite(number):
                return number
    return None
