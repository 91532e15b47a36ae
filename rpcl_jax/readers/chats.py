"""Plain text: lines of `Name: words`, exported chats, names and times on lines of their own.

An entry of `_FORMS` is a form that a text may have. To read another one, add its entry, and an
example to TEXTS in tests/readers/test_other_peoples_transcripts.py. No library replaces them:
whatstk and chat-miner misread half of the exports of WhatsApp there (media, notices and edits are
words to them), and need pandas.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import NOT_SAID, seconds, with_ends
from rpcl_jax.readers.subtitles import ASIDE, NO_NAMES, named, recording
from rpcl_jax.readers.tables import SLOWEST, spoken_words

# What may begin a turn, although it is no name that is known to be one: "Lee, Ann: Oh", "Ann:Oh".
_LABELLED = re.compile(
    r"(?:\d{1,3}[.)] *)?(?:[^\W_a-z]|[+@(?\[])[^:：\n.!;\"“”]{0,40}[:：](?!//|\d)"
)
_NUMBER = re.compile(r"\?|\+\d[\d ()*-]{5,}")  # of a phone, in place of a name
_ACTION = re.compile(r"[\"“”„«»]|\w (added|removed|invited|changed|created|pinned|renamed)\b")
_DAY = re.compile(r"\b[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}|\d{4}-\d\d-\d\d")
_SCENE = re.compile(r"(INT|EXT|I/E)[. ]|.*\b(CUT|FADE|DISSOLVE)\b|(THE )?END$")
_BRACKET = re.compile(r"\s*[\[(][^\[\]():\d]{1,30}[\])]$")
_BOLD = re.compile(r"^([*_]{1,2})(?=[^\s*_])(.{1,60}?)(:?)\1(:?)(?=\s|$)")
_MARKS = re.compile(r"^(?:\u200e(?=[\[\d])|[\u200f\u202a-\u202e\u2066-\u2069\ufeff])+")
_EDITED = re.compile(
    r"\s*(?:\u200e<[^<>]*>|<[^<>]*\b(?:edit|omitted|attached|bearbeitet|bewerkt|modifi|изменен|düzenlen"
    r"|edyt|diedit|redigera)[^<>]*>)$",
    re.IGNORECASE,
)
# What stands in place of words: media, which have no words, in brackets or with an invisible mark.
_MEDIA = re.compile(
    r"\u200e.*|[<‹][^<>‹›]*(?-i:[ \u0080-\uffff])[^<>‹›]*[>›]|null"
    r"|(?:\S+|.+(?=\.\w+ \((?:file|Datei|archivo|fichier|arquivo|allegato|bestand)))\.(jpe?g|png"
    r"|gif|webp|heic|mp[34]|3gp|mov|opus|m4a|aac|pdf|docx?|xlsx?|pptx?|zip|txt|vcf) \([^()]+\)"
    r"|(bild|video|audio|sticker|gif|dokument) weggelassen"
    r"|(image|video|audio|sticker|gif|document|contact card) omitted"
    r"|(this message was deleted|you deleted this message|missed (group )?(voice|video) call"
    r"|waiting for this message\. this may take a while|verpasster (sprach|video)anruf|사진"
    r"|diese nachricht wurde gelöscht|du hast diese nachricht gelöscht|dit bericht is verwijderd"
    r"|(je|u) hebt dit bericht verwijderd|gemiste (spraak|video-?)oproep"
    r"|se eliminó este mensaje|eliminaste este mensaje|llamada perdida"
    r"|пропущенный (аудио|видео)звонок"
    r"|(данное )?сообщение удалено|вы удалили данное сообщение|bu mesaj silindi|bu mesajı sildiniz"
    r"|mensagem apagada|(esta|essa) mensagem foi apagada|você apagou esta mensagem"
    r"|chamada de (voz|vídeo) perdida|ce message a été supprimé|vous avez supprimé ce message"
    r"|appel (vocal|vidéo) manqué|questo messaggio è stato eliminato|hai eliminato questo messaggio"
    r"|chiamata (vocale )?persa|wiadomość usunięta|usunięto tę wiadomość|pesan ini (telah )?dihapus"
    r"|anda menghapus pesan ini)\.?|(reacted|replying) to \".*\"( with .*)?"
    r"|\[(スタンプ|写真|動画|ボイスメッセージ|ファイル|アルバム)\]|☎.*"
    r"|reacted \S+ to your message|\[(sticker|photo|video|voice message|file|blank_audio"
    r"|in reply to .*)\]|live location shared|location: https?://\S+|poll:|option: .* \(\d+ \w+\)",
    re.IGNORECASE | re.DOTALL,
)
_HEADING = re.compile(
    r"[\W_]*(?:session|call|interview|conversation|dialog(?:ue)?|scene|meeting|part|day|episode"
    r"|participant) ?#?(\d{1,3})[\W_]*",
    re.IGNORECASE,
)
# "[00:00:12]", "#00:00:12-3#": a time within or after words.
_MARK = re.compile(r"\s*(?:[\[(]\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?[\])]|#\d\d:\d\d:\d\d(?:-\d)?#)")

# What patterns are made of, from the compound to the simple; a space is spaces or tabs. A group may
# be in several alternatives of a pattern.
_PARTS = {
    "{stamp}": r"[\[(]?{when}(?:[\])]:? *|:? +|(?= *[-–—]))(?:[-–—] +)?",
    "{when}": "(?:{moment}|{time})",
    # A day and a time of it, with what languages write between and after them.
    "{moment}": r"(?P<date>\d{1,4}[./-] ?\d{1,2}[./-] ?\d{1,4}\.?|\d{1,2}-[A-Z][a-z]{2}-\d{2,4})"
    r"(?:[,،]? +|T)(?:(?:à|klo|kl\.?|um|at) )?{half}?"
    r"(?P<start>\d{1,2}(?:[:.]\d{2}){1,2}(?:[.,]\d{1,6})?)Z?{half}?"
    r"(?: ?(?:Uhr|[^\W\d_]\.?(?: ?[^\W\d_]\.?)?)(?= ?[-–—\]]))?",
    "{time}": r"{half}?(?P<start>{clock}){half}?(?:{to}(?P<end>{clock}))?",
    "{half}": r"(?P<half> ?(?:[AaPp]\.? ?[Mm]\.?(?!\w)|上午|下午|午前|午後|오전|오후) ?)",
    "{clock}": r"(?:\d{1,3}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?",
    "{to}": r" *(?:-+>|[-–—]|to) *",
    "{name}": r"(?P<speaker>[^\n:：]{1,60}?)",
    "{says}": r" *(?:： *|:(?: +|$))",
    " ": r"[ \t]",
}


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for part, of in _PARTS.items():
        pattern = pattern.replace(part, of)
    numbered = re.sub(r"\(\?P<(\w+)>", lambda name: f"(?P<{name[1]}{name.start()}>", pattern)
    return re.compile(numbered, re.MULTILINE)


# What may be a speaker: the name in a text, or "" if it has none.
def _before_colon(text: str) -> str:
    return "" if text[-1] in "@-–—|" else named(f"{text}: ")[0]


def _alone(text: str) -> str:
    """A few words with capitals that are no sentence."""
    words = re.sub(ASIDE, "", text).split()
    fits = 0 < len(words) <= 4 and not text.endswith((".", "?", "!", ","))
    fits &= all(not word[0].islower() and word[0] not in "\"'“([" for word in words)
    return text if fits and _apart(text) else ""


def _apart(text: str) -> str:
    short = len(text.split()) <= 5 and (any(map(str.isalpha, text)) or _NUMBER.fullmatch(text))
    return text if short and not _DAY.search(text) else ""


def _in_capitals(text: str) -> str:
    return text if _alone(text) and text.isupper() and not _SCENE.match(text) else ""


def _sender(text: str) -> str:
    """Whatever is before the colon, as in an exported chat, but no action and no level of a log."""
    level = text.split()[0]
    of_log = level.isupper() and level.lower() in NO_NAMES
    return "" if of_log or _ACTION.search(text) else text


class _Form(NamedTuple):
    """How turns begin in a kind of text; the words of one go on until the next begins.

    Attributes:
      head: the beginning, in a line or two, with the groups `speaker`, `date`, `start`, `end`,
        `half` (a day's) and `mark` (what no other form has). If it ends with "$", words are below.
        The more of these groups a form finds in a text, the better it explains the text.
      speaker: the name in what `speaker` matches, or "" if it cannot be one.
      nameless: what it is then: "words" of the turn before, a "turn", or a "notice" of a program.
      sure: whether such lines can be nothing else, so that empty lines mean nothing. In others,
        each line must begin a turn, be left out or be wrapped, and names must come back.
    """

    head: str
    speaker: Callable[[str], str] = str
    nameless: str = "words"
    sure: bool = True


_FORMS = {
    "WhatsApp on Android": _Form(
        r"{moment}(?P<mark> ?[-–—]|,) +(?:{name}{says})?", _sender, "notice"
    ),
    "WhatsApp on iOS, Signal": _Form(
        r"(?P<mark>\[){moment}\] *(?:{name}{says})?", _sender, "notice"
    ),
    "chats of Teams and Discord": _Form(r"\[{moment}\] *{name}$", _apart, "notice"),
    "chat of Zoom": _Form(
        r"{when} +(?i:(?P<mark>From) +{name}(?: +to +[^\n:]+)?|{name} +(?P<mark>to) +"
        r"(?:Everyone|[^\n:]*\((?:Direct Message|privately)\))){says}"
    ),
    "LINE, WeeChat": _Form(r"{when}(?P<mark>\t+){name}\t+", _apart, "notice"),
    "IRC": _Form(r"{stamp}(?:(?P<mark><)[@+%~&]? ?{name}> +)?", nameless="notice"),
    "KakaoTalk": _Form(r"\[{name}\] \[{time}\] *"),
    "iMessage": _Form(r"(?P<date>[A-Z][a-z]{2} \d\d, \d{4} +[\d:]+ [AP]M)(?: \(.*)?\n{name}$"),
    # Names and times above the words. Otter, Teams and Zoom put a gap between the two.
    "name, gap, time /": _Form(
        r"(?:\[{name}\] *|{name}(?: {2,}| *[|] *)){when}$"
        r"|{name}(?:, \[{when}\]| — (?:(?:Today|Yesterday) at )?{when})$",  # Telegram, Discord
        _apart,
    ),
    "name, time /": _Form(r"{name} +(?:[-–—·•@] *)?[\[(]?{when}[\])]?:?$", _alone),  # Rev, WeChat
    "time, name /": _Form(r"[\[(]?{when}[\])]? *(?:[-–—] *)?{name}$", _alone),  # Trint, Fathom
    "time / name /": _Form(r"[\[(]?{time}[\])]?\n+{name}$", _alone),  # Happy Scribe
    "name / time /": _Form(r"{name}\n+[\[(]?{time}[\])]?$", _alone),
    "name / 2 seconds /": _Form(r"{name}\n+(?P<mark>(?:\d+ \w+ ){0,2}\d+ seconds?)$", _alone),
    "time /": _Form(r"[\[(]?{time}[\])]?:?$", nameless="turn"),  # YouTube
    "Speaker 1 /": _Form(r"(?P<speaker>(?i:speaker|participant|interviewe[re]) ?\d*):?$"),
    "NAME / of a screenplay": _Form(
        r"{name}(?: *\([^()\n]*\))?(?:\n\([^()\n]*\))?(?=\n.)$", _in_capitals
    ),
    "Name: words": _Form(
        r"(?:{stamp})?(?:(?:>>+|[-–—*•]|\d{1,3}[.)]) *)?{name}(?:{says}(?:[\[(]{time}[\])]:? *)?"
        r"| *[\[(]{time}[\])] *(?:[:：] *|$)| +{time}{says})",
        *(_before_colon, "words", False),
    ),
    "[time] words": _Form(
        r"(?:[\[(]{time}[\])]:?|(?P<start>{clock}){to}(?P<end>{clock})) *(?:[-–—] +)?"
        r"(?:{name}{says})?",
        *(_before_colon, "turn", False),
    ),
    "[seconds] words": _Form(r"\[(?P<start>[\d.]+)s -> (?P<end>[\d.]+)s\] *", str, "turn", False),
    "time words": _Form(r"{time}:? +(?:[-–—] +)?(?:{name}{says})?", _before_colon, "turn", False),
}
# Lines that nobody said: what programs write, sounds and scenes in brackets, days, times alone.
_NOT_SAID = _compiled(
    r"(?i:.{1,60} (joined|left) the (meeting|chat|call|conversation|group|channel)\.?"
    r"|.{1,60} (started|stopped) (transcription|recording)\.?"
    r"|(Meeting|Transcription) ended after .*"
    r"|Transcribed by https?://\S+|This editable transcript was computer generated.*)"
    r"|(?i:(?:page|seite) \d+(?: (?:of|von) \d+)?)|(?:\d+ (?:hour|minute)s?,? )*\d+ seconds?"
    r"|[=*_-]{3,}|Exported [\d,.]+ message\(s\)|[*]{3} .* [*]{3}"
    r"|(?i:-+ (?:log (?:opened|closed)|day changed) .*|session (?:start|close|ident): .*)"
    r"|(?i:action item: .* - watch: \S+|detect(?:ing|ed) language.*)"
    r"|\d{4}[./-]\d\d?[./-]\d\d?\W.{0,12}|[\[(]?{when}[\])]?:?(?: *\[[^\[\]:]*\])?"
)
_ASIDE = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")  # a sound, a scene
_DATED = _compiled(r"\[\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? \d[^\]]*\]")
# Below a message of Discord.
_ATTACHED = re.compile(r"^\{(?:Attachments|Embed|Reactions|Stickers)\}\n(?:.+\n)*", re.MULTILINE)
_BRACKETED_TIME = _compiled(r"[\[(]{when}[\])]")
_WIDTH = 40  # characters, at least, of a text with wrapped lines
_TIME_ALONE = _compiled(r"[\[(]?{when}[\])]?:?")
# What may be names, in forms that are not read: "[Ann] Hi", "Ann | Hi", "Ann - Hi", "Ann Lee Hi".
_OTHERWISE_NAMED = re.compile(
    r"(?=\d+:\d\d)|[\[(|] *[A-Z][^\[\]()|]*[\])|]|[A-Z]\S*(?: [A-Z]\S*)? [-–—|] "
    r"|[A-Z][\w.]+(?: [A-Z][\w.]+)*(?= [A-Z])"
)


class _Turn(NamedTuple):
    """What begins at a line of a text: a turn, or a notice, for which nothing is in `said`."""

    line: int  # from 0
    speaker: str
    fields: dict[str, str]
    said: list[str]
    below: list[tuple[int, str]]  # the lines below its head, with their numbers
    plain: str  # the line from the name on, if there is one
    parted: bool  # whether an empty line is above it
    headed: bool  # whether it is below a heading


def _read_as(form: _Form, text: str, headings: bool) -> tuple[int, list[_Turn]]:
    """Returns how well a form explains a text, and what begins in it; 0 if the text is not so."""
    heads = []
    for match in _compiled(f"^(?:{form.head})").finditer(text):
        groups = {key.rstrip("0123456789"): key for key, of in match.groupdict().items() if of}
        fields = {field: match[key].strip(" \t-–—|") for field, key in groups.items()}
        speaker = form.speaker(fields["speaker"]) if fields.get("speaker") else ""
        if speaker or form.nameless != "words":
            named_at = match.start(groups["speaker"]) if "speaker" in groups else match.end()
            heads.append((match.start(), match.end(), named_at, speaker, fields))
    counts = Counter(head[3] for head in heads)
    if not form.sure:  # "clear: it is no" is a line that is wrapped
        lower = {name for name, count in counts.items() if name[:1].islower() and count == 1}
        heads = [of for of in heads if of[3] not in lower or "start" in of[4] or text[of[2]] == "["]
    until_gap, headed, line, before = form.speaker is _in_capitals, False, 0, 0
    turns: list[_Turn] = []
    for head, following in pairwise([*heads, None]):
        place, words, named_at, speaker, fields = head or (0, 0, 0, "", {})
        end = following[0] if following else len(text)
        line, before = line + text.count("\n", before, place), place
        words = words if speaker else named_at
        beside, *rest = text[words:end].split("\n")
        first = line + text.count("\n", place, words)
        lines = takewhile(lambda of: of[1], enumerate(rest, first + 1)) if until_gap else None
        below = [(k, of) for k, of in lines or enumerate(rest, first + 1) if of]
        own = [*takewhile(lambda of: not (headings and _HEADING.fullmatch(of[1])), below)]
        said = [of for _, of in own if not _is_no_speech(of, form)]
        notice = not speaker and (form.nameless == "notice" or _is_no_speech(beside, form))
        said = [*([] if _MEDIA.fullmatch(beside) or not beside else [beside]), *said]
        plain, parted = text[named_at:end].partition("\n")[0], text.endswith("\n\n", 0, place)
        said = [] if notice else said
        turns.append(_Turn(line, speaker, fields, said, below, plain, parted, headed))
        headed = len(own) < len(below)
    if not turns or not _fits(form, turns, text.split("\n")):
        return 0, turns
    counted = [turn for turn in turns if turn.said or form.nameless == "notice"]
    found = (len(t.fields.keys() & {"date", "start", "mark"}) + bool(t.speaker) for t in counted)
    return sum(fields**2 for fields in found), turns


def _is_no_speech(line: str, form: _Form) -> bool:
    """Returns whether nobody said a line; in a chat, people write times and in brackets, too."""
    aside = _ASIDE.fullmatch(line) or _TIME_ALONE.fullmatch(line)
    if aside:
        return form.nameless != "notice"
    return bool(_NOT_SAID.fullmatch(line) or _MEDIA.fullmatch(line))


def _fits(form: _Form, turns: Sequence[_Turn], lines: Sequence[str]) -> bool:
    """Returns whether a text can have a form."""
    names = Counter(turn.speaker for turn in turns)
    title = [*filter(None, lines[: turns[0].line])]
    others = [*title, *(line for turn in turns for _, line in turn.below)]
    if form.nameless == "notice":
        times = sum("date" not in turn.fields for turn in turns)  # "[0:05] <laughs> Oh" is no IRC
        return any(names) and 4 * sum(bool(turn.speaker) for turn in turns) >= times
    if not form.head.endswith("$"):
        return True
    labels = Counter(named(line)[0] for line in others)
    if sum(count for name, count in labels.items() if name and count > 1) > len(turns):
        return False  # these are 'Name: words', under a title and a time
    timed = (_TIME_ALONE.fullmatch(line) or _BRACKETED_TIME.match(line) for line in others)
    if form.nameless != "turn" and any(timed):
        return False  # a name is beside, or above, each time
    if 4 * sum(not (turn.said or turn.below) for turn in turns[:-1] or turns) >= len(turns):
        return False  # words are below the heads
    if form.nameless == "turn":
        first = Counter(turn.said[0] for turn in turns if turn.said)
        again = sum(count for words, count in first.items() if count > 1 and _alone(words))
        return not (title or all(named(words)[0] for words in first) or 2 * again > len(turns))
    if form.speaker is _in_capitals:  # and not headings, most of which are there once
        ended = all(turn.said and turn.said[-1][-1] in ".?!…" for turn in turns)
        ended &= not any(" " in name for name in names)
        return 2 * len(names) <= len(turns) + 1 > 2 or (len(turns) == 2 and ended)
    return len(names) < len(turns) or form.speaker is not _alone or len(turns) < 3


def read_plain(
    text: str, name: str, where: str, repaired: Counter[str], together: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the conversations of a text with their places.

    It is read in the form that explains it best. What nobody said, such as notices, media, and a
    title, is left out. In forms that other lines may have by chance, such as `Name: words`, an
    empty line before a name begins another conversation, unless most of these would be single
    turns; a heading such as "Session 2" always does. A turn with a time has a clip until its end,
    or else until the next later time.

    Args:
      name: of the file: the id of the first conversation, and the recording that the times refer
        to; the second conversation is `name`-2.
      repaired: counts the lines that continue a turn and those that nobody said.
      together: whether it is one conversation, whatever empty lines there are.

    Raises:
      InputError: a line neither begins a turn nor surely belongs to one, two forms explain the text
        as well, or it is unsure who speaks or where conversations end.
    """
    if "__eou__" in text:  # DailyDialog's
        for k, whole in enumerate(filter(None, map(str.strip, text.split("\n"))), 1):
            texts = filter(None, map(str.strip, whole.split("__eou__")))
            said = [{"text": words} for words in texts]
            yield f"{where}:{k}", {"id": f"{name}-{k}", "utterances": said}
        return
    if re.search(r"^Q\. ", text, re.MULTILINE) and re.search(r"^A\. ", text, re.MULTILINE):
        text = re.sub(r"^([QA])\. ", r"\1: ", text, flags=re.MULTILINE)  # of a court
    lines = [_MARKS.sub("", re.sub(r"[\u00a0\u202f]", " ", x).strip()) for x in text.split("\n")]
    numbers = [int(m[1]) for m in map(_HEADING.fullmatch, lines) if m]
    if headings := len(numbers) > 1 and numbers == sorted({*numbers}):
        lines = [line.rstrip(":") if _HEADING.fullmatch(line) else line for line in lines]
    text = "\n".join(_BOLD.sub(r"\2\3\4", line) for line in lines)
    text = _ATTACHED.sub(lambda attached: "===\n" * attached[0].count("\n"), text)  # left out
    lines = text.split("\n")
    readings = {key: _read_as(form, text, headings) for key, form in _FORMS.items()}
    best = max(readings, key=lambda key: readings[key][0])  # the one that explains it best
    form, (score, found) = _FORMS[best], readings[best]
    begun = [turn for turn in found if turn.said] if score else []
    count = sum(bool(line) and not _NOT_SAID.fullmatch(line) for line in lines)
    title = [*filter(None, lines[: found[0].line])] if begun else []
    alone = len(begun) == 1 and (bool(title) or (not form.sure and count > 1))
    few = alone or len(title) > 2 * len(begun)
    if found and score and not begun:
        raise InputError(f"{where}: nobody says anything in it, these are media and notices")
    if not begun or (few and form.nameless != "notice"):
        raise InputError(
            f"{where}: only {len(begun)} of {count} lines begin with 'Name: ' or a time; write one "
            "turn a line this way, or give another format (docs/data.md)"
        )
    told = {
        key: [(turn.speaker, turn.said) for turn in turns if turn.said]
        for key, (its, turns) in readings.items()
        if its == score
    }
    rivals = [key for key in told if told[key] != told[best]]
    above = form.head.endswith("$") and form.nameless != "notice"
    if above and sum(bool(named(line)[0]) for line in title) > (len(found) > 1):
        rivals.append("Name: words")  # with "Berlin 10:30" between these
    if rivals:
        raise InputError(
            f"{where}: may be {best!r} or {rivals[0]!r}; write each turn as a line 'Name: words'"
        )
    if (doubt := _doubtful_line(form, begun, lines)) is not None:
        raise InputError(
            f"{where}:{doubt + 1}: {lines[doubt][:40]!r} may be words, a turn or neither; begin it "
            "as the other turns, with '[Name]: ' for a name with signs, join it to the line "
            "before, or remove it"
        )
    if not form.sure:
        begun = _names_or_words(form, begun, where, repaired)
    # Chats have times of the day, which say nothing about a recording.
    of_day = form.nameless == "notice" or best == "chat of Zoom"
    times = [
        {} if of_day or turn.fields.keys() & {"date", "half"} else turn.fields for turn in found
    ]
    ends = with_ends([(seconds(of.get("start")), seconds(of.get("end"))) for of in times])
    spans = [span for turn, span in zip(found, ends, strict=True) if turn.said]
    # Asides such as "(sadly)" are no part of a name, unless only these tell people apart.
    plain = {turn.speaker: _BRACKET.sub("", turn.speaker) for turn in begun}
    conversations: list[tuple[int, list[dict[str, Any]]]] = []
    gap = False
    for turn, (start, end) in zip(begun, spans, strict=True):
        parted = turn.parted and not (form.sure or headings)
        parted &= bool(turn.speaker) or not any(plain)
        gap |= bool(conversations) and parted
        if not conversations or turn.headed or (parted and not together):
            conversations.append((turn.line + 1, []))
        speaker = plain[turn.speaker]
        speaker = speaker if speaker in plain or "[" in turn.speaker else turn.speaker
        words = _MARK.sub("", " ".join(turn.said)).strip()
        item: dict[str, Any] = {"speaker": speaker, "text": _EDITED.sub("", words)}
        if start is not None:
            item["clip"] = {"video": recording(name), "start": start, "end": end}
        conversations[-1][1].append(item)
    said = [item for _, of in conversations for item in of]
    if not (form.sure and any(plain)):
        _check_said([of for _, of in conversations], where)
    people = [{item["speaker"] for item in of} for _, of in conversations]
    # Where empty lines separate turns, one of them is easily forgotten.
    if 3 * sum(len(of) == 1 for _, of in conversations) > 2 * len(conversations):
        conversations = [(conversations[0][0], said)]
    elif gap and not together and all(one & other for one, other in pairwise(people)):
        raise InputError(
            f"{where}: empty lines part it into {len(conversations)} stretches of the same "
            "speakers; if it is one conversation, add --columns=conversation= , else give each a "
            "heading such as 'Conversation 2' or a file of its own"
        )
    used = sum(len(turn.said) for turn in begun)
    repaired["lines without a name (of the turn before)"] += 0 if form.sure else used - len(begun)
    heads = sum(not lines[turn.line].endswith(turn.said[0]) for turn in begun)
    repaired[NOT_SAID] += sum(map(bool, lines)) - used - heads
    for k, (number, of) in enumerate(conversations, 1):
        own = name if k == 1 else f"{name}-{k}"
        yield f"{where}:{number}", {"id": own, "utterances": of}


def _names_or_words(
    form: _Form, turns: Sequence[_Turn], where: str, repaired: Counter[str]
) -> list[_Turn]:
    """Returns the turns; what looks like names is words where it is rare and never comes back.

    Raises:
      InputError: it is unsure whether these are names: they are there once, or nobody has another.
    """
    names = [_BRACKET.sub("", turn.speaker) for turn in turns]  # without "(sadly)"
    names = names if len({*names}) > 1 else [turn.speaker for turn in turns]
    counts = Counter(filter(None, names))
    # On CNN, "ANN LEE, CNN HOST" is LEE later.
    last = [name.split()[-1] if name[-3:].isalpha() else name for name in names]
    short = Counter(last)
    once = [
        turn
        for turn, name, surname in zip(turns, names, last, strict=True)
        if counts[name] == short[surname] == 1
    ]
    labelled = counts.total()
    if form.nameless == "turn" and labelled < len(turns):
        if len(once) < labelled or 2 * labelled >= len(turns) > 1:
            unnamed = next(turn for turn in turns if not turn.speaker)
            raise InputError(
                f"{where}:{unnamed.line + 1}: has no name, but others have ({next(iter(counts))}); "
                "write one before the words of each line"
            )
        first = turns[0].plain.split(":")[0]
        if first.isupper() and first.lower() in NO_NAMES:
            raise InputError(f"{where}: is a log, {turns[0].plain[:40]!r}; give a conversation")
        return [turn._replace(speaker="", said=[turn.plain, *turn.said[1:]]) for turn in turns]
    if form.head.endswith("$"):
        return [*turns]
    doubtful = [turn for turn in once if "start" not in turn.fields and turn.plain[:1] != "["]
    if 4 * len(doubtful) <= len(turns):  # "Cy: Bye!" in the middle, where heads are not
        ends = turns[0], turns[-1]
        for turn in doubtful if len(turns) > 3 else ():
            repaired[f"speaks only once, perhaps no name: {turn.speaker!r}, in {where}"] += 1
        doubtful = [turn for turn in doubtful if turn in ends or not _speaks_once(turn)]
    if doubtful and (len(turns) > 3 or all(turn.said[0][0].isdigit() for turn in turns)):
        listed = ", ".join(f"{turn.speaker!r} (line {turn.line + 1})" for turn in doubtful[:3])
        raise InputError(
            f"{where}: each is there once: {listed}; write '[{doubtful[0].speaker}]: words' if "
            "this is a speaker, else remove the line or join it to the one before"
        )
    said = [" ".join(turn.said) for turn in turns]
    tiny = all(re.fullmatch(r"[^\W_A-Z]\S*( \S+)?(?<![.?!…])", words) for words in said)
    turn_about = len(counts) > 2 and len(turns) > len(counts) and not len(turns) % len(counts)
    turn_about &= all(a == b for a, b in zip(names, names[len(counts) :], strict=False))
    turn_about &= 2 * sum(words[-1] in ".?!…" for words in said) < len(said)
    if turn_about or (
        tiny and len(turns) > 3 and not any("start" in turn.fields for turn in turns)
    ):
        raise InputError(
            f"{where}: its lines may be a list, a log or a table, such as {said[0][:30]!r}; if "
            "these are turns, write a table with the columns speaker and text"
        )
    if len(counts) == 1 < len(turns) and not all("start" in turn.fields for turn in turns):
        raise InputError(
            f"{where}: {turns[0].speaker!r} is the only name; give names to the others who speak, "
            "or write a table with the columns speaker and text"
        )
    return [*turns]


def _speaks_once(turn: _Turn) -> bool:
    """Returns whether a turn has a name of one word, and words that end as a sentence does."""
    return turn.speaker.isalpha() and turn.speaker.istitle() and turn.said[-1][-1] in ".?!…"


def _doubtful_line(form: _Form, turns: Sequence[_Turn], lines: Sequence[str]) -> int | None:
    """Returns the number of a line that may not belong to the turn that it is in, if there is one.

    In a form that is not sure, a line without a name must be wrapped: the longest lines, or nearly,
    have no room for its first word.
    """
    names = {turn.speaker for turn in turns if turn.speaker}
    spoken = re.compile(
        rf"(?<!\w)(?:{'|'.join(map(re.escape, names)) or '$.'}) *[:：]", re.IGNORECASE
    )
    above = form.head.endswith("$") and form.nameless != "notice"
    dated = 2 * sum("date" in turn.fields for turn in turns) > len(turns)
    width = max(map(len, lines[turns[0].line :]))

    def labelled(line: str) -> bool:
        return not form.sure and bool(_LABELLED.match(line) or spoken.search(line))

    over = lines[turns[0].line - 1] if turns[0].line else ""
    if labelled(over) and not _is_no_speech(over, form):
        return turns[0].line - 1  # "Name: Ann", right above what seems to be a turn
    for turn in turns:
        bare = not lines[turn.line].endswith(turn.said[0])  # its words are below the name
        for k, line in turn.below:
            if _is_no_speech(line, form) or _HEADING.fullmatch(line):
                continue
            wrapped = len(lines[k - 1]) + 1 + len(line.split()[0]) >= 0.8 * width >= 0.8 * _WIDTH
            goes_on = wrapped or (bare and (lines[k - 1] or k == turn.below[0][0]))
            alike = above and (line in names or _BRACKETED_TIME.search(line))
            alike = alike or (dated and _DATED.match(line)) or labelled(line)
            if alike or not (goes_on or form.sure or form.head.endswith("$")):
                return k
    if above and len(turns) > 3:  # notes below a talk in which no turn has two paragraphs
        below = ([of for of in turn.below if not _is_no_speech(of[1], form)] for turn in turns)
        parted = [[k for k, _ in of[1:] if not lines[k - 1]] for of in below]
        return next(iter(parted[-1]), None) if not any(parted[:-1]) else None
    return None


def _check_said(conversations: Sequence[Sequence[dict[str, Any]]], where: str) -> None:
    """Raises InputError where times go back, or leave too much time, or names are in the words."""
    turns = [turn for of in conversations for turn in of]
    for starts in (
        [turn["clip"]["start"] for turn in of if "clip" in turn] for of in conversations
    ):
        for before, start in pairwise(starts):
            if start < before - 5 and before - start > 0.75 * (before - starts[0]):
                raise InputError(
                    f"{where}: its times begin anew after {before:.0f} seconds; write each "
                    "recording to a file of its own, or the turns in their order"
                )
    clips = [(turn["clip"], turn["text"]) for turn in turns if "clip" in turn]
    ended = [(clip["end"] - clip["start"], text) for clip, text in clips if clip["end"]]
    gaps = sorted(length / spoken_words(text) for length, text in ended)
    if len(gaps) > 2 and gaps[len(gaps) // 2] > SLOWEST:
        raise InputError(
            f"{where}: its lines are further apart than their words take; are they chapters or an "
            "agenda? give the transcript"
        )
    people = {turn["speaker"] for turn in turns} - {""}
    begins = Counter(m[0] for turn in turns if (m := _OTHERWISE_NAMED.match(turn["text"])))
    again = [begin for begin, count in begins.items() if count > 1]
    often = again and 2 * begins.total() > len(turns) and ("" in again or not people)
    for turn in turns:
        inner = Counter(re.findall(r"[.?!…] ([A-Z][^.?!:]{0,30}): ", turn["text"]))
        name = next((name for name, count in inner.items() if count > 1 or name in people), "")
        if name or often:
            raise InputError(
                f"{where}: does {name or again[0] or 'somebody'!r} speak within "
                f"{turn['text'][:30]!r}? write each turn in a line of its own, with a colon after "
                "its name"
            )
