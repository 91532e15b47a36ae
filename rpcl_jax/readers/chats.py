"""Plain text: lines of `Name: words`, exported chats, names and times on lines of their own."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any, Literal, NamedTuple

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import NOT_SAID, seconds, with_ends
from rpcl_jax.readers.subtitles import ASIDE, DASH, LABELS, NO_NAMES, named, recording
from rpcl_jax.readers.tables import SLOWEST, spoken_words

# A time may be "0:05", "[00:01:05]", "00:01 - 00:02", or with a date "12/31/20, 9:41 PM -".
_CLOCK = r"(?:\d{1,3}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?"
_WHEN = (
    r"(?P<date>\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\.?,?[\sT]+)?"
    r"(?P<half>(?:[AP]M|上午|下午|午前|午後|오전|오후)\s?)?"
    rf"(?P<start>{_CLOCK})(?P<noon>\s?(?:[AaPp]\.?\s?[Mm]\.?(?!\w)"
    r"|(?(date)(?:Uhr|[^\W\d_]\.?(?:\s?[^\W\d_]\.?)?)(?=\s?[-–—\]])|(?!))))?"
    rf"(?:\s*(?:-+>|[-–—]|to)\s*(?P<end>{_CLOCK}))?"
)
_STAMP = re.compile(rf"[\[(]?{_WHEN}(?:[\])]:?\s*|:?\s+|$|(?=\s*[-–—]))(?:[-–—]\s+)?")
_AFTER_NAME = re.compile(
    rf"(?P<name>\[[^\[\]]{{1,40}}\]|[^\[\]():：]{{1,40}}?(?:\s\([^()\d]{{1,20}}\))?)(?P<gap>\s*)(?P<open>[\[(])?{_WHEN}"
    r"(?(open)[\])]\s*(?:[:：]\s*|$)|(?:[:：]\s+|$))"
)
# Names within a line with a time: IRC's, Zoom's, LINE's.
_NICK = re.compile(r"<[ @+%~&]?([^<>]{1,40})>\s+")
_TO = re.compile(
    r"From\s+([^:]{1,60}?)(?:\s+to\s+[^:]{1,80}|\s+):\s*"
    r"|([^:]{1,60}?)\s+to\s+(?:Everyone|[^:]*\((?:Direct Message|privately)\))\s*:\s*",
    re.IGNORECASE,
)
_TABBED = re.compile(r"([^\t]*\w[^\t]{0,40})\t+")
# Of an exported chat, whatever comes before the first colon; names in notices are quoted.
_SENDER = re.compile(r"([^:\"“”„«»]{1,60}?)\s*:(?:\s|$)")
_ACTION = re.compile(r"\w (added|removed|invited|changed|created|pinned|renamed)\b")  # a notice's
_LABEL = re.compile(rf"({'|'.join(map(re.escape, sorted(LABELS)))}):\s", re.IGNORECASE)
_DATE = re.compile(r"\b[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}|\d{4}-\d\d-\d\d")
_BRACKET = re.compile(r"\s*[\[(][^\[\]():\d]{1,30}[\])]$")
_BOLD = re.compile(r"([*_]{1,2})(?=[^\s*_])(.{1,60}?)(:?)\1(:?)(?=\s|$)")
_MARKS = re.compile(r"^[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
_EDITED = re.compile(r"\s*(?:\u200e<[^<>]*>|<[^<>]*\b(?:edit|omitted|attached)[^<>]*>)$")
# What stands in place of words: media, which have no words, in brackets or with an invisible mark.
_MEDIA = re.compile(
    r"\u200e.*|[<‹][^<>‹›]*(?-i:[ \u0080-\uffff])[^<>‹›]*[>›]|null"
    r"|(?:\S+|.+(?=\.\w+ \((?:file|Datei|archivo|fichier|arquivo|allegato|bestand)))"
    r"\.(jpe?g|png|gif|webp|heic|mp[34]|3gp|mov|opus|m4a|aac|pdf|docx?"
    r"|xlsx?|pptx?|zip|txt|vcf) \([^()]+\)"
    r"|(bild|video|audio|sticker|gif|dokument) weggelassen"
    r"|(image|video|audio|sticker|gif|document|contact card) omitted"
    r"|(this message was deleted|you deleted this message|missed (voice|video) call)\.?"
    r"|(diese nachricht wurde gelöscht|se eliminó este mensaje|eliminaste este mensaje"
    r"|mensagem apagada|esta mensagem foi apagada|ce message a été supprimé"
    r"|questo messaggio è stato eliminato)\.?|(reacted|replying) to \".*\"( with .*)?"
    r"|reacted \S+ to your message|\[(sticker|photo|video|voice message|file)\]"
    r"|\[blank_audio\]",
    re.IGNORECASE | re.DOTALL,
)
_NOTICE = re.compile(
    r".{1,60} (joined|left) the (meeting|chat|call|conversation|group|channel)\.?"
    r"|.{1,60} (started|stopped) (transcription|recording)\.?|Meeting ended after .*"
    r"|Transcribed by https?://\S+|This editable transcript was computer generated.*",
    re.IGNORECASE,
)
# "[00:00:12]", "#00:00:12-3#": a time within or after words.
_MARK = re.compile(r"\s*(?:\[\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?\]|#\d\d:\d\d:\d\d(?:-\d)?#)")
_HEADING = re.compile(
    r"[\W_]*(?:session|call|interview|conversation|dialog(?:ue)?|scene|meeting|part|day|episode"
    r"|participant) ?#?(\d{1,3})[\W_]*",
    re.IGNORECASE,
)
# Sounds and scenes in brackets, "(APPLAUSE)", and the line of a day in a chat.
_STAGE = re.compile(r"\[[^\[\]:]*\]|\([A-Z ,.'’-]+\)|\d{4}([./-])\d\d?\1\d\d?\W.{0,12}")
_SCENE = re.compile(r"(INT|EXT|I/E)[. ]|.*\b(CUT|FADE|DISSOLVE)\b|(THE )?END$")


# A turn, words of the turn before, a title (None), or what a program wrote (False).
_Begins = dict[str, Any] | str | Literal[False] | None


class _Line(NamedTuple):
    """A line; `stamp` is the time that it begins with, `rest` what follows that."""

    number: int
    text: str
    after_gap: bool
    speaker: str = ""
    words: str = ""
    stamp: re.Match[str] | None = None
    rest: str = ""
    nick: bool = False


def read_plain(
    text: str, name: str, where: str, repaired: Counter[str], together: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the conversations of a text with their places.

    A turn is a line `Name: words`, perhaps with a time, or a line of a name, a time or both above
    its words. A line with a time and no name is a turn without a speaker, if the time is in
    brackets, is a span, or is on every line. Any other line continues the turn before it; where
    lines begin with a date, as in an exported chat, so does every line without one. What nobody
    said, such as notices, media, and a title, is left out. An empty line before a name begins
    another conversation, unless most of these would be single turns; so does a heading such as
    "Session 2". A turn with a time has a clip until its end, or else until the next later time.

    Args:
      name: of the file: the id of the first conversation, and the recording that the times refer
        to; the second conversation is `name`-2.
      repaired: counts the lines that continue a turn and those that nobody said.
      together: whether it is one conversation, whatever empty lines there are.

    Raises:
      InputError: fewer than a quarter of the lines begin a turn, the names are none, or it is
        unsure where conversations end.
    """
    if "__eou__" in text:  # DailyDialog's
        for k, whole in enumerate(filter(None, map(str.strip, text.split("\n"))), 1):
            texts = filter(None, map(str.strip, whole.split("__eou__")))
            item = {"id": f"{name}-{k}", "utterances": [{"text": words} for words in texts]}
            yield f"{where}:{k}", item
        return
    if re.search(r"^Q\. ", text, re.MULTILINE) and re.search(r"^A\. ", text, re.MULTILINE):
        text = re.sub(r"^([QA])\. ", r"\1: ", text, flags=re.MULTILINE)  # of a court
    lines = list(_lines(text))
    begins, sure = _beginnings(lines)
    head = next((k for k, line in enumerate(lines) if k and line.after_gap), 0)
    counts = Counter(line.speaker for line in lines)
    once = all(counts[line.speaker] == 1 for line in lines[:head] if line.speaker)
    if not sure and once and any(_LABEL.match(line.text) for line in lines[:head]):
        begins[:head] = [None] * head  # who takes part, and when
    conversations: list[tuple[int, list[dict[str, Any]]]] = []
    continuing = left_out = 0
    any_named = any(line.speaker for line in lines)
    numbers = [int(m[1]) for line in lines if (m := _HEADING.fullmatch(line.text))]
    headings = len(numbers) > 1 and numbers == sorted({*numbers})
    headed = gap = False
    for line, turn in zip(lines, begins, strict=True):
        if headings and not sure and _HEADING.fullmatch(line.text):
            headed, turn = True, False
        if turn is None or turn is False or (isinstance(turn, str) and _STAGE.fullmatch(turn)):
            left_out += 1
        elif isinstance(turn, str):
            turns = conversations[-1][1]
            turns[-1]["text"] = f"{turns[-1]['text']} {turn}".strip()
            continuing += not sure
        else:
            parts = not sure and line.after_gap and (line.speaker or not any_named)
            gap |= bool(conversations and parts and not headed)
            if not conversations or headed or (parts and not together):
                headed = False
                conversations.append((line.number, []))
            conversations[-1][1].append(turn)
    begun = sum(len(turns) for _, turns in conversations)
    count = sum(turn is not False for turn in begins)
    first = next((k for k, turn in enumerate(begins) if isinstance(turn, dict)), 0)
    first = first if lines and lines[first].after_gap else 0  # below a head
    labels = sum(bool(_LABEL.match(line.text)) for line in lines[first:])  # of a form
    if not begun or (not sure and (4 * begun < count or labels >= begun)):
        raise InputError(
            f"{where}: only {begun} of {count} lines begin with 'Name: ' or a time; write one "
            "turn a line this way, or give another format (docs/data.md)"
        )
    _without_asides(conversations)
    speakers = [turn["speaker"] for _, turns in conversations for turn in turns]
    if dates := [speaker for speaker in speakers if _DATE.search(speaker)]:
        raise InputError(f"{where}: are {dates[0]!r} and the like speakers? give another format")
    lower = 2 * sum(speaker[:1].islower() for speaker in speakers) > begun
    longest = max((turns for _, turns in conversations), key=len)
    once = len(longest) == len({turn["speaker"] for turn in longest})
    different = once and len(longest) > (1 if lower else 3)
    timed = any(line.stamp for line in lines)
    if not (sure or timed) and (different or begun == 1 < len(lines)):
        raise InputError(
            f"{where}: each name ({', '.join(speakers[:3])}) is there once; if these are speakers, "
            "write a table with the columns speaker and text"
        )
    if not sure and len({*speakers}) == 1 != begun and 2 * continuing >= begun:
        raise InputError(
            f"{where}: {speakers[0]!r} is the only name, and {continuing} lines have none; give "
            "names to the others who say these"
        )
    for _, turns in conversations:
        for turn in turns:
            turn["text"] = _MARK.sub("", turn["text"]).strip()
        said = [turn for turn in turns if not _MEDIA.fullmatch(turn["text"])]
        left_out += len(turns) - len(said)
        turns[:] = [{**turn, "text": _EDITED.sub("", turn["text"])} for turn in said]
    conversations = [(number, turns) for number, turns in conversations if turns]
    if not conversations:
        raise InputError(f"{where}: nobody says anything in it, these are media and notices")
    repaired["lines without a name (of the turn before)"] += continuing
    repaired[NOT_SAID] += left_out
    # Where empty lines separate turns, one of them is easily forgotten.
    if 3 * sum(len(turns) == 1 for _, turns in conversations) > 2 * len(conversations):
        conversations = [(conversations[0][0], [t for _, turns in conversations for t in turns])]
    elif gap and not together and all(map(_share_speakers, conversations, conversations[1:])):
        raise InputError(
            f"{where}: empty lines part it into {len(conversations)} stretches of the same "
            "speakers; if it is one conversation, add --columns=conversation= , else give each a "
            "heading such as 'Conversation 2' or a file of its own"
        )
    said = [turn for _, turns in conversations for turn in turns]
    for turn, (start, end) in zip(said, with_ends([t.pop("time") for t in said]), strict=True):
        if start is not None:
            turn["clip"] = {"video": recording(name), "start": start, "end": end}
    _check_gaps(said, where)
    for k, (number, turns) in enumerate(conversations, 1):
        own = name if k == 1 else f"{name}-{k}"
        yield f"{where}:{number}", {"id": own, "utterances": turns}


