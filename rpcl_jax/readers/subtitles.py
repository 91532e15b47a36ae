"""Subtitles: SubRip, WebVTT, SubStation, TTML, SAMI and YouTube's SBV, which pysubs2 reads."""

import html
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pysubs2

from rpcl_jax.data.dialogue import clip_name
from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import NOT_SAID, seconds

SUFFIXES = (".vtt", ".srt", ".ass", ".ssa", ".ttml", ".dfxp", ".smi", ".sami", ".sbv")
_FORMATS = {".ass": "ass", ".ssa": "ssa", ".smi": "sami", ".sami": "sami"}
_TTML = {".ttml", ".dfxp"}
_TIME = r"(?:\d+:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
# A line of times, perhaps with settings ("align:start position:0%", "X1:4 Y1:9"), else words.
_CUE = re.compile(
    rf"^[ \t]*({_TIME})(?:[ \t]*-->[ \t]*|,(?=[\d:.]+$))({_TIME})"
    r"(?:(?:[ \t]+\w+:\S+)*[ \t]*$|(.*))",
    re.ASCII | re.MULTILINE,
)
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]*)>")
_WORD_TIME = re.compile(r"<\d[\d:.]*>")  # before a word, in captions that appear word by word
_LANGUAGES = re.compile(r"<(?:div|p)\b[^>]*\b(?:xml:lang|class)=['\"]?([\w-]+)", re.IGNORECASE)
_SOUND = re.compile(r"\S+#xywh=\S+|[\s-]*(?:\[[^\[\]:]*\]|[(（][^()（）:：]*[)）]|[♪♫].*)\s*")
_LABEL = re.compile(r"\[([^\[\]:：]{1,60})\]\s*[:：]\s*")
_ASIDE = re.compile(
    r"(?i:laugh|sigh|gasp|cough|chuckl|sob(s|bing)|cries|crying|scream|shout|yell(s|ing)|groan|whisper"
    r"|sing(s|ing)\b|clears|inaud|unint|indist|music|applau|cheer|noise|lach(t|en)|seufz|rires?\b"
    r"|soupir|speaking|in [a-z]+$)"
)
# "[Ann] Hi", and what no pattern of names takes, "Ann Lee, MD: Hi".
_BRACKETED = re.compile(
    r"((?:(?:>>+|[-–—])\s*)?)(?:[\[(（]([^\[\]()（）:：]{1,40})[\])）]"
    r"|((?:[A-Z\d+@][^\s:.!?]*,? ?){1,5}):\s)\s*"
)
# A colon within a word or a time ends no name; the Chinese colon needs no space after it.
_NAME = re.compile(
    r"(\d{0,3}[^\W\d_][^\[\]<>:：?!,;]{0,39}?(?:\s*\[[^\[\]():\d]{1,30}\])?)\s*(?:：\s*|:(?:\s+|$))"
)
ASIDE = r"\s*\([^()]*\)$"  # after a name
_TITLES = {"dr.", "mr.", "mrs.", "ms.", "prof.", "professor", "judge", "senator", "sir", "lady"}
# A single word, in a script with spaces.
_SINGLE = re.compile(r"\s*[A-Za-z\xc0-\u024f'’.,?!-]+\s*")
_MOST_WORDS = 4  # of a name
# What ends in a colon and names nobody, in lower case: as its first word, and as all of it.
_FIRST = (
    "note notes nb ps p.s todo update edit source re https http from to cc bcc subject date sent "
    "time title attendees participants present location duration transcript def class return info "
    "error warn warning debug trace fatal"
)
_WHOLE = (
    "then later now next meanwhile finally however also so but and plus remember reason result "
    "example summary conclusion abstract keywords ingredients method directions serves step steps "
    "address phone email e-mail by name age city job pros cons action decision comment version "
    "license contact verse bridge outro intro first second third"
)
NO_NAMES, LABELS = {*_FIRST.split()}, {*_FIRST.split(), *_WHOLE.split()}
DASH = re.compile(r"(?:>>+|[-‐–—])\s*(?=[^\W\d_]|[\"'“‘¿¡(\[♪…])")
# In a first or last cue: "Subtitles by …", "Synced and corrected by …", "www.…".
_CREDITS = re.compile(
    r"(?i)(sub(title)?s|caption|sync|correct|translat|transcri|rip)\w*\b.*\bby\b|www\.|https?://"
    r"|advertise your product"
)
# Of two colours in a cue, each is a speaker.
_COLOURS = re.compile(r"<font color=([^>]*)>.*\n?.*<font color=(?!\1>)", re.IGNORECASE)
_IDENTIFIER = re.compile(rf"^([A-Z][^\n:]*)\n{_TIME} -->", re.MULTILINE)
_COLON = ":\u2060"  # with an invisible mark that keeps times in words from being read as times
_FLASH = 50  # milliseconds of a caption that only moves up the line before
_LANGUAGE = re.compile(r"(.+)\.[a-z]{2,3}(?:-[A-Za-z]+)?")


