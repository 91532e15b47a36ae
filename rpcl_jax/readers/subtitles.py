"""Transcripts that are texts: subtitles (SRT, WebVTT), and lines of `Name: words`."""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from rpcl_jax.data.dialogue import clip_name
from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import seconds

_TIME = r"(?:\d+:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
_CUE = re.compile(rf"\s*({_TIME})\s*-->\s*({_TIME})", re.ASCII)
_SETTINGS = re.compile(r"(?:\w+:\S+\s*)+")  # "align:start position:0%", "X1:4 Y1:9"
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]*)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
# Captions that appear word by word; each line stays while the next one appears under it.
_WORD_BY_WORD = re.compile(r"<\d[\d:.]*><c>")
_LABEL = re.compile(r"\[([^\[\]:：]{1,60})\]\s*[:：]\s*")
# A colon within a word or a time ends no name; the Chinese colon needs no space after it.
_NAME = re.compile(r"(\d{0,3}[^\W\d_][^\[\]<>:：?!,;]{0,39}?)\s*(?:：\s*|:(?:\s+|$))")
_MOST_WORDS = 4  # of a name
# What may come before a name: a dash, "[00:01:05]", "00:01 - 00:02" or "12/31/20, 9:41 PM -".
_DASH = re.compile(r"(?:>>+|[-–—])\s*(?=[^\W\d_]|[\"'“‘¿¡(\[♪…])")
_CLOCK = r"(?:\d{1,3}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?"
_WHEN = (
    rf"(?P<date>\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}},?[\sT]+)?(?P<start>{_CLOCK})"
    rf"(?P<half>\s?[AaPp]\.?[Mm]\.?)?(?:\s*(?:-+>|[-–—]|to)\s*(?P<end>{_CLOCK}))?"
)
_STAMP = re.compile(rf"[\[(]?{_WHEN}(?:[\])]:?\s*|:?\s+|(?=\s*[-–—]))(?:[-–—]\s+)?", re.ASCII)
_AFTER_NAME = re.compile(
    rf"(?P<name>[^\[\]():：]{{1,40}}?)\s*(?P<open>[\[(])?{_WHEN}"
    r"(?(open)[\])]\s*(?:[:：]\s*|$)|[:：]\s+)"
)
_LANGUAGE = re.compile(r"(.+)\.[a-z]{2,3}(?:-[A-Za-z]+)?")


def is_subtitle(text: str) -> bool:
    """Returns whether a text, or the beginning of one, is SRT or WebVTT."""
    return text.startswith("WEBVTT") or any(map(_CUE.match, text.split("\n")))


def recording(name: str) -> str:
    """Returns the name of the recording: "talk" for the transcript "day1/talk.mp4.en"."""
    language = _LANGUAGE.fullmatch(clip_name(name))
    return clip_name(language[1] if language else name)


def read_subtitles(text: str, name: str, where: str) -> dict[str, Any]:
    """Converts SRT or WebVTT to a conversation in our format.

    A cue is an utterance, or several if it has several voices: `<v Ann>` and `[Ann]:` name the
    speaker of what follows, and so does `Ann:` if it is in capitals or found more than once in the
    file; a line that begins with a dash is another voice. Cues without a name have no speaker.

    Args:
      text: of the file, with "\\n" as line break.
      name: of the file: the id of the conversation, and the recording that the times refer to.
      where: with which messages start.

    Raises:
      InputError: there is no cue.
    """
    cues = list(_cues(text))
    if not cues:
        raise InputError(f"{where}: has no cue such as 00:00:01,000 --> 00:00:02,500; check it")
    counts = Counter(_named(line)[0] for _, _, lines in cues for line in lines)
    utterances = [
        {
            "speaker": speaker,
            "text": words,
            "clip": {"video": recording(name), "start": seconds(start), "end": seconds(end)},
        }
        for start, end, lines in cues
        for speaker, words in _voices(lines, lambda n: n.isupper() or counts[n] > 1)
    ]
    return {"id": name, "utterances": utterances}


