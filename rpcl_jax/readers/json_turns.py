"""The turns of a conversation in any JSON: the list that has them, and what its fields are."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import is_blank, plain_text
from rpcl_jax.readers.subtitles import named
from rpcl_jax.readers.tables import known_columns, turn_of

_GUESSES = {"alternatives", "nbest"}  # at the same words; the first is the best
# Lists of single words or of parts of a text.
_WORDS = {"words", "tokens", "items", "wordsegments", "entities", "textentities", "elements"}
_BESIDE = {"speaker", "start", "end", "duration", "start_ms", "end_ms", "duration_ms", "time"}
_PLACE = ("", "")  # of an element in the list around it, and how many there are
_SPEAKERS = {"speaker", "speakertag", "speakerlabel", "speakerid"}
_SINGLE_WORDS = {"words", "tokens", "wordsegments"}
_CONVERSATIONS = {"dialog", "dialogue", "utterances", "turns", "messages", "conversation"}
# Lists that may have texts and nothing else: all others need speakers or times.
_LISTS = {
    *(*_CONVERSATIONS, "dialogs", "conversations", "segments", "chunks", "sentences", "results"),
    *("transcription", "transcript", "phrases"),
}
_PLACES = {"speaker", "start", "start_ms", "time", "conversation", "number", "reply"}
_LETTERS = re.compile(r"[^\W\d_]{2,}")
Path = tuple[str, ...]


def single_turn(item: Any, given: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Returns the turn that a JSON object is, as `turn_of` does, or None if it is not one."""
    if not isinstance(item, Mapping):
        return None
    row = _flat(item)
    columns = known_columns((key for key, value in row.items() if not _has_objects(value)), given)
    text = row.get(columns.get("text", ""), [])
    lists = [key for key, value in item.items() if isinstance(value, list)]
    if isinstance(text, (list, Mapping)) or any(_plain(key) in _LISTS for key in lists):
        return None
    alone = not _PLACES & set(columns) and any(map(_has_objects, row.values()))
    parts = any(_has_texts(value) for key, value in item.items() if _plain(key) not in _WORDS)
    return None if alone else turn_of(row, columns) | {"parts": parts}


def turns_in(
    item: Any, given: Mapping[str, str], name: str, where: str
) -> list[tuple[str | None, list[dict[str, Any]]]]:
    """Returns the conversations in a JSON object: ids, or None for a turn alone, and turns.

    Args:
      given: the paths of fields, of --columns; if there is no "text", they are guessed.
      name: of a conversation without an id.

    Raises:
      InputError: it is unsure which fields have the turns.
    """
    columns = dict(given) if given.get("text") else {**_guess(item, where), **given}
    *above, last = columns["text"].split(".")
    rows = list(_rows(item, columns))
    if given.get("text"):  # what is beside it may be known by its name
        head = ".".join((*above, ""))
        beside = dict.fromkeys(name for _, row in rows for name in row["others"])
        own = known_columns(name.removeprefix(head) for name in beside if name.startswith(head))
        for field, column in own.items():
            if field in _BESIDE and field not in columns:
                columns[field] = f"{head}{column}"
                for _, row in rows:
                    row[field] = row["others"].pop(columns[field], None)
    if _SINGLE_WORDS & {*map(_plain, above)}:
        raise InputError(
            f"{where}: {columns['text']!r} has single words; give the transcript with a text for "
            "each turn, as services write it when they are asked for utterances or speakers"
        )
    for path in given.values() if isinstance(item, Mapping) else ():
        if path and "+" not in path and path.split(".")[0] not in item:
            raise no_such_path(where, path)
    if all(is_blank(plain_text(row["text"])) for _, row in rows):
        raise InputError(f"{where}: no {columns['text']!r} in it; {_fields_of(item)}")
    if "speaker" not in columns:  # perhaps each text begins with it
        names = [named(plain_text(row["text"])) for _, row in rows]
        sure = all(name and words and name[0].isupper() and name.istitle() for name, words in names)
        sure &= not any("\n" in plain_text(row["text"]) for _, row in rows)
        for (_, row), (speaker, words) in zip(rows, names, strict=True) if sure else ():
            row["speaker"], row["text"] = speaker, words
    outer = dict.fromkeys(places[:-1] for places, _ in rows)
    parts = (columns[field].split(".")[:-1] for field in ("speaker", "start") if field in columns)
    if columns.get("conversation") or len(outer) == 1 or any(part != above for part in parts):
        return [(name if rows[0][0] else None, [row for _, row in rows])]
    lists = {*map(_plain, (*above[-1:], last))}
    if given.get("text") or not lists & _CONVERSATIONS:
        mapped = ",".join(f"{field}={path}" for field, path in columns.items())
        raise InputError(
            f"{where}: {columns['text']!r} is in {len(outer)} lists; if these are several "
            f"conversations, say what tells them apart: --columns={mapped},conversation=NAME"
        )
    return [
        (f"{name}-{k}", [row for places, row in rows if places[:-1] == at])
        for k, at in enumerate(outer, 1)
    ]


