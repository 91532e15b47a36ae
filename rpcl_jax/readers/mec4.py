"""MEC4 (Chinese; GitHub DanWu2003/M3F-MECPE), in which a conversation is a single string.

The benchmark is available on request only, so this reader follows its README and other public
readers of it. The docstrings name what these leave open and is decided here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import (
    EMOTIONAL,
    LONGEST_FILM,
    NEUTRAL,
    Clip,
    Dialogue,
    Utterance,
    check_dialogue,
)
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.readers.benchmark_files import ReadLog, find_split
from rpcl_jax.readers.json_fields import field, read_objects, seconds

_FILES = {
    "train": ["MEC4_text/train.json"],
    "dev": ["MEC4_text/valid.json"],
    "test": ["MEC4_text/test.json"],
}
_ADVICE = (
    "request MEC4 (https://github.com/DanWu2003/M3F-MECPE) and pass the folder that contains "
    "MEC4_text as --config.data.root"
)
# A speaker contains neither the end of a sentence nor the number of another mark.
_MARK = re.compile(r"(?<!\d)(\d{1,4})[.．、]\s*((?:(?!\d[.．、])[^:：\n。!！?？;；…]){1,40})[:：]")
_HALF_WIDTH = str.maketrans("（）［］【】，、；;", "()[][],,,,")
_PAIR = re.compile(r"[(\[]\s*(\d{1,9})\s*,\s*(\d{1,9})\s*[)\]]")
_PAIRS = re.compile(rf"\s*(\[\s*)?({_PAIR.pattern}[\s,]*)*\]?\s*")


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads a split of MEC4.

    Args:
      root: folder with `MEC4_text/train.json`, `valid.json` and `test.json`, and possibly
        `subtitles.json`; see `read_mec4`.
    """
    path = find_split(root, _FILES, split, _ADVICE)
    subtitles = root / "subtitles.json"
    return read_mec4(path, subtitles if subtitles.is_file() else None)


def read_mec4(path: Path, subtitles: Path | None = None) -> list[Dialogue]:
    """Reads a file of MEC4, a JSON list of conversations.

    A conversation has "dia_id", "dia_len" (its number of utterances), "text" (see `split_text`) and
    "pairs", a string such as `(2,1),(4,3)` with half- or full-width brackets and commas, or a list
    of such strings or of `[2, 1]`; the emotion utterance comes first. The optional "emotion" or
    "emotions" is a list of `dia_len` category names. Without it, an utterance is EMOTIONAL if it is
    the emotion utterance of a pair, and otherwise neutral. Utterance U of conversation D gets the
    id `dia<D>utt<U>`.

    The layout of `subtitles.json` is a guess: `{dia_id: [{"start": …, "end": …}, …]}` or
    `{dia_id: [[start, end], …]}`, one entry per utterance, in seconds or as "HH:MM:SS.mmm" (or
    "HH:MM:SS,mmm"), from the start of `dialogue_videos/<dia_id>.mp4`. An utterance without such an
    entry, or whose span does not end after it starts, has no clip. If the guess is wrong, the rest
    of the benchmark can still be read.
    """
    rows = read_objects(path)
    if not rows:
        raise InputError(f"{path}: contains no conversation; check that it is the right file")
    times = read_objects(subtitles)[:1] if subtitles else []
    spans = times[0] if times and isinstance(times[0], Mapping) else {}
    log = ReadLog(str(path))
    return log.dialogues(rows, lambda row, place, _: _parse_conversation(row, spans, place, log))


