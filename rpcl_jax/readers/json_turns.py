"""The turns of a conversation in any JSON: the list that has them, and what its fields are."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import is_blank, plain_text
from rpcl_jax.readers.tables import known_columns, turn_of

_GUESSES = {"alternatives", "nbest"}  # at the same words; the first is the best
# Lists of single words or of parts of a text.
_WORDS = {"words", "tokens", "items", "wordsegments", "entities", "textentities", "elements"}
# Lists that may have texts and nothing else: all others need speakers or times.
_LISTS = {
    *("dialog", "dialogue", "dialogs", "utterances", "turns", "messages", "segments", "chunks"),
    *("sentences", "conversation", "conversations", "transcription", "results", "phrases"),
}
Path = tuple[str, ...]


def single_turn(item: Any, given: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Returns the turn that a JSON object is, as `turn_of` does, or None if it is not one."""
    if not isinstance(item, Mapping):
        return None
    if any(isinstance(value, list) and _plain(key) in _LISTS for key, value in item.items()):
        return None
    row = _flat(item)
    plain = {
        k: v
        for k, v in row.items()
        if not (isinstance(v, list) and any(isinstance(e, Mapping) for e in v))
    }
    columns = known_columns(plain, given)
    if not isinstance(row.get(columns.get("text", ""), []), (str, int, float, type(None))):
        return None
    one = {"speaker", "start", "start_ms", "time", "conversation", "number", "reply"} & set(columns)
    return turn_of(row, columns) if one or plain == row else None


def turns_in(
    item: Any, given: Mapping[str, str], name: str, where: str
) -> list[tuple[str, list[dict[str, Any]], bool]]:
    """Returns the conversations in a JSON object: their ids, their turns, and whether each is in a list.

    Args:
      item: the object, or a list of turns.
      given: the paths of fields, of --columns; if there is no "text", they are guessed.
      name: of a conversation without an id.
      where: with which messages start.

    Raises:
      InputError: it is unsure which fields have the turns.
    """
    columns = dict(given) if given.get("text") else _guess(item, given, where)
    rows = list(_rows(item, columns))
    if not any(not is_blank(plain_text(row["text"])) for _, row in rows):
        raise InputError(f"{where}: no {columns['text']!r} in it; {_fields_of(item)}")
    outer = dict.fromkeys(places[:-1] for places, _ in rows)
    if "conversation" in columns or len(outer) == 1:
        return [(name, [row for _, row in rows], bool(rows[0][0]))]
    above = columns["text"].split(".")[:-1]
    shared = [
        f
        for f in ("speaker", "start", "time")
        if f in columns and columns[f].split(".")[:-1] != above
    ]
    if shared:  # parts of a turn
        return [(name, [row for _, row in rows], True)]
    if given.get("text") or not _are_named(item, above):
        raise InputError(
            f"{where}: {columns['text']!r} is in {len(outer)} lists; if these are several "
            "conversations, say what tells them apart: --columns="
            f"{','.join(f'{f}={p}' for f, p in columns.items())},conversation=NAME"
        )
    numbered = {places: f"{name}-{k}" for k, places in enumerate(outer, 1)}
    return [
        (own, [row for places, row in rows if places[:-1] == at], True)
        for at, own in numbered.items()
    ]


def _guess(item: Any, given: Mapping[str, str], where: str) -> dict[str, str]:
    """Returns the paths of the fields of the turns in an object."""
    found: dict[Path, dict[str, str]] = {}
    for path, elements, around in _lists(item):
        columns = known_columns(dict.fromkeys(k for e in elements for k in _flat(e)))
        if path in found or not (columns.get("text") or isinstance(elements[0], str)):
            continue
        absolute = {field: ".".join((*path, column)) for field, column in columns.items()}
        absolute.setdefault("text", ".".join(path))
        for above, element in around:
            own = known_columns(_flat(element))
            if (
                "speaker" in own
                and ("start" in own or "text" not in own)
                and "speaker" not in columns
            ):
                if _plain(own["speaker"]) not in ("name", "user", "id"):
                    absolute["speaker"] = ".".join((*above, own["speaker"]))
        found[path] = absolute
    rank = {
        path: ("speaker" in c) + bool({"start", "start_ms", "time"} & set(c))
        for path, c in found.items()
    }
    best = [path for path in found if rank[path] == max(rank.values())]
    if not best:
        raise InputError(f"{where}: {_none_found(item)}")
    said = {
        path: "".join(plain_text(row["text"]) for _, row in _rows(item, found[path]))
        for path in best
    }
    if len({re.sub(r"\W", "", text) for text in said.values()}) > 1:
        ways = " or ".join(f"--columns=text={found[path]['text']}" for path in best)
        raise InputError(f"{where}: has several lists of texts; say which has the turns: {ways}")
    return {**found[best[0]], **given}