def no_such_path(where: str, path: str) -> InputError:
    """Returns the error that says that a path of --columns leads nowhere."""
    return InputError(
        f"{where}: no {path!r} of --columns in it; paths begin at the top, such as "
        "speaker=results.utterances.speaker"
    )


def _guess(item: Any, where: str) -> dict[str, str]:
    """Returns the paths of the fields of the turns in an object."""
    found: dict[Path, dict[str, str]] = {}
    for path, columns, around in _lists(item):
        absolute = {field: ".".join((*path, column)) for field, column in columns.items()}
        for above, element in around:  # a paragraph may have the speaker of its sentences
            own = known_columns(_flat(element))
            if "start" in own and "speaker" in own:
                absolute.setdefault("speaker", ".".join((*above, own["speaker"])))
        if not columns and (speakers := _beside(item, path)):
            absolute["speaker"] = speakers
        found.setdefault(path, {"text": ".".join(path), **absolute})
    if not found:
        empty = item.items() if isinstance(item, Mapping) else ()
        for key in (key for key, value in empty if value == [] and _plain(key) in _LISTS):
            raise InputError(f"{where}: its {key!r} are empty: no speech was found")
        raise InputError(
            f"{where}: has neither 'utterances' (our format), 'conversation' (that of SemEval-2024 "
            f"Task 3) nor a list of turns that is known; {_fields_of(item)}"
        )
    rank = {p: len({"speaker", "start", "start_ms", "time"} & set(c)) for p, c in found.items()}
    best = [path for path in found if rank[path] == max(rank.values())]
    said = {" ".join(plain_text(row["text"]) for _, row in _rows(item, found[p])) for p in best}
    if len({re.sub(r"\W", "", text) for text in said}) > 1:
        if len({(len(path), *found[path]) for path in best}) == 1:  # {"talk1": […], "talk2": […]}
            ways = "if each is a conversation, write each"
        else:
            fields = " or ".join(f"--columns=text={found[path]['text']}" for path in best)
            ways = f"say which has the turns: {fields}; or write each"
        raise InputError(
            f"{where}: has several lists of texts ({', '.join('.'.join(path) for path in best[:4])}"
            f'); {ways} as {{"utterances": […]}} in a line of its own'
        )
    chosen = found[best[0]]
    if "speaker" not in chosen and _tell_speakers(item):
        raise InputError(
            f"{where}: its {chosen['text']!r} have no speakers, but its words or other lists have; "
            'write each turn as {"speaker": …, "text": …}'
        )
    # Highlights, chapters or topics may have times where the turns have none.
    counts = {
        path: sum(len(text.split()) for text in texts)
        for path, texts in _texts(item).items()
        if known_columns([path.rpartition(".")[2]]).get("text")
    }
    most = max(counts, key=lambda path: counts[path], default="")
    unsure = "speaker" not in chosen and most != chosen["text"]
    if unsure and 2 * len(" ".join(said).split()) < counts.get(most, 0):
        raise InputError(
            f"{where}: most words are in {most!r}, not in {chosen['text']!r}; say which has the "
            f"turns: --columns=text={most} or --columns=text={chosen['text']}"
        )
    return chosen