def is_subtitle(text: str) -> bool:
    """Returns whether a text, or the beginning of one, is of subtitles."""
    return text.startswith("WEBVTT") or bool(_CUE.search(text)) or _format_of(text, "") != "srt"


def recording(name: str) -> str:
    """Returns the name of the recording: "talk" for the transcript "day1/talk.mp4.en"."""
    language = _LANGUAGE.fullmatch(clip_name(name))
    return clip_name(language[1] if language else name)


def are_single_words(texts: Sequence[str]) -> bool:
    """Returns whether nearly all of many texts are one word, and most of these end no sentence."""
    sentences = sum(text.rstrip().endswith((".", "?", "!")) for text in texts)
    single = sum(map(bool, map(_SINGLE.fullmatch, texts)))
    return len(texts) > 5 and single > 0.95 * len(texts) and 2 * sentences < len(texts)


def read_subtitles(
    text: str, name: str, where: str, suffix: str, repaired: Counter[str]
) -> dict[str, Any]:
    """Converts subtitles to a conversation in our format.

    A cue is an utterance, or several if it has several voices: `<v Ann>`, `[Ann]:` and SubStation's
    names are the speaker of what follows, and so is `Ann:` if it is in capitals, is there twice, or
    if two thirds of the cues have such a name; a line that begins with a dash is another voice.
    Cues without a name have no speaker. Of captions that roll up, each line counts once.

    Args:
      name: of the file: the id of the conversation, and the recording that the times refer to.
      suffix: of the file, in lower case; where it is none of SUFFIXES, the content decides.
      repaired: counts the lines of sounds, such as [music] and songs.
    """
    cues = _with_names(_rolled_out(_cues(text, _format_of(text, suffix), where)), where)
    ends = {*range(2), *range(len(cues) - 2, len(cues))}
    credit = [k in ends and _CREDITS.search(" ".join(lines)) for k, (*_, lines) in enumerate(cues)]
    spoken = [
        (a, b, [x for x in lines if not (of or _SOUND.fullmatch(x))])
        for of, (a, b, lines) in zip(credit, cues, strict=True)
    ]
    repaired[NOT_SAID] += sum(len(cue[2]) for cue in cues) - sum(len(cue[2]) for cue in spoken)
    cues = [cue for cue in spoken if any(cue[2])]
    if are_single_words([" ".join(lines) for *_, lines in cues]):
        raise InputError(f"{where}: its cues are single words; write a cue for each sentence")
    if not cues:
        raise InputError(f"{where}: has no cue such as 00:00:01,000 --> 00:00:02,500; check it")
    # Whether the letters of a line are Latin: all, none, or some; else how the two lines end.
    latin = [[{c < "\u0250" for c in line if c.isalpha()} for line in cue[2]] for cue in cues]
    scripts = sum({True} in lines and {False} in lines for lines in latin)
    pairs = sum(
        len(lines) == 2 and lines[0][-1:] == lines[1][-1:] and lines[0][-1:] in [*".?!…"]
        and not any(DASH.match(line) or named(line)[0] for line in lines)
        for *_, lines in cues
    )  # fmt: skip
    if 3 * max(scripts, pairs) > 2 * len(cues) and (scripts or len(cues) > 2):
        raise InputError(
            f"{where}: its cues are in two languages; write the spoken one to a file of its own"
        )
    counts = Counter(named(DASH.sub("", line))[0] for *_, lines in cues for line in lines)
    firsts = [re.sub(ASIDE, "", named(DASH.sub("", lines[0]))[0]) for *_, lines in cues]
    labelled = 3 * sum(map(bool, firsts)) >= 2 * len(firsts)  # nearly every cue has a name
    carets = [line.lstrip("> ") for *_, lines in cues for line in lines if line.startswith(">>")]
    names_of = [name for line in carets if (name := named(line)[0])]
    if names_of and len(names_of) < len(carets) and max(counts[name] for name in names_of) > 1:
        raise InputError(
            f"{where}: some lines with '>>' have a name and others none; write names in all"
        )
    if labelled and len(firsts) > 3 and len({*firsts} - {""}) == sum(map(bool, firsts)):
        raise InputError(
            f"{where}: each name ({', '.join(filter(None, firsts[:3]))}) is there once; if these "
            "are speakers, write '[Name]: words'"
        )
    utterances: list[dict[str, Any]] = [
        {
            "speaker": speaker,
            "text": words,
            "clip": {"video": recording(name), "start": start / 1000, "end": end / 1000},
        }
        for start, end, lines in cues
        for speaker, words in _voices(
            lines, lambda n: n.isupper() or counts[n] > 1 or (labelled and not n[0].islower())
        )
    ]
    names = {turn["speaker"] for turn in utterances}
    for turn in utterances:
        if names.intersection(re.findall(r"[.?!…] ([^.?!:]{1,40}): ", turn["text"])):
            raise InputError(
                f"{where}: {turn['text'][:40]!r} has two speakers; write a cue for each"
            )
    for turn in utterances:
        plain = re.sub(ASIDE, "", str(turn["speaker"]))
        turn["speaker"] = plain if plain in names else turn["speaker"]
    return {"id": name, "utterances": utterances}


