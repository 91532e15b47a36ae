"""Functions shared by the readers of JSON.

What is trained on must be right. In conversations for a prediction, `ReadLog.repaired` counts what
is repaired: speakers and texts that are missing or blank, numbers for strings, unusable clips.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.errors import Faults, InputError
from rpcl_jax.files import check_not_pointer

# Of an utterance without text, in our form and in SemEval's.
_FIELDS = {
    *("id", "speaker", "emotion", "emotion_probability", "clip", "utterance_ID"),
    *("video", "video_name", "video_source", "start", "end"),
}
UNKNOWN_SPEAKER = "unknown"
NOT_SAID = "notices, titles, times, sounds and files (nobody said them; left out)"
_TIME = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,2}):)?(\d{1,9}(?:[.,]\d{1,9})?) ?s?", re.ASCII)


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON file: a list of conversations, a single one, or one per line.

    Raises:
      InputError: the file is missing, not UTF-8 or not JSON, or a key of an object is duplicated.
    """
    check_not_pointer(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from error
    try:
        parsed = _parse(text)
        return parsed if isinstance(parsed, list) else [parsed]
    except json.JSONDecodeError as error:
        # "Extra data" means that another object follows the first: one conversation per line.
        if not (error.msg == "Extra data" and text.lstrip().startswith("{")):
            raise _not_json(path, error.lineno, error) from error
    except (ValueError, RecursionError) as error:  # duplicate key, huge number, deep nesting
        raise InputError(f"{path}: cannot be read ({error}); correct it") from error
    objects = []
    faults = Faults()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            with faults.collected():
                objects.append(parse_json(line, str(path), number))
    faults.check()
    return objects


def check_some_text(turns: Sequence[Any], where: str) -> None:
    """Raises InputError if no turn has a "text", but some a field of a name that is not known."""
    fields = {name for turn in turns if isinstance(turn, Mapping) for name in turn}
    strange = sorted(fields - _FIELDS)
    if strange and "text" not in fields:
        raise InputError(f"{where}: no utterance has a 'text', but {strange[0]!r}; rename it")


def parse_json(text: str, where: str, first: int = 1) -> Any:
    """Returns the value of a JSON text, which starts in line `first` of the file `where`.

    Raises:
      InputError: it is not JSON, or a key of an object is duplicated.
    """
    try:
        return _parse(text)
    except json.JSONDecodeError as error:
        raise _not_json(where, first - 1 + error.lineno, error) from error
    except (ValueError, RecursionError) as error:  # duplicate key, huge number, deep nesting
        raise InputError(f"{where}:{first}: cannot be read ({error}); correct it") from error


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object; the json module would silently keep the last of two values."""
    keys = [key for key, _ in items]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{repeated[:40]!r} is duplicated")
    return dict(items)


def _not_json(path: Path | str, line: int, error: json.JSONDecodeError) -> InputError:
    return InputError(
        f"{path}: line {line}, column {error.colno} is not JSON ({error.msg}); give a list of "
        "conversations or one conversation per line"
    )


def field(item: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Returns `item[key]` after checking it.

    Args:
      item: an object of a JSON file.
      key: the field.
      kind: its type or types; bool is not accepted as int.
      where: file and place, with which the message starts.

    Raises:
      InputError: `item` is not an object, or the field is missing, blank or of another type.
    """
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: expected an object with {key!r} but found {str(item)[:40]!r}")
    value = item.get(key)
    if value is None:
        raise InputError(f"{where}: it has no {key!r}; add it")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: {key!r} cannot be {str(value)[:40]!r}; correct it")
    if isinstance(value, str) and not value.strip():
        raise InputError(f"{where}: its {key!r} is blank; fill it in")
    return value


def said(
    item: Any,
    key: str,
    where: str,
    repaired: Counter[str] | None,
    kind: type | tuple[type, ...] = str,
) -> str:
    """Returns the string `item[key]`.

    Args:
      item, key, where: as for `field`.
      repaired: None is as strict as `field`. With a counter, a number becomes a string, and what is
        missing or blank becomes "".
      kind: what is accepted as it is.

    Raises:
      InputError: as `field`; with a counter, only if the value is neither string nor number.
    """
    if repaired is None:
        return str(field(item, key, kind, where))
    if isinstance(item, Mapping) and is_blank(item.get(key)):
        return ""
    value = field(item, key, (str, int, float), where)
    if not isinstance(value, kind):
        repaired[f"numbers as {key}"] += 1
    elif (
        isinstance(value, str)
        and not value.isprintable()
        and any("\ud800" <= c <= "\udfff" for c in value)
    ):
        repaired["half characters (lone surrogates)"] += 1
    return str(value)


def is_blank(value: Any) -> bool:
    """Returns whether a value is none, or no more than spaces; pandas writes NaN for none."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def identifier(
    item: Any,
    key: str,
    where: str,
    repaired: Counter[str] | None,
    default: str,
    kind: type | tuple[type, ...] = str,
) -> str:
    """Returns the id `item[key]` as `said` does.

    With a counter, `default` stands for one that is missing or blank, and "_" for characters that
    would break a feature table.
    """
    name = said(item, key, where, repaired, kind) or default
    return name if repaired is None else "".join(c if c.isprintable() else "_" for c in name)


def plain_text(value: Any) -> str:
    """Returns a text: a string, a number, or a list of parts that have "text" or "value"."""
    if isinstance(value, list):
        text = "".join(map(plain_text, value))
        if re.search(r"\s", text) or not all(
            isinstance(part, Mapping) and "value" in part for part in value
        ):
            return text
        return re.sub(r" (?!\w)", "", " ".join(map(plain_text, value)))  # words, as of Trint
    if isinstance(value, Mapping):
        return plain_text(value.get("text", value.get("value")))
    return "" if value is None or value != value else str(value)


def speech(turn: Any, where: str, repaired: Counter[str] | None, faults: Faults) -> tuple[str, str]:
    """Returns speaker and text of an utterance; what is wrong with them is added to `faults`.

    With a counter, all utterances without a speaker have the same one, UNKNOWN_SPEAKER.

    Raises:
      InputError: `turn` is no object.
    """
    if not isinstance(turn, Mapping):
        raise InputError(f"{where}: expected an object with 'text' but found {str(turn)[:40]!r}")
    speaker = text = ""
    with faults.collected():
        speaker = said(turn, "speaker", where, repaired)
    with faults.collected():
        text = said(turn, "text", where, repaired)
    if repaired is not None:
        repaired[f"utterances without speaker ({UNKNOWN_SPEAKER!r})"] += not speaker
        repaired["empty utterances"] += not text
    return speaker or UNKNOWN_SPEAKER, text


def with_ends(times: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Returns starts and ends, in seconds or None; one without an end gets the next later start."""
    later: list[float] = []  # starts that come later, the next one last, each before those below it
    ended = []
    for start, end in reversed(times):
        while isinstance(start, float) and later and later[-1] <= start:
            later.pop()
        ended.append((start, later[-1] if end is None and start is not None and later else end))
        later += [start] * isinstance(start, float)
    return ended[::-1]


def seconds(time: Any) -> float | None:
    """Returns a time, a number or such as "12:30.5" or "01:12:30,500", in seconds, or None."""
    if isinstance(time, (int, float)) and not isinstance(time, bool):
        return float(time) if abs(time) < 1e9 else None  # NaN is no time either
    match = _TIME.fullmatch(time.strip()) if isinstance(time, str) else None
    if match is None:
        return None
    hours, minutes, rest = match.groups("0")
    return round(3600 * int(hours) + 60 * int(minutes) + float(rest.replace(",", ".")), 6)