def _lists(value: Any, path: Path = (), around: tuple = ()) -> Iterator[tuple[Path, list, tuple]]:
    """Yields the lists that may be turns, with their paths and the list elements around them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _plain(key) not in _WORDS:
                yield from _lists(inner, (*path, key), around)
    elif isinstance(value, list) and value:
        if path and _plain(path[-1]) in _GUESSES:
            yield from _lists(value[0], path, around)
            return
        known = not path or _plain(path[-1]) in _LISTS
        if all(isinstance(element, str) for element in value) and path and known:
            yield path, value, around
            return
        if all(isinstance(element, Mapping) for element in value):
            flat = [_flat(element) for element in value]
            columns = known_columns(dict.fromkeys(key for row in flat for key in row))
            text = columns.get("text", "")
            texts = [row.get(text) for row in flat]
            one = known or {"speaker", "start", "start_ms", "time"} & set(columns)
            if text and one and all(isinstance(t, (str, list, type(None))) for t in texts):
                yield path, value, around
                return
        for element in value:
            if not path or not isinstance(element, list):
                yield from _lists(element, path, (*around, (path, element)))


def _flat(item: Any) -> dict[str, Any]:
    """Returns the fields of an object, of those within and of best guesses, by their paths."""
    if not isinstance(item, Mapping):
        return {}
    flat: dict[str, Any] = {}
    for key, value in item.items():
        if isinstance(value, list) and value and _plain(key) in _GUESSES:
            value = value[0]
        inner = _flat(value)
        flat.update({f"{key}.{name}": v for name, v in inner.items()} if inner else {key: value})
    return flat


def _plain(key: str) -> str:
    return re.sub(r"[\s_-]", "", key).lower()


def _rows(
    item: Any, columns: Mapping[str, str]
) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
    """Yields the turns that the paths name, each with its places in the lists around it."""
    path = tuple(columns["text"].split(".")) if columns["text"] else ()

    def walk(value: Any, depth: int, seen: dict[Path, Any], places: tuple[int, ...]) -> Iterator:
        seen = {**seen, path[:depth]: value}
        leaf = depth == len(path)
        if isinstance(value, list) and not (leaf and (places or not _strings(value))):
            if depth and _plain(path[depth - 1]) in _GUESSES:
                value = value[:1]
                yield from walk(value[0] if value else None, depth, seen, places)
                return
            for k, element in enumerate(value):
                yield from walk(element, depth, seen, (*places, k))
        elif leaf:
            element = next((v for v in reversed(seen.values()) if isinstance(v, Mapping)), {})
            prefix = path[: next((len(p) for p, v in seen.items() if v is element), 0)]
            row = {".".join((*prefix, k)): v for k, v in _flat(element).items()}
            named = {part for column in columns.values() for part in column.split("+")}
            yield places, turn_of({**row, **{p: _at(seen, p) for p in named if p}}, columns)
        elif isinstance(value, Mapping) and path[depth] in value:
            yield from walk(value[path[depth]], depth + 1, seen, places)

    yield from walk(item, 0, {}, ())


def _strings(value: list) -> bool:
    return all(isinstance(element, str) for element in value)


def _at(seen: Mapping[Path, Any], column: str) -> Any:
    """Returns what is at a path, from where it parts with that of the text."""
    parts = tuple(column.split("."))
    length = next(k for k in range(len(parts), -1, -1) if parts[:k] in seen)
    value = seen[parts[:length]]
    for part in parts[length:]:
        if isinstance(value, list) and value:
            value = value[0]
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _are_named(item: Any, above: list[str]) -> bool:
    """Returns whether the lists at a path are in objects with an id or a name each."""
    for path, _, around in _lists(item):
        if list(path) == above and around:
            keys = {
                _plain(key)
                for _, element in around
                if isinstance(element, Mapping)
                for key in element
            }
            return (
                bool(keys & {"id", "name", "title", "sceneid", "conversationid", "dialogueid"})
                or not path
            )
    return False


def _none_found(item: Any) -> str:
    if isinstance(item, Mapping):
        empty = [k for k, v in item.items() if v == [] and _plain(k) in _LISTS]
        if empty and is_blank(plain_text(item.get("text"))):
            return f"its {empty[0]!r} are empty: no speech was found"
    return (
        "has neither 'utterances' (our format), 'conversation' (that of SemEval-2024 Task 3) nor a "
        f"list of turns that is known; {_fields_of(item)}"
    )


def _fields_of(item: Any) -> str:
    """Names the fields with texts in an object, and how to map them."""
    texts: dict[str, set[str]] = {}

    def visit(value: Any, path: Path, inside: bool) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                visit(inner, (*path, str(key)), inside)
        elif isinstance(value, list):
            for inner in value[:50]:
                visit(inner, path, True)
        elif isinstance(value, str) and inside:
            texts.setdefault(".".join(path), set()).add(value)

    visit(item, (), False)
    names = sorted(texts, key=lambda name: -sum(map(len, texts[name])))[:4]
    if not names:
        return 'nothing in it looks like turns; write {"utterances": [{"text": …}, …]}'
    return (
        f"say which field has the texts, such as --columns=text={names[0][:60]}; it has "
        f"{', '.join(name[:60] for name in names)}"
    )