def _with_names(
    cues: list[tuple[int, int, list[str]]], where: str
) -> list[tuple[int, int, list[str]]]:
    """Returns the cues with names as `[Ann]: `, where most are "[Ann] Hi" or have a line "Ann"."""
    found: list[tuple[int, int, str, str, int]] = []  # cue, line, name, words and time
    for k, (start, _, lines) in enumerate(cues):
        for j, line in enumerate(lines):
            bracket = _BRACKETED.match(line)
            name = (bracket[2] or bracket[3]) if bracket else ""
            sound = bracket and bracket.end() == len(line) and len(lines) == 1
            aside = sound or _ASIDE.match(name)
            if (
                bracket
                and name
                and not (aside or name[0].islower() or named(DASH.sub("", line))[0])
            ):
                found.append((k, j, f"{bracket[1]}[{name}]: ", line[bracket.end() :], start))
    cues_of_words = sum(not all(map(_SOUND.fullmatch, lines)) for *_, lines in cues)
    if not found:  # or names in lines of their own
        alone = ((k, of[0]) for k, (_, _, of) in enumerate(cues) if len(of) > 1)
        found = [(k, 0, f"[{of}]: ", "", -1) for k, of in alone if len(of.split()) <= _MOST_WORDS]
        found = [of for of in found if of[2][1].isupper() and of[2][-4] not in ".,?!:-–—"]
    counts = Counter(of[2][of[2].index("[") :] for of in found)
    if 10 * len({k for k, *_ in found}) < 9 * cues_of_words or not 1 < len(counts) < len(found):
        labels = any(named(line)[0].isupper() for *_, lines in cues for line in lines)
        if found and found[0][4] >= 0 and (labels or len(counts) < len(found)):
            raise InputError(
                f"{where}: does {found[0][2].rpartition('[')[2][:-3]!r} speak at "
                f"{found[0][4] / 1000:.0f} seconds? then write names as '[Name]: words' in all "
                "cues, else remove it"
            )
        return cues
    for k, j, name, words, _ in found:
        cues[k][2][j] = f"{name}{words}"
    return cues


