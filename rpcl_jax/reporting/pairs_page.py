"""The HTML page of predictions: the report's page for conversations that nobody labelled."""

import contextlib
import os
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from rpcl_jax.data.dialogue import EMOTIONS, Dialogue, unique_id, with_unique_ids
from rpcl_jax.errors import InputError
from rpcl_jax.extraction.finding import ClipError, TimeSpan, find_clip, index_clips
from rpcl_jax.files import atomic_write
from rpcl_jax.readers.conversations import dialogue_object
from rpcl_jax.readers.transcripts import conversations_in, parse
from rpcl_jax.reporting.predictions import (
    BY,
    CANDIDATES,
    CHOICES,
    CONFIDENCES,
    TABLES,
    pairs_of,
    turns_of,
)
from rpcl_jax.reporting.report import TEMPLATE, embedded

FLOOR = 0.05  # candidates below it are not on the page
# More would not open in a browser, or not answer quickly.
_MOST_CONVERSATIONS = 5_000
_MOST_UTTERANCES = 50_000

Clips = Callable[[Dialogue], list[str | None]]


@contextlib.contextmanager
def pairs_page(
    file: BinaryIO,
    title: str,
    clips: Clips | None = None,
    emotions: Sequence[str] = EMOTIONS,
    read: Callable[[], list[str]] = list,
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Writes the page of predicted conversations, one at a time.

    It yields a function that takes a conversation from `Predictor`, of its `stream` with `floor` or
    not. Conversations beyond 5,000, or 50,000 utterances, are left out, and the page says so.
    `clips` returns the address of each utterance's clip, or None; see `clips_beside`. `emotions`
    are offered for corrections, neutral first, beside those that were predicted. `read` is asked at
    the end how the input was read, for the page's subtitle.
    """
    before, after = TEMPLATE.read_text(encoding="utf-8").split("{{data}}")
    file.write((before + '{"dialogues":[').encode())
    counts = Counter[str]()
    used, ids = Counter[str](), Counter[str]()
    numbers = {emotion: number for number, emotion in enumerate(emotions)}
    models: dict[str, None] = {}
    thresholds: set[float | None] = set()
    absent: dict[str, None] = {}
    least = 1.0  # confidence of a pair

    def add(item: Mapping[str, Any]) -> None:
        nonlocal least
        turns = turns_of(item)
        counts["all"] += 1
        if (
            counts["shown"] == _MOST_CONVERSATIONS
            or counts["utterances"] + len(turns) > _MOST_UTTERANCES
        ):
            return
        parsed = with_unique_ids(parse(dict(item), title, Counter()), used)
        parsed = replace(parsed, id=unique_id(parsed.id, ids))  # as training requires
        addresses = clips(parsed) if clips else [None] * len(turns)
        dialogue = _dialogue(item, parsed, numbers, addresses)
        file.write((("," if counts["shown"] else "") + embedded(dialogue)).encode())
        counts["shown"] += 1
        counts["utterances"] += len(turns)
        counts["clips"] += len(turns) - addresses.count(None)
        counts["with candidates"] += CANDIDATES in item
        least = min([least, *item[CONFIDENCES]])
        by = item.get(BY)  # older versions did not write it
        thresholds.add(by["threshold"] if by else None)
        if by:
            models[by["model"]] = None
            absent.update(dict.fromkeys(by.get("absent", ())))

    yield add
    known = sorted(threshold for threshold in thresholds if threshold is not None)
    between = " to ".join(dict.fromkeys(f"{t:.3f}" for t in known[:1] + known[-1:]))
    if len(thresholds) > 1:
        at = f"thresholds of the predictions, {between}{', some unknown' * (None in thresholds)}"
    elif known:
        at = f"threshold {between}, that of the prediction"
    else:
        at = "threshold of the prediction: unknown"
    whole = counts["with candidates"] == counts["shown"]
    lowest = min([FLOOR if whole else least, *known])
    notes = [
        "The list counts the predicted pairs. The emotion utterance of a pair is never neutral."
    ]
    if not whole:
        notes.append(
            f"The file has no confidence below {lowest:.3f}, so the slider begins there, and the "
            "emotions stay those at the prediction's threshold. A lower --threshold of the "
            "prediction, or its --html, shows more."
        )
    if len(thresholds) > 1:
        notes.append(
            "The conversations were predicted with different thresholds, and each has no pair "
            "below its own."
        )
    if len(models) > 1:
        notes.append("The conversations were predicted by different models.")
    if absent:
        notes.append(f"Predicted without {' and '.join(absent)}, which the model can read.")
    if counts["shown"] < counts["all"]:
        notes.append(
            f"{counts['shown']} of {counts['all']} conversations are shown; more would be too "
            "much for a browser."
        )
    if clips:
        notes.append(f"{counts['clips']} of {counts['utterances']} utterances have a clip.")
    rest = {
        "title": title,
        "emotions": list(numbers),
        "runs": [{"name": ", ".join(models) or "by an unnamed model"}],
        "at": at,
        "start": round(1000 * (known[0] if known else least)),  # of the slider
        "lowest": round(1000 * lowest),
        "clips": clips is not None,
        "notes": notes,
        "read": read(),
    }
    file.write(("]," + embedded(rest)[1:] + after).encode())


def _dialogue(
    item: Mapping[str, Any],
    parsed: Dialogue,
    emotions: dict[str, int],
    addresses: Sequence[str | None],
) -> dict[str, Any]:
    """Returns what the page shows of a conversation; new emotions are added to `emotions`.

    Its id, utterances and clips are those that it has when it is saved as labelled data.
    """
    turns = turns_of(item)
    pairs = pairs_of(item)
    found = item.get(CANDIDATES) or [
        (i, j, p) for (i, j), p in zip(pairs, item[CONFIDENCES], strict=True)
    ]
    rows: list[dict[int, int]] = [{} for _ in turns]
    for i, j, p in found:
        if not (0 < i <= len(turns) and 0 < j <= len(turns)):
            raise IndexError(f"pair {i}, {j} of {len(turns)} utterances")
        rows[i - 1][j - 1] = round(1000 * p)
    choices = item.get(CHOICES) or [
        [(turn["emotion"], probability)]
        if (probability := turn.get("emotion_probability")) is not None
        else []
        for turn in turns
    ]
    return {
        **dialogue_object(parsed),
        "source": item.get("source"),
        **({"addresses": addresses} if any(addresses) else {}),
        "gold": [],
        "scores": [
            {
                "p": rows,
                "choices": [
                    [[emotions.setdefault(e, len(emotions)), round(1000 * p)] for e, p in choice]
                    for choice in choices
                ],
                "predicted": [[i - 1, j - 1] for i, j in pairs],
                "hard": [],
            }
        ],
    }


def clips_beside(folder: Path, page: Path) -> Clips:
    """Returns a function that gives the address of every utterance's clip, as seen from a page.

    InputError if the folder has no clips. The function raises it if a name fits two files.
    """
    index = index_clips(folder)

    def addresses(dialogue: Dialogue) -> list[str | None]:
        found: list[str | None] = []
        for utterance in dialogue.utterances:
            try:
                found.append(_address(find_clip(index, utterance), page))
            except ClipError:
                found.append(None)
        return found

    return addresses


def _address(clip: TimeSpan, page: Path) -> str:
    """Returns a relative address, whose fragment says from when to when to play."""
    path = Path(os.path.relpath(clip.path, page.parent)).as_posix()
    end = "" if clip.end == float("inf") else f",{clip.end:g}"
    times = f"#t={clip.start:g}{end}" if clip.start or end else ""
    return urllib.parse.quote(path if path.startswith(".") else f"./{path}") + times


@contextlib.contextmanager
def page_file(
    page: Path,
    title: str,
    clips: Path | None,
    emotions: Sequence[str],
    read: Callable[[], list[str]],
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Writes `pairs_page` to a file, which is there when the block ends well."""
    finder = clips_beside(clips, page) if clips else None
    with atomic_write(page) as file, pairs_page(file, title, finder, emotions, read) as add:
        yield add


def write_page(source: Path, page: Path, clips: Path | None = None) -> None:
    """Writes the page of a JSON file that `--mode=predict` wrote."""
    if source.name.lower().removesuffix(".gz").endswith(tuple(TABLES)):
        raise InputError(
            f"{source}: a table has too little for a page; write the prediction as .json"
        )
    if page.exists() and page.samefile(source):
        raise InputError(f"{page}: is the input; write to another file")
    finder = clips_beside(clips, page) if clips else None
    count = 0
    with atomic_write(page) as file, pairs_page(file, source.name, finder) as add:
        for place, item in conversations_in(source, Counter()):
            if isinstance(item, InputError):
                raise item
            if CONFIDENCES not in item:
                raise InputError(
                    f"{place}: has no {CONFIDENCES!r}; give the JSON that --mode=predict wrote"
                )
            item = {k: v for k, v in item.items() if k not in (CANDIDATES, CHOICES)}  # the user's
            try:
                _check(item, place)
                add(item)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{place}: its predictions are damaged ({type(error).__name__}: {error}); "
                    "predict it again"
                ) from error
            count += 1
        if not count:
            raise InputError(f"{source}: contains no conversation; check that it is the right file")


def _check(item: Mapping[str, Any], place: str) -> None:
    """Raises InputError where a conversation of a file is not as it was predicted."""

    def require(right: bool, what: str) -> None:
        if not right:
            raise InputError(f"{place}: its predictions are damaged: {what}; predict it again")

    by = item.get(BY)
    if by is not None:
        require(isinstance(by, dict), f"{BY!r} is not an object")
        require(_is_share(by.get("threshold")), "the threshold is not a number from 0 to 1")
        require(isinstance(by.get("model"), str), "the model is not a name")
    confidences = item[CONFIDENCES]
    require(
        isinstance(confidences, list) and all(map(_is_share, confidences)),
        f"{CONFIDENCES!r} are not numbers from 0 to 1",
    )
    for number, turn in enumerate(turns_of(item), 1):
        if turn.get("emotion_probability") is not None:
            require(
                isinstance(turn.get("emotion"), str) and _is_share(turn["emotion_probability"]),
                f"utterance {number} has no emotion with a probability from 0 to 1",
            )
    count = len(pairs_of(item))
    if count != len(confidences):
        raise InputError(
            f"{place}: has {count} pairs and {len(confidences)} confidences; a corrected file is "
            "data to train on and no longer predictions: give the file that --mode=predict wrote"
        )


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
