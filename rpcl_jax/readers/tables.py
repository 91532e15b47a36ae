"""Turns one by one: rows of a table, lines of ConvoKit's `utterances.jsonl`, lists in any JSON."""

import contextlib
import csv
import heapq
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import NOT_SAID, is_blank, plain_text, seconds, with_ends
from rpcl_jax.readers.subtitles import are_single_words, named, recording

# What a field is called in lower case, without spaces, hyphens, underscores and dots.
_NAMES = {
    "text": "text utterance utterancetext transcript transcription sentence message content body "
    "words alternativestranscript nbestdisplay elements",
    "speaker": "speaker speakername speakerlabel speakerid speakers speakeridx user sendername "
    "sender authornickname authorname author username participant participantrole role from "
    "authorusername creatorname participantid agent name",
    "conversation": "dialogueid dialogid conversationid dialogue conversation root convid diaid "
    "sessionid session chatid threadid",
    "scene": "sceneid scene",
    "number": "utteranceid turnid turn utteranceidx turnidx utteranceindex turnindex utteranceno "
    "turnno",
    "id": "id",
    "emotion": "emotion",
    "start": "starttime start begin timestampsfrom",
    "end": "endtime end stop timestampsto",
    "duration": "duration",
    "start_ms": "startms offsetmilliseconds offsetsfrom beginoffsetmillis",
    "end_ms": "endms offsetsto endoffsetmillis",
    "duration_ms": "durationms durationmilliseconds",
    "video": "video videoname",
    "season": "season",
    "episode": "episode",
    "reply": "replyto",
    "time": "timestamp timestampms ts date createdat created createdutc createddate datetime "
    "sentat sent sentdate senton time",
    "kind": "subtype type",
    "source": "source",
}
COLUMN_FIELDS = tuple(field for field in _NAMES if field not in ("source", "kind", "scene"))
# Messages that a program wrote, not a person: Telegram's, Slack's, Discord's.
_NOTICE = re.compile(
    r"service|(channel|group)_(?!mention)\w+|\w*(Join|Leave|Pinned\w*|Recipient\w+)|Call"
)
_NO_SPEAKERS = {"system", "developer", "tool", "function"}  # beside an assistant
_UNORDERED = "conversations whose dates are not read (in the order of the file)"
_PREDICTED = "causes"  # a column of the tables that predictions are written to
_DELIMITERS = ",;\t|"
_KEYS = re.compile(r"(^|[\W_])(ids?|no|nr|num|number|key|uuid)$|[a-z]I[Dd]$")
_OF_CONVERSATIONS = re.compile(
    r"conv|dialog|session|chat|thread|scene|call|meeting|interview|episode|channel|room|gro?u?p|"
    r"case|story|video|file|record|ticket|docu?|wav|dyad|patient|client|couple|user|tree|parent|"
    r"audio|ur[li]$|link|title|movie|film|clip|talk|pair|debate|podcast|speech$|lecture",
    re.IGNORECASE,
)
_OF_TURNS = re.compile(
    r"sentiment|emotion|label|(^|_)acts?$|intent|valence|arousal|polarity|score|lang|gender|role"
    r"|topic|phase|strategy|status|duration",
    re.IGNORECASE,
)
_DATES = [
    "%a %b %d %H:%M:%S %z %Y",  # Twitter's
    "%A, %B %d, %Y at %I:%M:%S %p",  # Google Chat's
    "%Y-%m-%d %H:%M:%S",
    *(
        f"{date} {clock}"
        for date in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y")
        for clock in ("%H:%M", "%H:%M:%S", "%I:%M %p")
    ),
]
# Columns of which all turns of a conversation have the same value.
_OF_PARTS = re.compile(
    r"split|set|subset|fold|lang|language|rater|annotator|worker(_?id)?|version", re.IGNORECASE
)
_WITHIN = re.compile(r"(?:^|\s)([A-Z]\w{1,20}):\s")  # names of turns
_NOISE = re.compile(r"\s*(\[[\w ]+\]|[♪♫].*)\s*")  # [BLANK_AUDIO]
# Seconds that a word takes: most words at most, with their pauses, and nearly all at least.
SLOWEST, _QUICKEST = 8.0, 0.1
_SENTENCE_END = re.compile(r"(?:[.?!…。？！]|\n)\W*\s*\w")  # before another sentence