def _tell_speakers(value: Any) -> bool:
    """Returns whether a list in it, perhaps of words, tells several speakers apart."""
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, (Mapping, list)):
        return False
    objects = [of for of in inner if isinstance(value, list) and isinstance(of, Mapping)]
    for key in dict.fromkeys(key for of in objects for key in of if _plain(str(key)) in _SPEAKERS):
        told = {str(of[key]) for of in objects if of.get(key) is not None}
        if len(told - {"0"} if _plain(key) == "speakertag" else told) > 1:  # 0 is unknown
            return True
    return any(map(_tell_speakers, inner))


def _beside(item: Any, path: Path) -> str | None:
    """Returns the path of a list of speakers that is beside a list of texts, and as long."""
    around = _at({(): item}, ".".join(path[:-1])) if path[:-1] else item
    around = around[0] if isinstance(around, list) and around else around
    lists = around if isinstance(around, Mapping) else {}
    texts: Any = lists.get(path[-1], ())
    alike = (
        key
        for key, value in lists.items()
        if isinstance(value, list) and len(value) == len(texts) and value is not texts
    )
    own = known_columns(alike).get("speaker")
    return ".".join((*path[:-1], own)) if own else None


def _lists(
    value: Any, path: Path = (), around: tuple[tuple[Path, Any], ...] = ()
) -> Iterator[tuple[Path, dict[str, str], tuple[tuple[Path, Any], ...]]]:
    """Yields the lists that may be turns: paths, columns and the elements of lists around them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _plain(key) not in _WORDS:
                yield from _lists(inner, (*path, key), around)
        return
    if not isinstance(value, list) or not value:
        return
    if path and _plain(path[-1]) in _GUESSES:
        yield from _lists(value[0], path, around)
        return
    known = not path or _plain(path[-1]) in _LISTS
    if path and known and all(isinstance(element, str) for element in value):
        yield path, {}, around
        return
    flat = [_flat(element) for element in value]
    columns = known_columns(dict.fromkeys(key for row in flat for key in row))
    if columns.get("speaker") == "from" and any("value" in row for row in flat):
        columns.setdefault("text", "value")  # ShareGPT's
    if "start" in columns and len({row.get("channel") for row in flat}) > 1:
        columns.setdefault("speaker", "channel")  # Deepgram's
    texts = [row.get(columns.get("text", "")) for row in flat]
    most = sum(text is not None for text in texts) * 2 >= len(texts)  # others may be photos
    if (
        most
        and all(isinstance(text, (str, list, type(None))) for text in texts)
        and (known or {"speaker", "start", "start_ms", "time"} & set(columns))
    ):
        yield path, columns, around
        return
    for element in value:
        if not path or not isinstance(element, list):
            yield from _lists(element, path, (*around, (path, element)))


def _rows(
    item: Any, columns: Mapping[str, str]
) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
    """Yields the turns that the paths name, each with its places in the lists around it."""
    path = tuple(columns["text"].split("."))
    named = {part for column in columns.values() for part in column.split("+") if part}

    def walk(value: Any, depth: int, seen: dict[Path, Any], places: tuple[int, ...]) -> Iterator:
        strings = isinstance(value, list) and all(isinstance(e, str) for e in value)
        # Elsewhere, a list of strings is one text in parts.
        strings_are_turns = strings and (not places or _plain(path[-1]) in _LISTS)
        if isinstance(value, list) and (depth < len(path) or strings_are_turns):
            if depth and _plain(path[depth - 1]) in _GUESSES:
                yield from walk(value[0] if value else None, depth, seen, places)
                return
            for k, element in enumerate(value):
                yield from walk(element, depth, {**seen, _PLACE: (k, len(value))}, (*places, k))
            return
        seen = {**seen, path[:depth]: value}
        if depth == len(path):
            inner = max((p for p, v in seen.items() if isinstance(v, Mapping)), default=(), key=len)
            row = {".".join((*inner, key)): v for key, v in _flat(seen.get(inner)).items()}
            yield places, turn_of({**row, **{p: _at(seen, p) for p in named}}, columns)
        elif isinstance(value, Mapping) and path[depth] in value:
            yield from walk(value[path[depth]], depth + 1, seen, places)

    yield from walk(item, 0, {}, ())


def _at(seen: Mapping[Path, Any], column: str) -> Any:
    """Returns what is at a path, from where it parts with that of the text."""
    parts = tuple(column.split("."))
    length = next((k for k in range(len(parts), 0, -1) if parts[:k] in seen), 0)
    value = seen.get(parts[:length])
    for part in parts[length:]:
        value = value[0] if isinstance(value, list) and value else value
        value = value.get(part) if isinstance(value, Mapping) else None
    place, count = seen.get(_PLACE, (0, 0))
    if isinstance(value, list) and len(value) == count and length < len(parts):
        return value[place] if isinstance(value[place], str) else value  # beside the texts
    return value


def _flat(item: Any) -> dict[str, Any]:
    """Returns the fields of an object, of those within and of best guesses, by their paths."""
    flat: dict[str, Any] = {}
    for key, value in item.items() if isinstance(item, Mapping) else ():
        if isinstance(value, list) and value and _plain(key) in _GUESSES:
            value = value[0]
        inner = _flat(value)
        flat.update({f"{key}.{name}": v for name, v in inner.items()} if inner else {key: value})
    return flat


def _has_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(element, Mapping) for element in value)


def _has_texts(value: Any) -> bool:
    """Returns whether a value is a list of several objects with texts."""
    objects = value if isinstance(value, list) and len(value) > 1 else ()
    return any(
        isinstance(text, str) and " " in text.strip()
        for element in objects
        if isinstance(element, Mapping)
        for text in element.values()
    )


def _plain(key: str) -> str:
    return re.sub(r"[\s_-]", "", key).lower()


def _fields_of(item: Any) -> str:
    """Names the fields with the most texts in lists of an object, and how to map them."""
    texts = {path: {*of} for path, of in _texts(item).items()}
    texts = {p: of for p, of in texts.items() if "." in p or isinstance(item, list)}
    words = {name: sum(len(_LETTERS.findall(text)) for text in of) for name, of in texts.items()}
    several = [name for name, of in texts.items() if any(len(_LETTERS.findall(t)) > 1 for t in of)]
    names = sorted(several or texts, key=lambda name: -words[name])[:4]
    if not several and len(texts) > 1 and max(map(len, texts.values())) > 11:
        return "it has single words and no texts; give the transcript with a text for each turn"
    if not names:
        return 'nothing in it looks like turns; write {"utterances": [{"text": …}, …]}'
    return (
        f"say which field has the texts, such as --columns=text={names[0]}; it has "
        f"{', '.join(names)}"
    )


def _texts(
    value: Any, path: Path = (), found: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """Returns the texts in a value by their paths."""
    found = {} if found is None else found
    if isinstance(value, Mapping):
        for key, inner in value.items():
            best = isinstance(inner, list) and _plain(str(key)) in _GUESSES
            _texts(inner[:1] if best else inner, (*path, str(key)), found)
    for inner in value if isinstance(value, list) else ():
        _texts(inner, path, found)
    if isinstance(value, str) and path:
        found.setdefault(".".join(path)[:60], []).append(value)
    return found