def _cues(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yields start, end and lines of every cue; `<v Ann>` has become a line "[Ann]: "."""
    lines = text.split("\n")
    vtt = text.startswith("WEBVTT")
    rolling, shown = bool(vtt and _WORD_BY_WORD.search(text)), ""
    found = [(k, match) for k, line in enumerate(lines) if (match := _CUE.match(line))]
    ends = [*(k for k, _ in found[1:]), len(lines)]
    for (k, match), end in zip(found, ends, strict=False):
        body = lines[k + 1 : end]
        if end < len(lines) and body and body[-1].strip().isdecimal():  # that of the next cue
            body.pop()
        beside = lines[k][match.end() :].strip()
        if beside and not _SETTINGS.fullmatch(beside):  # whisper.cpp's lines without brackets
            body.insert(0, beside)
        if vtt and "" in body:  # a note follows, or the name of the next cue
            body = body[: body.index("")]
        spoken = _TAG.sub("", _VOICE.sub(_label, "\n".join(body)))
        said = (html.unescape(spoken) if vtt else spoken).split("\n")
        if rolling:
            said = [line for line in map(str.strip, said) if line not in ("", shown)]
            if not said:
                continue
            shown = said[-1]
        yield match[1], match[2], said


def _label(voice: re.Match[str]) -> str:
    name = re.sub(r"[\[\]:：\s]+", " ", voice[1]).strip()[:60]
    return f"\n[{name}]: " if name else "\n"


def _voices(lines: Iterable[str], is_name: Callable[[str], bool]) -> list[tuple[str, str]]:
    """Returns the speaker, or "", and the words of each voice in a cue, which is at least one."""
    voices: list[tuple[str, list[str]]] = []
    for line in filter(None, map(str.strip, lines)):
        dash = _DASH.match(line)
        name, words = _named(line[dash.end() :] if dash else line, is_name)
        if name or dash or not voices:
            voices.append((name, []))
        voices[-1][1].append(words)
    return [(name, " ".join(words).strip()) for name, words in voices] or [("", "")]


def _named(line: str, is_name: Callable[[str], bool] = bool) -> tuple[str, str]:
    """Returns the name before the words of a line, or "", and the words."""
    label, name = _LABEL.match(line), _NAME.match(line)
    if label and label[1].strip():
        return label[1].strip(), line[label.end() :]
    if name and len(name[1].split()) <= _MOST_WORDS and is_name(name[1]):
        return name[1], line[name.end() :]
    return "", line


class _Line(NamedTuple):
    """A line of plain text; `time` is (start, end) where known, and `stamp` what gave it."""

    number: int
    text: str
    after_gap: bool
    speaker: str
    words: str
    stamp: str
    time: tuple[float | None, float | None]


def read_plain(
    text: str, name: str, where: str, mended: Counter[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the conversations of a text in which lines are `Name: words`, with their places.

    A time may be before the name ("[00:01:05]", "00:01 - 00:02") or in brackets after it. A line
    with a time and no name is a turn without a speaker, if the time is in brackets, is a stretch,
    or is on every line. Any other line without a name continues the turn before it. An empty line
    before a name begins another conversation, unless most of these would be single turns. A turn
    with a time has a clip until its end, or else until the next later time.

    Args:
      text: of the file, with "\\n" as line break.
      name: of the file: the id of the first conversation, and the recording that the times refer
        to; the second conversation is `name`-2.
      where: the path of the file.
      mended: counts the lines that continue a turn.

    Raises:
      InputError: fewer than a quarter of the lines begin a turn.
    """
    lines = list(_plain_lines(text))
    all_timed = all(line.stamp for line in lines)
    any_named = any(line.speaker for line in lines)
    conversations: list[tuple[int, list[dict[str, Any]]]] = []
    begun, after_title, continuing = 0, False, 0
    for line in lines:
        sure = line.stamp[:1] in ("[", "(") or line.time[1] is not None
        begins = bool(line.speaker or (line.stamp and (sure or all_timed)))
        begun += begins
        # What comes before the first turn, perhaps a title, belongs to the first conversation.
        parts = line.after_gap and begins and after_title and bool(line.speaker or not any_named)
        if not conversations or parts:
            conversations.append((line.number, []))
        turns = conversations[-1][1]
        if begins or not turns:
            words = line.words if begins else line.text
            turns.append({"speaker": line.speaker, "text": words, "time": line.time})
        else:
            turns[-1]["text"] = f"{turns[-1]['text']} {line.text}".strip()
            continuing += 1
        after_title = after_title or begins
    if 4 * begun < max(len(lines), 1):
        raise InputError(
            f"{where}: only {begun} of {len(lines)} lines begin with 'Name: ' or a time; write one "
            "turn a line this way, or give another format (docs/data.md)"
        )
    mended["lines without a name (of the turn before)"] += continuing
    # Where empty lines separate turns, one of them is easily forgotten.
    if 3 * sum(len(turns) == 1 for _, turns in conversations) > 2 * len(conversations):
        conversations = [(conversations[0][0], [t for _, turns in conversations for t in turns])]
    _set_clips([turn for _, turns in conversations for turn in turns], recording(name))
    for k, (number, turns) in enumerate(conversations, 1):
        own = name if k == 1 else f"{name}-{k}"
        yield f"{where}:{number}", {"id": own, "utterances": turns}


def _plain_lines(text: str) -> Iterator[_Line]:
    after_gap = False
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if not line:
            after_gap = True
            continue
        speaker, words = _named(line)
        stamp = None if speaker else _STAMP.match(line)
        if stamp:
            speaker, words = _named(line[stamp.end() :])
        elif not speaker and (dash := _DASH.match(line)):
            speaker, words = _named(line[dash.end() :])
        if not speaker and not stamp and (stamp := _AFTER_NAME.match(line)):
            speaker, words = _named(f"{stamp['name']}: {line[stamp.end() :]}")
            stamp = stamp if speaker else None
        elif speaker and not stamp and words.startswith(("[", "(")):  # "Ann: [00:05] words"
            stamp = _STAMP.match(words)
            words = words[stamp.end() :] if stamp else words
        time: tuple[float | None, float | None] = (None, None)
        if stamp and not stamp["date"] and not stamp["half"]:  # else the time of day
            time = seconds(stamp["start"]), seconds(stamp["end"])
        yield _Line(number, line, after_gap, speaker, words, stamp[0] if stamp else "", time)
        after_gap = False


def _set_clips(turns: list[dict[str, Any]], video: str) -> None:
    """Puts clips in place of the times of turns; a clip ends at the next later time."""
    later: list[float] = []  # times that come later, the next one last, each before those below it
    for turn in reversed(turns):
        start, end = turn.pop("time")
        if start is not None:
            while later and later[-1] <= start:
                later.pop()
            if end is None and later:
                end = later[-1]
            later.append(start)
            turn["clip"] = {"video": video, "start": start, "end": end}