def _format_of(text: str, suffix: str) -> str:
    """Returns what pysubs2 calls the format; WebVTT and SBV become SubRip before it."""
    if suffix in _TTML or "http://www.w3.org/ns/ttml" in text[:2000]:
        return "ttml"
    if text.startswith("[Script Info]"):
        return "ass"
    return _FORMATS.get(suffix, "srt")


def _cues(text: str, kind: str, where: str) -> list[tuple[int, int, list[str]]]:
    """Returns start and end in milliseconds, and the lines, of every cue."""
    languages = {*_LANGUAGES.findall(text)} if kind in ("ttml", "sami") else set()
    if len(languages) > 1:
        raise InputError(
            f"{where}: has several languages or styles ({', '.join(sorted(languages)[:4])}); write "
            "the one that is spoken to a file of its own"
        )
    vtt = text.startswith("WEBVTT")
    above = Counter(_IDENTIFIER.findall(text) if vtt else ())
    if (
        len(above) < above.total()
        or _COLOURS.search(text)
        or "ttm:agent=" in text
        or re.search(r"^<[A-Z][a-z]+> ", text, re.M)
    ):
        raise InputError(
            f"{where}: its colours, agents, cues' identifiers or '<Name>' tell who speaks, which "
            "is not read; write names as 'Name: words'"
        )
    if kind == "srt":
        if vtt:  # an empty line ends a cue: a note follows, or the name of the next
            blocks = re.split(r"\n{2,}", text)
            found = ((block, _CUE.search(block)) for block in blocks)
            text = "\n\n".join(_named_block(block, cue) for block, cue in found if cue)
        text = _WORD_TIME.sub("", _VOICE.sub(_label, text))
        # To pysubs2, a line with two times is a cue, and a number at the end that of the next one.
        lines = (
            line if _CUE.match(line) else line.replace(":", _COLON) for line in text.split("\n")
        )
        text = "\n".join(_CUE.sub(_srt, line) for line in lines) + "\n\n1\n"
    try:
        with warnings.catch_warnings(action="ignore"):  # about lines that look like cues
            subtitles = pysubs2.SSAFile.from_string(text, format_=kind)
    except Exception as error:  # its readers raise what their parsers do
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{where}: its subtitles cannot be read ({reason}); save them as .srt"
        ) from error
    events = [event for event in subtitles if not event.is_comment and not event.is_drawing]
    starts = [event.start for event in events]
    near = starts[0] + 1000 if starts else 0  # milliseconds
    anew = [
        k for k, (a, b) in enumerate(pairwise(starts), 1) if b < a and not near < b > a - 60_000
    ]
    runs = [end - start for start, end in pairwise((0, *anew, len(starts)))]
    if kind != "ass" and len(runs) > 1 and min(runs) > 1:
        raise InputError(
            f"{where}: its times begin anew at cue {anew[0] + 1}; write each recording, or each "
            "language, to a file of its own"
        )
    cues: list[tuple[int, int, list[str]]] = []
    for event in sorted(events, key=lambda event: event.start):
        words = event.plaintext.replace(_COLON, ":")
        words = html.unescape(words) if vtt else words
        name = re.sub(r"[\[\]:：]", " ", event.name).strip()
        cue = (event.start, event.end, f"{f'[{name}]: ' if name else ''}{words}".split("\n"))
        if kind != "ass" or cue not in cues[-3:]:  # layers of an effect have the same words
            cues.append(cue)
    return cues