def _check_gaps(turns: Sequence[dict[str, Any]], where: str) -> None:
    """Raises InputError where turns without a speaker are too far apart to be all that is said."""
    gaps = sorted(
        (turn["clip"]["end"] - turn["clip"]["start"]) / spoken_words(turn["text"])
        for turn in turns
        if not turn["speaker"] and turn.get("clip", {}).get("end")
    )
    if len(gaps) > 2 and gaps[len(gaps) // 2] > SLOWEST:
        raise InputError(
            f"{where}: its lines are further apart than their words take; are they chapters or an "
            "agenda? give the transcript"
        )


def _share_speakers(one: tuple[int, list], other: tuple[int, list]) -> bool:
    speakers = ({turn["speaker"] for turn in turns} for _, turns in (one, other))
    return bool(set.intersection(*speakers))


def _without_asides(conversations: Sequence[tuple[int, list[dict[str, Any]]]]) -> None:
    """Takes the asides off names, "Ann (sadly)", unless only these tell people apart."""
    turns = [turn for _, of in conversations for turn in of]
    plain = {turn["speaker"]: _BRACKET.sub("", turn["speaker"]) for turn in turns}
    for turn in turns:
        own = plain[turn["speaker"]]
        if own in plain or "[" in turn["speaker"]:
            turn["speaker"] = own


def _lines(text: str) -> Iterator[_Line]:
    after_gap = False
    for number, line in enumerate(text.split("\n"), 1):
        line = _MARKS.sub("", re.sub(r"[\u00a0\u202f]", " ", line).strip())
        line = _BOLD.sub(r"\2\3\4", line, count=1) if line[:1] in ("*", "_") else line
        if line:
            yield _parsed(_Line(number, line, after_gap))
        after_gap = not line


def _parsed(line: _Line) -> _Line:
    speaker, words = named(line.text)
    stamp = None if speaker else _STAMP.match(line.text)
    if stamp:
        rest = line.text[stamp.end() :]
        within = _NICK.match(rest) or _TO.match(rest) or _TABBED.match(rest)
        if stamp["date"] and not within:
            within = _SENDER.match(rest)
            level = within[1].split()[0] if within else ""
            of_log = level.isupper() and level.lower() in NO_NAMES
            if within and (of_log or _ACTION.search(within[1])):
                within = None
            speaker, words = "", rest
        else:
            speaker, words = named(rest)
        if within:
            speaker = within[within.lastindex or 1].strip()
            words = rest[within.end() :]
        nick = bool(_NICK.match(rest))
        return line._replace(speaker=speaker, words=words, stamp=stamp, rest=rest, nick=nick)
    after = _AFTER_NAME.match(line.text)
    if after and not speaker:
        who, words = after["name"].strip("[] -–—|"), line.text[after.end() :]
        alone = not words and not after["open"] and not line.text.endswith((":", "："))
        apart = len(after["gap"]) > 1 or after["name"].startswith("[")
        short = len(who.split()) <= 5 and any(c.isalpha() for c in who)
        if short and (apart or _is_name(who) or (not alone and named(f"{who}: ")[0])):
            return line._replace(speaker=who, words=words, stamp=after)
    if speaker and words.startswith(("[", "(")) and (stamp := _STAMP.match(words)):
        words = words[stamp.end() :]  # "Ann: [00:05] words"
    elif not speaker and (dash := DASH.match(line.text.replace("*", "-", 1).replace("•", "-", 1))):
        speaker, words = named(line.text[dash.end() :])
    return line._replace(speaker=speaker, words=words, stamp=stamp)


def _is_name(text: str) -> bool:
    """Returns whether a text can be a name alone: a few words with capitals and no sentence."""
    words = text.split()
    return (
        0 < len(words) <= 4
        and not text.endswith((".", "?", "!", ","))
        and all(not word[0].islower() and word[0] not in "\"'“(" for word in words)
        and any(c.isalpha() for c in text)
    )


def _beginnings(lines: list[_Line]) -> tuple[list[_Begins], bool]:
    """Returns what each line begins, and whether the form of the file makes it sure."""
    stamped = [line for line in lines if line.stamp]
    brackets = sum(line.text[0] in "[(" for line in stamped)
    if 2 * brackets > len(stamped) > brackets:  # other times are words: "10:30 tomorrow"
        lines[:] = [
            line if line.text[0] in "[(" or line.speaker else line._replace(stamp=None)
            for line in lines
        ]
        stamped = [line for line in lines if line.stamp]
    named_lines = [line for line in lines if line.speaker]
    timed = {line.speaker for line in stamped if line.speaker}
    nicks = any(line.nick for line in stamped)
    dates = [line.stamp["date"] for line in lines if line.stamp]
    dated = any(line.stamp and line.stamp["date"] for line in lines[:3]) or (
        bool(dates) and all(dates) and 2 * len(stamped) > len(named_lines)
    )
    headed = {k: line.speaker for k, line in enumerate(lines) if line.stamp and line.speaker}
    below = (lines[k + 1 : k + 2] for k in headed if not lines[k].words)
    if headed and len(headed) == len(stamped) == sum(bool(n) and not n[0].stamp for n in below):
        return _above(lines, headed), True  # "Ann  0:05", and the words below
    alone = [k for k, line in enumerate(lines) if line.stamp and not line.speaker]
    above = {k for k in alone if lines[k + 1 : k + 2] and not lines[k + 1].stamp}
    if alone and above == {*alone} and not timed and not nicks:  # words below times
        heads = {k: lines[k].rest for k in alone if lines[k].rest}
        short = (_is_name(who) or (dated and len(who.split()) < 3) for who in heads.values())
        if heads and all(short):  # "00:02 - Ann Smith"
            return _above(lines, heads), True
        before = {k - 1 for k in alone}  # a name above each time
        if not heads and all(k >= 0 and _is_above(lines[k]) for k in before):
            return _above(lines, {k + 1: lines[k].text for k in before}, before), True
        if not heads and alone[0] == 0 and 2 * len(named_lines) <= len(lines) - len(alone):
            return _above(lines, dict.fromkeys(alone, "")), True
    capitals = {
        k: line.text for k, line in enumerate(lines) if _is_head(line, *lines[k + 1 : k + 2])
    }
    repeated = len(capitals) > len({*capitals.values()})
    plain = all(
        " " not in text and not lines[k + 1].text[0].islower() for k, text in capitals.items()
    )
    if (
        len(capitals) > 1
        and (repeated or plain)
        and not stamped
        and len(named_lines) < len(capitals)
    ):
        names = {k: re.sub(ASIDE, "", text) for k, text in capitals.items()}
        return _above(lines, names, until_gap=True), True
    counts = Counter(line.speaker for line in named_lines)
    mostly_timed = 2 * sum(bool(line.stamp) for line in named_lines) > len(named_lines)
    begins: list[_Begins] = []
    begun = False
    for line in lines:
        known = line.stamp or not mostly_timed or counts[line.speaker] > 1
        known = known or line.speaker in timed or (line.after_gap and _is_name(line.speaker))
        fits = line.nick if nicks else line.stamp if dated else known
        turn: _Begins = line.text if begun else None  # before the first turn, a title
        if _NOTICE.fullmatch(line.text) or (line.stamp and not line.speaker and not line.rest):
            turn = False
        elif line.speaker and fits:
            turn = _turn(line, line.speaker, line.words)
        elif line.stamp and (nicks or line.stamp["date"]):
            turn = False  # a notice of the program
        elif line.stamp and not dated:
            sure = line.text[0] in "[(" or line.stamp["end"] or len(stamped) == len(lines)
            turn = _turn(line, "", line.rest) if sure else turn
        begun = begun or isinstance(turn, dict)
        begins.append(turn)
    return begins, dated or nicks


def _is_above(line: _Line) -> bool:
    return not line.speaker and not line.stamp and _is_name(line.text)


def _turn(line: _Line, speaker: str, words: str) -> dict[str, Any]:
    time: tuple[float | None, float | None] = (None, None)
    stamp = line.stamp
    if stamp and not (stamp["date"] or stamp["noon"] or stamp["half"]):  # else the time of day
        time = seconds(stamp["start"]), seconds(stamp["end"])
    return {"speaker": speaker, "text": words, "time": time}


def _above(
    lines: Sequence[_Line],
    speakers: dict[int, str],
    skipped: Set[int] = frozenset(),
    until_gap: bool = False,
) -> list[_Begins]:
    """Returns the turns of lines above their words, as far as these go without an empty line."""
    begins: list[_Begins] = []
    speaking = False
    for k, line in enumerate(lines):
        speaking = k in speakers or (speaking and not (until_gap and line.after_gap))
        if k in speakers:
            begins.append(_turn(line, speakers[k], ""))
        elif speaking and not (k in skipped or _NOTICE.fullmatch(line.text)):
            aside = until_gap and re.fullmatch(ASIDE, line.text)
            begins.append(None if aside else line.text)
        else:
            begins.append(None)
    return begins


def _is_head(line: _Line, below: _Line | None = None) -> bool:
    """Returns whether a line is a name in capitals above words, as in a screenplay."""
    name = re.sub(ASIDE, "", line.text)
    return (
        _is_name(name)
        and name.isupper()
        and len(name) > 1
        and not line.speaker
        and not _SCENE.match(line.text)
        and below is not None
        and not (below.after_gap or below.text.isupper())
    )