def parse_columns(given: Sequence[str]) -> dict[str, str]:
    """Returns which field is in which column, from "text=utterance_text" and the like."""
    columns = {}
    for item in given:
        field, equals, column = (part.strip() for part in item.partition("="))
        if field not in COLUMN_FIELDS or not equals:
            raise InputError(
                f"--columns: {item!r} must be FIELD=COLUMN, and FIELD one of "
                f"{', '.join(COLUMN_FIELDS)}"
            )
        columns[field] = column
    return columns


def known_columns(names: Iterable[Any], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns which field is in which column: as `given`, where "" is none, else by its name."""
    given = given or {}
    columns: dict[str, str] = {}
    names = [name for name in names if isinstance(name, str)]
    plain = {re.sub(r"[\s_.-]", "", name).lower(): name for name in reversed(names)}
    for field, known in _NAMES.items():
        found = (
            given[field]
            if field in given
            else next((plain[k] for k in known.split() if k in plain), "")
        )
        if found:
            columns[field] = found
    if columns.get("conversation") == columns.get("text") and "conversation" not in given:
        columns.pop("conversation", None)
    scene = columns.pop("scene", "")
    if scene and "conversation" not in columns and "conversation" not in given:
        parts = (columns.get("season"), columns.get("episode"), scene)
        columns["conversation"] = "+".join(filter(None, parts))
    return columns


def is_table(line: str, given: Mapping[str, str] | None = None) -> bool:
    """Returns whether a line is the head of a table of turns."""
    try:
        _, names, columns = _head(line, given)
    except csv.Error:
        return False
    return columns.get("text") in names and len(columns) > 1


def _head(line: str, given: Mapping[str, str] | None) -> tuple[str, list[str], dict[str, str]]:
    """Returns the delimiter of a table, by its first line, the columns and what they are."""
    heads = []
    for delimiter in _DELIMITERS:
        names = next(csv.reader([line], delimiter=delimiter), [])
        columns = known_columns(names, given)
        fit = sum(column in names for column in columns.values()), len(names)
        heads.append((fit, (delimiter, names, columns)))
    return max(heads, key=lambda head: head[0])[1]


def read_table(
    text: str, where: str, given: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the turns of a table, as `group_turns` takes them.

    The first line names the columns; the delimiter is a comma, a semicolon, a tab or "|".
    """
    if text.lower().startswith("sep="):  # Excel's
        text = text.partition("\n")[2]
    if text.startswith("|"):  # Markdown's
        lines = (re.sub(r"\s*\|\s*", "|", line.strip()).strip("|") for line in text.split("\n"))
        text = "\n".join(line for line in lines if not re.fullmatch(r"[-:|\s]+", line))
    line = text.partition("\n")[0].rstrip("\r")
    try:
        delimiter, names, columns = _head(line, given)
        missing = [c for column in (given or {}).values() for c in column.split("+") if c]
        missing = [column for column in missing if column not in names]
        twice = [name for name, count in Counter(names).items() if count > 1 and name]
        if {*twice} & {*columns.values()}:
            raise InputError(f"{where}: two columns are called {twice[0]!r}; rename one")
        if missing or "text" not in columns:
            what = f"{missing[0]!r} of --columns" if missing else "'text' or 'Utterance'"
            raise InputError(
                f"{where}: its first line names no column {what}, but {', '.join(names)[:200]}; "
                "say which has the texts, --columns=text=NAME,speaker=NAME, or add a line of names"
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
    if columns.get("kind", "").lower() == "type":  # in a table, it may be anything
        columns.pop("kind")
    if "speaker" not in (given or {}):
        _choose_speaker(rows, names, columns)
    first = {row.get(names[0]) for row in rows}
    for row in rows:
        inner = [
            line
            for cell in row.values()
            if isinstance(cell, str)
            for line in cell.split("\n")[1:]
            if line.count(delimiter) == len(names) - 1 and line.split(delimiter)[0] in first
        ]
        if inner:
            raise InputError(
                f"{where}: a cell has several rows in it, {inner[0][:40]!r}; a quotation mark is "
                "open or too many, so write those within texts twice"
            )
        yield turn_of(row, columns)


def _choose_speaker(
    rows: Sequence[Mapping[Any, Any]], names: Iterable[str], columns: dict[str, str]
) -> None:
    """Sets the column of speakers to one that varies within conversations, of several."""
    plain = {re.sub(r"[\s_.-]", "", name).lower(): name for name in names}
    known = [plain[name] for name in _NAMES["speaker"].split() if name in plain]
    role, name = plain.get("role"), plain.get("name")
    told = columns.get("conversation", "")

    def count(*of: str) -> int:
        return len({tuple(str(row.get(column)) for column in of) for row in rows})

    varying = [column for column in known if count(told, column) > count(told)]
    if role and any(row.get(role) == "assistant" for row in rows):
        columns["speaker"] = role
    elif varying:
        columns["speaker"] = varying[0]
        # "Analyst", by role, may be two people.
        if varying[0] == role and name and count(role, name) == count(name) < len(rows):
            columns["speaker"] = name


def _rows(text: str, delimiter: str, quoting: Any) -> list[dict[Any, Any]]:
    file = io.StringIO(text, newline="")
    return list(csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True))


def turn_of(row: Mapping[Any, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns what a row has in each field, and under "others" what else it has.

    A column "season+episode" is both, with "_" between. Of a row of a table with too many cells,
    "more" has those.
    """
    turn: dict[str, Any] = {
        field: row.get(column)
        if column in row or "+" not in column
        else "_".join(str(row.get(part)) for part in column.split("+"))
        for field, column in columns.items()
    }
    used = {part for column in columns.values() for part in (column, *column.split("+"))}
    turn["others"] = {k: v for k, v in row.items() if k is not None and k not in used}
    turn["more"] = [cell for cell in row.get(None, ()) if cell]
    turn["predicted"] = _PREDICTED in row
    return turn


def group_turns(
    turns: Iterable[dict[str, Any]],
    name: str,
    where: str,
    repaired: Counter[str],
    given: Mapping[str, str] | None = None,
    together: bool = False,
) -> Iterator[tuple[str, Any]]:
    """Yields the conversations of turns in our format with their places, or their errors.

    A turn without the id of its conversation belongs to that of the turn before. The turns of a
    conversation are put in the order of their replies and times; without these, of their numbers.
    In a table of predictions, conversations from different sources are different ones, and so are
    those of one source with the same id: the n-th row with one number belongs to the n-th of them.

    Args:
      turns: from `turn_of`.
      name: of the file: the id of a conversation that has none, and the recording that times refer
        to where no other is named.
      repaired: counts what is left out, and the files with columns that are not read, by these.
      given: of --columns.
      together: whether they are in a list of their own, and not perhaps texts of any kind.

    Raises:
      InputError: it is unsure where a conversation ends, or what unit the times have.
    """
    given = given or {}
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    seen = Counter[tuple[str, str, str]]()
    current = name
    given_rows = list(turns)
    model = any(
        row.get("speaker") in ("assistant", "gpt") for row in given_rows
    )  # and perhaps its prompt
    rows = [row for row in given_rows if not _is_notice(row, model)]
    if "conversation" not in given and any("thread_ts" in row["others"] for row in rows):
        for row in rows:  # Slack's; what is in no thread is the conversation of the channel
            row["conversation"] = row["others"].pop("thread_ts", None) or name
    repaired[NOT_SAID] += len(given_rows) - len(rows)
    if not rows:
        raise InputError(f"{where}: nobody says anything in it; check which column has the texts")
    if "conversation" not in given and not any("conversation" in row for row in rows):
        _check_one_conversation(rows, where, together)
    _set_times(rows, where, given, repaired)
    if rows and not rows[0]["predicted"] and (unread := _unread(rows[:100])):
        listed = ", ".join(column[:30] for column in unread[:8]) + ", …" * (len(unread) > 8)
        repaired[f"files with columns that are not read, {listed}"] += 1
    for row in rows:
        if not is_blank(row.get("conversation")):
            current = str(row["conversation"])
        source, time = "", 0
        if row["predicted"]:
            source = "" if is_blank(row.get("source")) else str(row["source"])
            key = (source, current, str(row.get("number")))
            time, seen[key] = seen[key], seen[key] + 1
        groups.setdefault((source, current, time), []).append(row)
    for (source, conversation, _), group in groups.items():
        place = f"{where}: conversation {conversation!r}{f' of {source}' if source else ''}"
        try:
            _check_group(group, place)
        except InputError as error:
            yield place, error
            continue
        utterances = [_utterance(row, conversation, name) for row in _ordered(group, repaired)]
        ids = [utterance["id"] for utterance in utterances if "id" in utterance]
        if len(set(ids)) < len(ids):
            for utterance in utterances:
                utterance.pop("id", None)
        of = {"source": source} if source else {}
        yield place, {**of, "id": conversation, "utterances": utterances}


def _is_notice(row: Mapping[str, Any], model: bool) -> bool:
    """Returns whether nobody said this: a notice of a program, a file, a model's prompt or tool."""
    kind = row.get("kind")
    notice = isinstance(kind, str) and bool(_NOTICE.fullmatch(kind))
    media = kind is not None and is_blank(plain_text(row.get("text")))
    told = (plain_text(row.get("text")), row.get("speaker"), row.get("conversation"))
    nothing = all(map(is_blank, told)) or bool(_NOISE.fullmatch(told[0]) and is_blank(told[1]))
    return notice or media or nothing or (model and row.get("speaker") in _NO_SPEAKERS)


def _check_one_conversation(rows: list[dict[str, Any]], where: str, together: bool) -> None:
    """Raises InputError if a column that is not read, or the times, tell several conversations."""
    of_rows = [
        {
            "speaker": row.get("speaker"),
            "others": {k: row[k] for k in ("video", "episode") if k in row},
        }
        for row in rows
    ]
    read = [column for column in _unread(of_rows[:1]) if _is_in_blocks(column, of_rows)]
    for column in (*_unread(rows), *read):
        if column in read or _may_tell_conversations(column, rows):
            raise InputError(
                f"{where}: does {column!r} tell the conversations apart? then add "
                f"--columns=conversation={column}, and if all is one, --columns=conversation="
            )
    speakers = [str(row.get("speaker")) for row in rows]
    told = any({"number", "start", "start_ms", "reply"} & set(row) for row in rows)
    if not (together or told) and len(rows) > 3 and len({*speakers}) == len(rows):
        raise InputError(
            f"{where}: nobody speaks twice, so these may be texts of any kind; if all is one "
            "conversation, add --columns=conversation="
        )
    ids = [row.get("id") or row.get("number") for row in rows]
    stems = [re.sub(r"[\W_]*[A-Za-z]{0,3}\d+$", "", i) if isinstance(i, str) else "" for i in ids]
    if 1 < _blocks(stems) == len({*stems}) < len(rows) and min(map(len, stems)) > 3:
        raise InputError(
            f"{where}: ids such as {ids[0]!r} and {ids[-1]!r} seem to tell several conversations; "
            "name a column that does, --columns=conversation=NAME, or, if all is one, "
            "--columns=conversation="
        )
    known = {field for row in rows for field in row if row[field] is not None}
    known &= {"speaker", "number", "start", "start_ms", "reply"}
    if not (known or together) and any(_unread(rows) or {"emotion", "id"} & set(rows[0])):
        raise InputError(
            f"{where}: nothing tells who speaks or where a conversation ends; name the column, "
            "--columns=speaker=NAME,conversation=NAME, or, if all is one, --columns=conversation="
        )
    ordered = any("number" in row or "time" in row or "reply" in row for row in rows)
    starts = [time for row in rows if (time := seconds(row.get("start"))) is not None]
    if ordered or len(starts) < len(rows) or starts == sorted(starts):
        return
    blocks: list[set[str]] = [set()]
    for speaker, before, start in zip(speakers, [starts[0], *starts], starts, strict=False):
        if start < before - 60 or before - start > 0.75 * (before - starts[0]):
            blocks.append(set())
        blocks[-1].add(speaker)
    several = any(len(speakers) > 1 for speakers in blocks)
    newest_first = starts == sorted(starts, reverse=True)
    if not newest_first and len(blocks) > 1 and (several or len({*map(str, blocks)}) < len(blocks)):
        raise InputError(
            f"{where}: its times begin anew; if these are several conversations, name the column "
            "that tells them apart, --columns=conversation=NAME, else sort it by time"
        )
    rows.sort(key=lambda row: seconds(row["start"]) or 0.0)  # a speaker after the other, as of ELAN


def _blocks(values: Sequence[str]) -> int:
    return 1 + sum(one != other for one, other in pairwise(values))


def _unread(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the columns that are not read."""
    return list(dict.fromkeys(str(name) for row in rows for name in row["others"]))


def _may_tell_conversations(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether a column seems to have the conversation of each row, and not its speaker.

    A column with such a name does if a value is there twice, any other id if its values come in
    blocks.
    """
    values = [str(row["others"].get(column)) for row in rows]
    if any(isinstance(row["others"].get(column), (list, dict)) for row in rows):
        return False
    count = len({*values})
    blocks = _blocks(values)
    named_so = _OF_CONVERSATIONS.search(column) or (_KEYS.search(column) and blocks == count)
    speakers = {str(row.get("speaker")) for row in rows}
    pairs = len({(value, str(row.get("speaker"))) for value, row in zip(values, rows, strict=True)})
    of_speaker = pairs == count > 1 < len(speakers) or (pairs == len(speakers) and blocks > count)
    likely = bool(named_so) and not _OF_TURNS.search(column)
    return likely and 1 < count < len(rows) and not of_speaker


def _is_in_blocks(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether each value of a column is that of several rows, one after the other."""
    values = [str(row["others"][column]) for row in rows]
    return 1 < _blocks(values) == len({*values}) <= len(rows) / 2


def _check_group(rows: Sequence[Mapping[str, Any]], place: str) -> None:
    """Raises InputError if the rows cannot be one conversation of turns."""
    more = next((row["more"] for row in rows if row["more"]), None)
    if more:
        raise InputError(
            f"{place}: a row has more cells than there are columns, at the end {more[-1][:40]!r}; "
            "put texts with the delimiter in quotation marks"
        )
    numbers = Counter(number for row in rows if (number := _number(row.get("number"))) is not None)
    twice, count = numbers.most_common(1)[0] if numbers else (0, 1)
    if count > 1 and not rows[0]["predicted"]:
        might = [
            column
            for column in _unread(rows)
            if len({(row["others"].get(column), row.get("number")) for row in rows}) == len(rows)
            and len({row["others"].get(column) for row in rows}) < len(rows)
        ]
        raise InputError(
            f"{place}: turn number {twice:g} is there {count} times, so these are several "
            f"conversations; name the column that tells them apart, "
            f"--columns=conversation={' or '.join(might) or 'NAME'} (A+B joins two), or, if it "
            "numbers something else, --columns=number="
        )
    for column in filter(_OF_PARTS.fullmatch, _unread(rows)):
        parts = list(dict.fromkeys(str(row["others"].get(column)) for row in rows))
        if 1 < len(parts) < len(rows) and not rows[0]["predicted"]:
            raise InputError(
                f"{place}: its turns have several values of {column!r}, such as {parts[0][:20]!r} "
                f"and {parts[1][:20]!r}; make a file of each, or join the column to that of "
                f"conversations, --columns=conversation=NAME+{column}"
            )
    texts = [plain_text(row.get("text")) for row in rows]
    beginnings = [text.split("\n")[:2] for text in texts]
    turns = sum(len(lines) == 2 and all(all(named(x)) for x in lines) for lines in beginnings)
    within = [{*_WITHIN.findall(text)} for text in texts]
    inline = len(rows) > 1 and all(len(names) > 1 for names in within)
    if 2 * turns >= len(texts) or (inline and set.intersection(*within)):
        raise InputError(f"{place}: its texts have several turns each; write a row for each turn")
    if len(texts) > 1 and len({*texts}) == 1 and len(texts[0].split()) > 3:
        raise InputError(
            f"{place}: every turn has the same text; name the column of turns, --columns=text=NAME"
        )
    emotions = [str(row.get("emotion") or "") for row in rows]
    if any(e.startswith(" ") and " " in e.strip() for e in emotions):
        raise InputError(
            f"{place}: a cell begins with a space, so a comma in a text may have parted it; put "
            "texts with commas in quotation marks"
        )
    if sum(text.lstrip().startswith(("['", '["')) for text in texts) > len(texts) / 2:
        raise InputError(f"{place}: its texts are lists of turns; write a row for each turn")
    if are_single_words(texts):
        raise InputError(f"{place}: its texts are single words; join them to a text for each turn")
    everything = is_blank(rows[0].get("speaker")) and _SENTENCE_END.search(texts[0])
    if len(rows) == 1 and (everything or rows[0].get("parts")):
        raise InputError(
            f"{place}: one text of {len(texts[0].split())} words is everything; write a row, or an "
            "object with 'text', for each turn"
        )


def _set_times(
    rows: Sequence[dict[str, Any]], where: str, given: Mapping[str, str], repaired: Counter[str]
) -> None:
    """Makes `start` and `end` seconds, as far as they are times."""
    for row in rows:
        if isinstance(row.get("time"), list) and len(row["time"]) == 2:  # Transformers' chunks
            row["start"], row["end"] = row.pop("time")
    thousandth = "start" not in given and _are_milliseconds(rows, where)
    repaired["files with times in milliseconds"] += thousandth
    for row in rows:
        for field in ("start", "end", "duration"):
            unit = 1000 if thousandth or f"{field}_ms" in row else 1
            value = row.get(f"{field}_ms") if f"{field}_ms" in row else row.get(field)
            time = seconds(value)  # the reader of our form counts what is no time as unusable
            row[field] = time / unit if time is not None else None if is_blank(value) else value
        start, length = row["start"], row["duration"]
        if row["end"] is None and isinstance(start, float) and isinstance(length, float):
            row["end"] = start + length
    if all(row["end"] is None and "video" not in row and "conversation" not in row for row in rows):
        for row, (_, end) in zip(rows, with_ends([(r["start"], None) for r in rows]), strict=True):
            row["end"] = end


def _are_milliseconds(rows: Sequence[Mapping[str, Any]], where: str) -> bool:
    """Returns whether times, mostly whole numbers, are so far apart that no speech fills them."""
    given = [[row.get(field) for field in ("start", "end", "duration")] for row in rows]
    spelled = [str(time).strip() for times in given for time in times if not is_blank(time)]
    whole = sum(time.removesuffix(".0").isdecimal() for time in spelled)
    if any(":" in time for time in spelled) or 2 * whole <= len(spelled):
        return False
    times = [[seconds(time) for time in of] for of in given]
    spans = with_ends([(start, end) for start, end, _ in times])
    paces = sorted(
        (end - start if length is None else length) / spoken_words(plain_text(row.get("text")))
        for row, (start, end), (*_, length) in zip(rows, spans, times, strict=True)
        if length is not None or None not in (start, end)
    )
    alone = all(is_blank(time) for times in given for time in times[1:])
    if not paces or median(paces) <= SLOWEST:
        return False
    if (
        not alone
        and median(paces) <= 1000 * SLOWEST
        and paces[len(paces) // 10] >= 1000 * _QUICKEST
    ):
        return True
    raise InputError(
        f"{where}: its times may be seconds or milliseconds; say which: "
        "--columns=start=NAME,end=NAME or --columns=start_ms=NAME,end_ms=NAME"
    )


def spoken_words(text: str) -> float:
    """Returns about how many words it takes to say a text, at least one."""
    return max(1.0, len(text.split()), len(text) / 8)


def _utterance(row: Mapping[str, Any], conversation: str, name: str) -> dict[str, Any]:
    text, emotion, number = row.get("text"), row.get("emotion"), row.get("number")
    text = plain_text(text).strip() if isinstance(text, (str, list)) else text
    speaker = row.get("speaker")
    speaker = ", ".join(map(str, speaker)) if isinstance(speaker, list) else speaker
    if isinstance(speaker, str):  # perhaps a list in a cell
        speaker = re.sub(r"^\['|'\]$", "", _unbroken(speaker.strip())).replace("', '", ", ")
    if isinstance(text, str):
        text = _unbroken(text).replace("_comma_", ",")  # EmpatheticDialogues'
    item = {"speaker": speaker, "text": text}
    if "conversation" in row:
        if _number(number) is not None:
            item["id"] = f"dia{conversation}_utt{str(number).strip()}"  # so are MELD's clips named
        elif isinstance(row.get("id"), str):
            item["id"] = row["id"]
    if isinstance(emotion, str) and emotion.strip():
        item["emotion"] = emotion.strip()
    video, season, episode = row.get("video"), *map(_number, map(row.get, ("season", "episode")))
    named = isinstance(video, str) and bool(video.strip())
    if named or row["start"] is not None or row["end"] is not None:
        film = None not in (season, episode) and f"S{season:02.0f}E{episode:02.0f}"
        item["clip"] = {
            "video": str(video).strip() if named else film or recording(name),
            "start": row["start"],
            "end": row["end"],
        }
    return item


def _unbroken(text: str) -> str:
    """Returns a text whose UTF-8 was read as Latin-1, as Meta exports it, as it was."""
    with contextlib.suppress(UnicodeError):
        return text.encode("latin-1").decode()
    return text


def _ordered(rows: list[dict[str, Any]], repaired: Counter[str]) -> list[dict[str, Any]]:
    """Returns the turns of a conversation in the order in which they were said, as far as known."""
    times = _moments([row.get("time") for row in rows])
    if times is None:
        repaired[_UNORDERED] += not all(is_blank(row.get("time")) for row in rows)
        times = [0.0] * len(rows)
    if any("reply" in row or "time" in row for row in rows):
        places = {str(row.get("id")): k for k, row in enumerate(rows)}
        parents = [
            k if is_blank(row.get("reply")) else places.get(str(row["reply"]), k)
            for k, row in enumerate(rows)
        ]
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


def _moments(times: Sequence[Any]) -> list[float] | None:
    """Returns moments as numbers, or None if they are unknown or tell no order.

    Times of day tell none, because they may go on after midnight or noon, unless the newest is
    first, nor do dates such as 2/1/2023 that are in another order with the month first than with
    the day first.
    """
    texts = [str(time).strip().removesuffix(" UTC") for time in times]
    clocks = any(re.fullmatch(r"\d+:[\d:]+(?: ?[AaPp]\.?[Mm]\.?)?", text) for text in texts)
    numbers = [None if clocks else _number(time) for time in times]
    if None not in numbers:
        return [number for number in numbers if number is not None]
    if clocks:
        return _newest_first(texts)
    found = []
    for spelled in _DATES:
        with contextlib.suppress(ValueError):
            moments = [datetime.strptime(text, spelled).timestamp() for text in texts]
            order = sorted(range(len(moments)), key=lambda k: moments[k])
            found.append((order, moments))
    return found[0][1] if found and all(order == found[0][0] for order, _ in found) else None


def _newest_first(clocks: Sequence[str]) -> list[float] | None:
    """Returns times of day as numbers if all go back and some do, else None."""
    minutes = [
        re.fullmatch(r"(\d+):(\d+)(?::\d+)? ?([AaPp]?)\.?[Mm]?\.?", clock) for clock in clocks
    ]
    times = [
        (int(m[1]) % 12 + 12 * (m[3] in "Pp") if m[3] else int(m[1])) * 60.0 + int(m[2])
        for m in minutes
        if m
    ]
    back = len(times) == len(clocks) > 2 and times == sorted(times, reverse=True) != sorted(times)
    return times if back else None


def _number(value: Any) -> float | None:
    """Returns a number, or a time in ISO 8601 as a number, or None."""
    for convert in (seconds, float, lambda text: datetime.fromisoformat(text).timestamp()):
        with contextlib.suppress(ValueError, TypeError, OverflowError, OSError):
            number = convert(str(value).strip())
            if number is not None and math.isfinite(number):
                return number
    return None