def _named_block(block: str, cue: re.Match[str]) -> str:
    """Returns a block of WebVTT from its cue on, with the name that Webex writes above that."""
    name = re.search(r'"([^"\n]+)" \(\d+\)\n$', block[: cue.start()])
    return f"1\n{cue[0]}\n{f'[{name[1]}]: ' if name else ''}{block[cue.end() :].lstrip()}"


def _srt(cue: re.Match[str]) -> str:
    """Returns the times of a cue as SubRip writes them, and the words beside them below."""
    times = (round(1000 * (seconds(time) or 0)) for time in (cue[1], cue[2]))
    start, end = (
        f"{t // 3_600_000:02d}:{t // 60_000 % 60:02d}:{t % 60_000 / 1000:06.3f}" for t in times
    )
    return f"{start} --> {end}\n{cue[3] or ''}"


def _label(voice: re.Match[str]) -> str:
    name = re.sub(r"[\[\]:：\s]+", " ", voice[1]).strip()[:60]
    return f"\n[{name}]: " if name else "\n"


def _rolled_out(cues: list[tuple[int, int, list[str]]]) -> list[tuple[int, int, list[str]]]:
    """Returns the cues without lines that were there before, if these are captions that roll up.

    In these, a line stays while the next one appears under it: most cues begin with lines of the
    one before, and some have one more, and some flash by or nearly all are so.
    """
    kept, grown, flashes, repeated, shown = [], 0, 0, 0, list[str]()
    for start, end, lines in cues:
        lines = [line for line in (re.sub(r"\s+", " ", raw).strip() for raw in lines) if line]
        fits = range(min(len(shown), len(lines)), 0, -1)
        same = next((k for k in fits if shown[-k:] == lines[:k]), 0)
        repeated += same > 0
        grown += 0 < same < len(lines)
        flashes += same == len(lines) > 0 and end - start <= _FLASH
        kept.append((start, end, lines[same:]))
        shown = lines
    often = 5 * repeated >= 4 * (len(cues) - 1) and grown >= 3
    rolls = grown and (often or (flashes and 2 * repeated >= len(cues) - 1))
    return [cue for cue in kept if cue[2]] if rolls else cues


def _voices(lines: Iterable[str], is_name: Callable[[str], bool]) -> list[tuple[str, str]]:
    """Returns the speaker, or "", and the words of each voice in a cue, which is at least one."""
    voices: list[tuple[str, list[str]]] = []
    for line in filter(None, map(str.strip, lines)):
        dash = DASH.match(line)
        name, words = named(line[dash.end() :] if dash else line, is_name)
        if name or dash or not voices:
            voices.append((name, []))
        voices[-1][1].append(words)
    return [(name, " ".join(words).strip()) for name, words in voices] or [("", "")]


def _is_label(name: str) -> bool:
    """Returns whether what is before a colon names nobody."""
    first, whole = name.split()[0].lower(), name.lower()
    return first in NO_NAMES or (whole in LABELS and not name.isupper())


def named(line: str, is_name: Callable[[str], bool] = bool) -> tuple[str, str]:
    """Returns the name before the words of a line, or "", and the words."""
    label, name = _LABEL.match(line), _NAME.match(line)
    if label and label[1].strip():
        return label[1].strip(), line[label.end() :]
    if name and _is_label(name[1]):
        return "", line
    if name and len(name[1].split()) <= _MOST_WORDS and is_name(name[1]):
        return name[1], line[name.end() :]
    titled = _titled(line)
    if titled and is_name(titled):
        return titled, line.partition(": ")[2].strip()
    return "", line


def _titled(line: str) -> str:
    """Returns the name of "ANN LEE, CNN HOST: …" or "Dr. Maria Elena Garcia Lopez: …", or ""."""
    head, colon, _ = line.partition(": ")
    head = re.sub(ASIDE, "", head)
    words = head.split()
    if not colon or not 2 <= len(words) <= 8 or not all(word[0].isupper() for word in words):
        return ""
    if head.isupper() and "," in head:
        return head.partition(",")[0]
    return head if words[0].lower() in _TITLES and "," not in head else ""
