"""MEC4 (Chinese; GitHub DanWu2003/M3F-MECPE), in which a conversation is a single string.

The benchmark is available on request only, so this reader follows its README and other public
readers of it. The docstrings name what these leave open and is decided here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
from rpcl_jax.readers.json_fields import field, read_objects, seconds
from rpcl_jax.readers.shared import Reading, find_split

_FILES = {
    "train": ["MEC4_text/train.json"],
    "dev": ["MEC4_text/valid.json"],
    "test": ["MEC4_text/test.json"],
}
_ADVICE = (
    "request MEC4 (https://github.com/DanWu2003/M3F-MECPE) and pass the folder that contains "
    "MEC4_text as --config.data.root"
)
# A lookahead, so that matches may overlap.
_MARK = re.compile(r"(?<!\d)(?=(?P<mark>(\d{1,4})[.．、]\s*([^:：\n]{1,40}?)\s*[:：]))")
_HALF_WIDTH = str.maketrans("（）［］【】，、；;", "()[][],,,,")
_PAIR = re.compile(r"[(\[]\s*(\d{1,9})\s*,\s*(\d{1,9})\s*[)\]]")
_PAIRS = re.compile(rf"\s*(\[\s*)?({_PAIR.pattern}[\s,]*)*\]?\s*")


class _Mark(NamedTuple):
    """A possible `number.speaker：` in a text; `doubts` counts the signs that it is not one."""

    number: int
    start: int
    end: int
    speaker: str
    doubts: int


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads a split of MEC4.

    Args:
      root: folder with `MEC4_text/train.json`, `valid.json` and `test.json`, and possibly
        `subtitles.json`; see `read_mec4`.
      split: "train", "dev" or "test".

    Raises:
      InputError: the file of the split is missing, or a file is malformed.
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

    Args:
      path: the file.
      subtitles: `subtitles.json`, or None if it does not exist.

    Raises:
      InputError: a file is not JSON, `path` is malformed, or a conversation is invalid.
    """
    rows = read_objects(path)
    if not rows:
        raise InputError(f"{path}: contains no conversation; check that it is the right file")
    times = read_objects(subtitles)[:1] if subtitles else []
    stretches = times[0] if times and isinstance(times[0], Mapping) else {}
    reading = Reading(str(path))
    return reading.dialogues(
        rows, lambda row, place, _: _parse_conversation(row, stretches, place, reading)
    )


def split_text(text: str, count: int, where: str) -> list[tuple[str, str]]:
    """Splits `1.speaker：words 2.speaker：words …` into `count` tuples (speaker, words).

    A mark is a number, `.`, `．` or `、`, a speaker, and `:` or `：`. Words may contain numbers and
    the same punctuation, so the split can be ambiguous. Valid splits have marks numbered 1, 2, …,
    `count`, start with the first mark and have words after every mark. Among them, the split with
    the fewest doubts is returned; ties go to the one whose first differing mark is earlier. Each of
    these is one doubt about a mark: no white space before it ("第2.说"), a speaker that starts with
    a digit ("2.5"), and a speaker that contains a comma or the end of a sentence.

    Args:
      text: of a conversation.
      count: its number of utterances.
      where: file and place, with which the message starts.

    Raises:
      InputError: there is no valid split, or the last words contain a mark `count + 1` without
        doubts whose speaker has spoken before.
    """
    text = text.strip()
    marks = _find_marks(text)
    # Dynamic programming from the last number to the first: the best split from each mark on.
    following: list[tuple[int, _Mark, list[_Mark]]] = []
    for number in range(count, 0, -1):
        best = []
        for mark in marks.get(number, ()):
            later = [
                option
                for option in following
                if option[1].start > mark.end and text[mark.end : option[1].start].strip()
            ]
            if number == count and text[mark.end :].strip():
                best.append((mark.doubts, mark, [mark]))
            elif later:
                doubts, _, rest = min(later, key=lambda option: (option[0], option[1].start))
                best.append((mark.doubts + doubts, mark, [mark, *rest]))
        if not best:
            raise InputError(
                f"{where}: its text cannot be split into {count} utterances: no "
                f"'{number}.speaker:' with words after it at the expected position; correct the "
                "text or dia_len"
            )
        following = best
    starts = [split for _, mark, split in following if mark.start == 0]
    if not starts:
        raise InputError(f"{where}: its text must start with '1.speaker:'; correct it")
    (split,) = starts
    for mark in marks.get(count + 1, ()):
        spoke_before = mark.speaker in {other.speaker for other in split}
        if mark.start > split[-1].end and not mark.doubts and spoke_before:
            raise InputError(
                f"{where}: its text continues with '{text[mark.start : mark.end]}', but dia_len is "
                f"{count}; correct one of them"
            )
    ends = [*(mark.start for mark in split[1:]), len(text)]
    return [
        (mark.speaker, text[mark.end : end].strip()) for mark, end in zip(split, ends, strict=True)
    ]


def _find_marks(text: str) -> dict[int, list[_Mark]]:
    """Returns all possible marks by number, in the order of the text."""
    marks: dict[int, list[_Mark]] = {}
    for match in _MARK.finditer(text):
        start, end = match.span("mark")
        number, speaker = int(match[2]), match[3].strip()
        if speaker:
            doubts = (
                bool(text[:start]) and not text[start - 1].isspace(),
                speaker[0].isdigit(),
                re.search("[,，。.!！?？;；…]", speaker) is not None,
            )
            marks.setdefault(number, []).append(_Mark(number, start, end, speaker, sum(doubts)))
    return marks


def _parse_conversation(
    row: Any, stretches: Mapping[str, Any], where: str, reading: Reading
) -> Dialogue:
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
        pairs = reading.unique_pairs(_parse_pairs(row["pairs"], where))
    with faults.collected():
        emotions = _parse_emotions(row, int(length), where, reading)
    faults.check()
    if not emotions:
        caused = {i for i, _ in pairs}
        emotions = [EMOTIONAL if t in caused else NEUTRAL for t in range(len(turns))]
    clips = _make_clips(name, stretches.get(name), len(turns))
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


def _parse_emotions(row: Mapping[str, Any], length: int, where: str, reading: Reading) -> list[str]:
    """Returns the emotion categories, or an empty list if the row has none."""
    emotions = next((row[k] for k in ("emotions", "emotion") if row.get(k) is not None), None)
    if emotions is None:
        return []
    if not isinstance(emotions, list) or len(emotions) != length:
        raise InputError(
            f"{where}: its emotions must be a list of {length} names, one per utterance; correct "
            "or remove it"
        )
    return [reading.emotion(str(emotion)) for emotion in emotions]


def _make_clips(video: str, stretches: Any, length: int) -> list[Clip | None]:
    if not isinstance(stretches, list) or len(stretches) != length:
        return [None] * length
    clips: list[Clip | None] = []
    for stretch in stretches:
        ends = (
            [stretch.get("start"), stretch.get("end")] if isinstance(stretch, Mapping) else stretch
        )
        times = [seconds(time) for time in ends] if isinstance(ends, list) else []
        match times:
            case [float(start), float(end)] if 0 <= start < end < LONGEST_FILM:
                clips.append(Clip(video, start, end))
            case _:
                clips.append(None)
    return clips