def split_text(text: str, count: int, where: str) -> list[tuple[str, str]]:
    """Splits `1.speaker：words 2.speaker：words …` into `count` tuples (speaker, words).

    A mark is a number, `.`, `．` or `、`, a speaker, and `:` or `：`. Marks within the words could
    split a text in several ways, so all of its marks must be those of its utterances.

    Raises:
      InputError: the marks are not numbered 1, 2, …, `count`, the text does not begin with the
        first, or no speaker or words belong to one.
    """
    text = text.strip()
    marks = list(_MARK.finditer(text))
    numbers = [int(mark[1]) for mark in marks]
    if numbers != [*range(1, len(marks) + 1)] or len(marks) != count:
        raise InputError(
            f"{where}: its text must be {count} utterances, '1.speaker: words 2.speaker: words …', "
            f"but its numbers with a colon after them are {str(numbers)[1:-1][:60] or 'none'}; "
            "correct the text or dia_len"
        )
    if marks[0].start():
        raise InputError(f"{where}: its text must start with '1.speaker:'; correct it")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns = [
        (mark[2].strip(), text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    for t, (speaker, words) in enumerate(turns, 1):
        if not (speaker and words):
            missing = "words" if speaker else "speaker"
            raise InputError(f"{where}: utterance {t} of its text has no {missing}; correct it")
    return turns


def _parse_conversation(row: Any, spans: Mapping[str, Any], where: str, log: ReadLog) -> Dialogue:
    name = str(field(row, "dia_id", (int, str), where))
    where = f"{where} (dia_id {' '.join(name.split())})"
    length = str(field(row, "dia_len", (int, str), where))
    if not (length.isdecimal() and len(length) < 10 and int(length)):
        raise InputError(
            f"{where}: dia_len cannot be {length[:40]!r}; give the number of utterances"
        )
    if "pairs" not in row:
        raise InputError(f"{where}: it has no 'pairs'; add it, empty if there are none")
    faults = Faults()
    turns: list[tuple[str, str]] = []
    pairs: tuple[tuple[int, int], ...] = ()
    emotions: list[str] = []
    with faults.collected():
        turns = split_text(field(row, "text", str, where), int(length), where)
    with faults.collected():
        pairs = log.unique_pairs(_parse_pairs(row["pairs"], where))
    with faults.collected():
        emotions = _parse_emotions(row, int(length), where, log)
    faults.check()
    if not emotions:
        caused = {i for i, _ in pairs}
        emotions = [EMOTIONAL if t in caused else NEUTRAL for t in range(len(turns))]
    clips = _make_clips(name, spans.get(name), len(turns))
    utterances = tuple(
        Utterance(f"dia{name}utt{t}", speaker, words, emotion, clip)
        for t, ((speaker, words), emotion, clip) in enumerate(
            zip(turns, emotions, clips, strict=True), 1
        )
    )
    return check_dialogue(Dialogue(name, utterances, pairs), where)


def _parse_pairs(pairs: Any, where: str) -> list[tuple[int, int]]:
    # A list is converted to a string first: [[2, 1], "(4,3)"] becomes "[2, 1] (4,3)".
    parts = pairs if isinstance(pairs, list) else [pairs or ""]
    text = " ".join(map(str, parts)).translate(_HALF_WIDTH)
    if _PAIRS.fullmatch(text) is None:
        raise InputError(
            f"{where}: 'pairs' cannot be {str(pairs)[:40]!r}; write (2,1),(4,3), the emotion "
            "utterance first, or leave it empty if there are none"
        )
    return [(int(i) - 1, int(j) - 1) for i, j in _PAIR.findall(text)]


def _parse_emotions(row: Mapping[str, Any], length: int, where: str, log: ReadLog) -> list[str]:
    """Returns the emotion categories, or an empty list if the row has none."""
    emotions = next((row[k] for k in ("emotions", "emotion") if row.get(k) is not None), None)
    if emotions is None:
        return []
    if not isinstance(emotions, list) or len(emotions) != length:
        raise InputError(
            f"{where}: its emotions must be a list of {length} names, one per utterance; correct "
            "or remove it"
        )
    return [log.emotion(str(emotion)) for emotion in emotions]


def _make_clips(video: str, spans: Any, length: int) -> list[Clip | None]:
    if not isinstance(spans, list) or len(spans) != length:
        return [None] * length
    clips: list[Clip | None] = []
    for span in spans:
        ends = [span.get("start"), span.get("end")] if isinstance(span, Mapping) else span
        times = [seconds(time) for time in ends] if isinstance(ends, list) else []
        match times:
            case [float(start), float(end)] if 0 <= start < end < LONGEST_FILM:
                clips.append(Clip(video, start, end))
            case _:
                clips.append(None)
    return clips
