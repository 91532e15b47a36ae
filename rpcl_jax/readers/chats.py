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
from rpcl_jax.readers.subtitles import ASIDE, LABELS, NO_NAMES, named, recording
from rpcl_jax.readers.tables import SLOWEST, spoken_words

_LABEL = re.compile(rf"({'|'.join(map(re.escape, sorted(LABELS)))}):\s", re.IGNORECASE)
# What may begin a turn below a time: a label that `named` perhaps does not take.
_LABELLED = re.compile(
    r"((?:(?:>+|[-–—*•]|\d{1,3}[.)])\s*)*)([^\W_+@~?]?[^:：\n]{1,59}?)\s*[:：](\s+|$)?"
)
_NUMBER = re.compile(r"\?|\+\d[\d ()*-]{5,}")  # of a phone, in place of a name
_NAMELIKE = re.compile(r"(?:[^\W_]|[+@~?])[^!;\"“”„«»]*")
# Labels about a transcript, which are not in LABELS because people may say them, and facts.
_ABOUT = re.compile(
    r"recorded|recording|transcribed|transcriber|transcription|written|datum|ort|dauer|place|length"
    r"|interview-\S+|confidential|disclaimer|episode|cast|credits|music|key|file|language|fecha"
    r"|lugar|lieu|durée|total|action|copyright|©.*",
    re.IGNORECASE,
)
_FACT = re.compile(
    r"\d{1,2}\W{1,2}\w+\W+\d{4}|[A-Z]\w+\.? \d{1,2},? \d{4}|\d+[./-]\d+[./-]\d+|\d+:\d\d(?::\d\d)?"
    r"|\d+ ?(?i:min|h|sec|std)\w*\.?|\S+\.(?i:mp[34]|wav|m4a|docx?)"
)
_ACTION = re.compile(r"[\"“”„«»]|\w (added|removed|invited|changed|created|pinned|renamed)\b")
_DAY = re.compile(r"\b[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}|\d{4}-\d\d-\d\d")
_SCENE = re.compile(r"(INT|EXT|I/E)[. ]|.*\b(CUT|FADE|DISSOLVE)\b|(THE )?END$")
_BRACKET = re.compile(r"\s*[\[(][^\[\]():\d]{1,30}[\])]$")
_BOLD = re.compile(r"^([*_]{1,2})(?=[^\s*_])(.{1,60}?)(:?)\1(:?)(?=\s|$)")
_MARKS = re.compile(r"^[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
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
    r"|reacted \S+ to your message|\[(sticker|photo|video|voice message|file|blank_audio)\]",
    re.IGNORECASE | re.DOTALL,
)
_HEADING = re.compile(
    r"[\W_]*(?:session|call|interview|conversation|dialog(?:ue)?|scene|meeting|part|day|episode"
    r"|participant) ?#?(\d{1,3})[\W_]*",
    re.IGNORECASE,
)
# "[00:00:12]", "#00:00:12-3#": a time within or after words.
_MARK = re.compile(r"\s*(?:\[\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?\]|#\d\d:\d\d:\d\d(?:-\d)?#)")

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
    return named(f"{text}: ")[0]


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
      sure: whether such lines can be nothing else, so that empty lines mean nothing.
      whole: whether every line must begin a turn.
      together: whether names must be there twice, as words may have this form, too.
    """

    head: str
    speaker: Callable[[str], str] = str
    nameless: str = "words"
    sure: bool = True
    whole: bool = False
    together: bool = False


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
    "name, gap, time /": _Form(r"(?:\[{name}\] *|{name}(?: {2,}| *[|] *)){when}$", _apart),
    "name, time /": _Form(r"{name} +(?:[-–—·•@] *)?[\[(]?{when}[\])]?:?$", _alone),  # Rev, WeChat
    "time, name /": _Form(r"[\[(]?{when}[\])]? *(?:[-–—] *)?{name}$", _alone),  # Trint, Fathom
    "time / name /": _Form(r"[\[(]?{time}[\])]?\n+{name}$", _alone, together=True),  # Happy Scribe
    "time, name, words": _Form(
        r"[\[(]?{time}[\])]?:? +(?:(?P<mark>[|]) *{name} *[|]|(?P<mark>[\[(]){name}[\])]:?"
        r"|{name} +(?P<mark>[-–—])) +",
        *(_alone, "words", False),
        together=True,
    ),
    "name, time, words": _Form(
        r"{name}(?: *[:：] +{time}(?: *[-–—])?| +@ *{time}:)(?P<mark> +)",
        *(_alone, "words", False),
        together=True,
    ),
    "name / time /": _Form(r"{name}\n+[\[(]?{time}[\])]?$", _alone),
    "name / 2 seconds /": _Form(r"{name}\n+(?P<mark>(?:\d+ \w+ ){0,2}\d+ seconds?)$", _alone),
    "time /": _Form(r"[\[(]?{time}[\])]?:?$", nameless="turn"),  # YouTube
    "NAME / of a screenplay": _Form(
        r"{name}(?: *\([^()\n]*\))?(?:\n\([^()\n]*\))?(?=\n.)$", _in_capitals
    ),
    "Name: words": _Form(
        r"(?:{stamp})?(?:(?:>>+|[-–—*•]) *)?{name}(?:{says}(?:[\[(]{time}[\])]:? *)?"
        r"| *[\[(]{time}[\])] *(?:[:：] *|$)| +{time}{says})",
        *(_before_colon, "words", False),
    ),
    "[time] words": _Form(
        r"(?:[\[(]{time}[\])]:?|(?P<start>{clock}){to}(?P<end>{clock})) *(?:[-–—] +)?"
        r"(?:{name}{says})?",
        *(_before_colon, "turn", False),
    ),
    "[seconds] words": _Form(r"\[(?P<start>[\d.]+)s -> (?P<end>[\d.]+)s\] *", str, "turn", False),
    "time words": _Form(
        r"{time}:? +(?:[-–—] +)?(?:{name}{says})?", _before_colon, "turn", False, whole=True
    ),
}
# Lines that nobody said: what programs write, sounds and scenes in brackets, days, times alone.
_NOT_SAID = _compiled(
    r"(?i:.{1,60} (joined|left) the (meeting|chat|call|conversation|group|channel)\.?"
    r"|.{1,60} (started|stopped) (transcription|recording)\.?"
    r"|(Meeting|Transcription) ended after .*"
    r"|Transcribed by https?://\S+|This editable transcript was computer generated.*)"
    r"|(?i:(?:page|seite) \d+(?: (?:of|von) \d+)?)|(?:\d+ (?:hour|minute)s?,? )*\d+ seconds?"
    r"|[=*_-]{3,}|Exported [\d,.]+ message\(s\)|\[[^\[\]:]*\]|\([A-Z\s,.'’-]+\)"
    r"|\d{4}[./-]\d\d?[./-]\d\d?\W.{0,12}|[\[(]?{when}[\])]?:?"
)
_LATE = 300  # seconds, at which no recording begins
_DATED = _compiled(r"\[\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? \d[^\]]*\]")
_TIMED = _compiled(r"[\[(]?{when}(?!\w)[\])]?:?")
# Below a message of Discord.
_ATTACHED = re.compile(r"^\{(?:Attachments|Embed|Reactions|Stickers)\}\n(?:.+\n)*", re.MULTILINE)
_STAMP = _compiled("{stamp}")


class _Turn(NamedTuple):
    """What begins at a place of a text: a turn, or a notice, for which nothing is in `said`."""

    place: int
    speaker: str
    fields: dict[str, str]
    said: list[str]  # of each of its lines, what is said there
    headed: bool  # whether it is below a heading


def _read_as(form: _Form, text: str, headings: bool) -> tuple[int, list[_Turn]]:
    """Returns how well a form explains a text, and what begins in it; 0 if the text is not so."""
    heads = []
    for match in _compiled(f"^{form.head}").finditer(text):
        groups = {key.rstrip("0123456789"): key for key, of in match.groupdict().items() if of}
        fields = {field: match[key].strip(" \t-–—|") for field, key in groups.items()}
        speaker = form.speaker(fields["speaker"]) if fields.get("speaker") else ""
        if speaker or form.nameless != "words":
            refused = "speaker" in groups and not speaker
            words = match.start(groups["speaker"]) if refused else match.end()
            heads.append((match.start(), words, speaker, fields))
    if not form.sure:
        heads = _alike(_without_wrapped(heads), text)
    until_gap, headed = form.speaker is _in_capitals, False
    turns: list[_Turn] = []
    title = [*filter(None, text[: heads[0][0] if heads else 0].split("\n"))]
    others = [*title]  # lines that are not heads
    for (place, words, speaker, fields), (end, *_) in pairwise([*heads, (len(text), 0, "", {})]):
        beside, *below = text[words:end].split("\n")
        lines = [*filter(None, takewhile(bool, below) if until_gap else below)]
        own = [*takewhile(lambda line: not (headings and _HEADING.fullmatch(line)), lines)]
        said = [beside, *(line for line in own if not _NOT_SAID.fullmatch(line))]
        notice = not speaker and (form.nameless == "notice" or _NOT_SAID.fullmatch(beside))
        silent = notice or (not any(said) and (lines or not speaker))
        head = [""] * sum(map(bool, text[place:words].split("\n")[1:]))
        turns.append(_Turn(place, speaker, fields, [] if silent else [*head, *said], headed))
        headed = len(own) < len(lines)
        others += lines
    if not _fits(form, turns, title, others):
        return 0, turns
    counted = [turn for turn in turns if turn.said or form.nameless == "notice"]
    found = (len(t.fields.keys() & {"date", "start", "mark"}) + bool(t.speaker) for t in counted)
    return sum(fields**2 for fields in found), turns


def _without_wrapped(heads: list[Any]) -> list[Any]:
    """Returns the heads without wrapped lines, "clear: it is", among names with capitals."""
    counts = Counter(head[2] for head in heads)
    lower = sum(head[2][:1].islower() for head in heads)
    return [
        head
        for head in heads
        if not head[2][:1].islower() or counts[head[2]] > 1 or 3 * lower > len(heads)
    ]


def _alike(heads: list[Any], text: str) -> list[Any]:
    """Returns the heads without those that have no time, if most have one; names known may stay."""
    timed = [head for head in heads if "start" in head[3]]
    if 2 * len(timed) <= len(heads):
        return heads
    dated = 2 * sum("date" in head[3] for head in heads) > len(heads)
    counts = Counter(head[2] for head in (*heads, *timed))  # once with a time is known, too
    return [
        head
        for head in heads
        if "start" in head[3]
        or (not dated and (counts[head[2]] > 1 or (_is_parted(text, head[0]) and _alone(head[2]))))
    ]


def _readings(text: str, headings: bool) -> tuple[str, dict[str, tuple[int, list[_Turn]]]]:
    """Returns the form that explains a text best, and how each reads it."""
    readings = {key: _read_as(form, text, headings) for key, form in _FORMS.items()}
    return max(readings, key=lambda key: readings[key][0]), readings


def _with_labels(text: str, turns: Sequence[_Turn], where: str) -> str:
    """Returns a text of `Name: words` in which lines that slipped from this form have it.

    These begin with a known name after a list's number or before words without a space, or with
    what may be a name, such as "Lee, Ann", and is there twice.

    Raises:
      InputError: a line may begin a turn, or continue the one before.
    """
    counts = Counter(turn.speaker for turn in turns if turn.speaker)
    known = {name.casefold(): name for name, count in counts.items() if count > 1}
    lines = text.split("\n")
    labels: dict[int, tuple[str, str, str]] = {}
    for k, line in enumerate(lines if known else ()):
        stamp = _STAMP.match(line)
        begin = _LABELLED.match(line, stamp.end() if stamp else 0)
        if not begin:
            continue
        time, words = line[: begin.start()], line[begin.end() :]
        label, taken = begin[2].strip(), begin[3] is not None and _before_colon(begin[2])
        name = known.get(re.sub(ASIDE, "", label).casefold(), "")
        if name and (label.islower() or not taken or begin[1]):
            lines[k] = f"{time}{name}: {words}"
        elif begin[3] is not None and not taken and _is_namelike(label):
            labels[k] = time, label, words
    times = Counter(label for _, label, _ in labels.values())
    for k, (time, label, words) in labels.items():
        plain = re.sub(ASIDE, "", label)
        sure = any(re.match(rf"{re.escape(name)}\b", label.casefold()) for name in known)
        sure |= plain != label and bool(_before_colon(plain))
        if times[label] == 1 and not sure:
            raise InputError(
                f"{where}:{k + 1}: is {label!r} a speaker? if so, write '[{label}]: words' there, "
                "else join the line to the one before"
            )
        lines[k] = f"{time}[{label}]: {words}"
    return "\n".join(lines)


def _is_namelike(label: str) -> bool:
    """Returns whether a label may be a name, although `named` does not take it."""
    words = re.sub(ASIDE, "", label).split()
    lower = any(word[0].islower() and len(word) > 3 for word in words)
    no_name = words[:1] and words[0].lower() in NO_NAMES
    fits = _NAMELIKE.fullmatch(label) and not label[0].islower() and not _LABEL.match(f"{label}: ")
    return bool(fits) and not (lower or no_name)


def _is_parted(text: str, place: int) -> bool:
    """Returns whether an empty line is above a place."""
    return text.endswith("\n\n", 0, place)


def _fits(form: _Form, turns: Sequence[_Turn], title: Sequence[str], others: Sequence[str]) -> bool:
    """Returns whether a text can have a form; `others` are the lines that are no heads."""
    names = {turn.speaker for turn in turns}
    if form.together:
        starts = [seconds(turn.fields["start"]) or 0.0 for turn in turns]
        alike = any(_TIMED.match(line) or named(line)[0] in names for line in others)
        said = form.head.startswith("{name}") and starts and starts[0] >= _LATE  # "Ann: 10:30?"
        if alike or said or starts != sorted(starts) or not 1 < len(names) < len(turns):
            return False
    if form.nameless == "notice":
        times = sum("date" not in turn.fields for turn in turns)  # "[0:05] <laughs> Oh" is no IRC
        return any(names) and 4 * sum(bool(turn.speaker) for turn in turns) >= times
    if not form.head.endswith("$"):
        return not (form.whole and others)
    below = Counter(named(line)[0] for line in others)
    if sum(count for name, count in below.items() if name and count > 1) > len(turns):
        return False  # these are 'Name: words', under a title and a time
    if form.speaker is _alone and not form.head.startswith("{name} "):
        timed = _TIMED.match if form.head.startswith("[") else _TIMED.fullmatch
        if any(map(timed, others)):
            return False  # a name is beside, or above, each time
    empty = sum(turn.said != [] and not any(turn.said) for turn in turns[:-1] or turns)
    if 4 * empty >= len(turns):
        return False  # words are below the heads
    first = [line for turn in turns for line in [*filter(None, turn.said)][:1]]
    if form.nameless == "turn":
        return not title and not all(named(line)[0] for line in first)
    if form.speaker is _in_capitals and len(names) == len(turns):
        return (
            len(turns) > 1
            and not any(" " in name for name in names)
            and not any(line[0].islower() for line in first)
        )
    return True


def read_plain(
    text: str, name: str, where: str, repaired: Counter[str], together: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the conversations of a text with their places.

    It is read in the form that explains it best; what follows the beginning of a turn continues it.
    What nobody said, such as notices, media, and a title, is left out. In forms that other lines
    may have by chance, such as `Name: words`, an empty line before a name begins another
    conversation, unless most of these would be single turns; a heading such as "Session 2" always
    does. A turn with a time has a clip until its end, or else until the next later time.

    Args:
      name: of the file: the id of the first conversation, and the recording that the times refer
        to; the second conversation is `name`-2.
      repaired: counts the lines that continue a turn and those that nobody said.
      together: whether it is one conversation, whatever empty lines there are.

    Raises:
      InputError: fewer than a quarter of the lines begin a turn, two forms explain it as well, the
        names are none, or it is unsure where conversations end.
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
    best, readings = _readings(text, headings)
    if _FORMS[best].speaker is _before_colon:
        text = _with_labels(text, readings[best][1], where)
        best, readings = _readings(text, headings)
    form, (score, found) = _FORMS[best], readings[best]
    told = [(turn.speaker, turn.said) for turn in found]
    rivals = [
        other
        for other, (its, turns) in readings.items()
        if its == score > 0 and told != [(turn.speaker, turn.said) for turn in turns]
    ]
    above = form.head.endswith("$") and form.nameless != "notice"
    title = text[: found[0].place].split("\n") if above and found else ()
    if not any(turn.speaker for turn in found):  # "[0:05] [Ann] Hi" for nearly all of them
        rivals += [
            key
            for key, (_, turns) in readings.items()
            if _FORMS[key].together
            and 2 * len(turns) > len(found)
            and len({turn.speaker for turn in turns}) < len(turns)
        ]
    if sum(bool(named(line)[0]) for line in title) > (len(found) > 1):
        rivals.append("Name: words")  # with "Berlin 10:30" between these
    if rivals:
        raise InputError(
            f"{where}: may be {best!r} or {rivals[0]!r}; write each turn as a line 'Name: words'"
        )
    stamps = sum("date" in turn.fields for turn in found)
    strange = next((x for turn in found for x in turn.said[1:] if _DATED.match(x)), "")
    if strange and 2 * stamps > len(found):
        raise InputError(
            f"{where}: {strange[:60]!r} seems to begin a turn, but differs from the others; write "
            "it as they are"
        )
    if above:
        _check_bare_names(lines, found, text, where)
    # Of a day, a time is none of a recording.
    times = [{} if turn.fields.keys() & {"date", "half"} else turn.fields for turn in found]
    spans = with_ends([(seconds(of.get("start")), seconds(of.get("end"))) for of in times])
    begun = [(turn, span) for turn, span in zip(found, spans, strict=True) if turn.said]
    head = 0 if form.sure or not begun else _head([turn for turn, _ in begun], text)
    del begun[:head]
    if not form.sure and begun:
        foot = _foot([turn for turn, _ in begun])
        del begun[len(begun) - foot :]
        if not foot and (below := _below([turn for turn, _ in begun], text)):
            del begun[-1][0].said[-below:]
    first = begun[0][0].place if begun else len(text)
    body = text[first:] if _is_parted(text, first) else text
    labels = sum(bool(_LABEL.match(line)) for line in body.split("\n"))  # of a form
    count = sum(bool(x) and not _NOT_SAID.fullmatch(x) for x in lines)
    if not begun or (not form.sure and (4 * len(begun) < count or labels >= len(begun))):
        raise InputError(
            f"{where}: only {len(begun)} of {count} lines begin with 'Name: ' or a time; write one "
            "turn a line this way, or give another format (docs/data.md)"
        )
    continuing = 0 if form.sure else sum(len(turn.said) - 1 for turn, _ in begun)
    # Asides such as "(sadly)" are no part of a name, unless only these tell people apart.
    plain = {turn.speaker: _BRACKET.sub("", turn.speaker) for turn, _ in begun}
    conversations: list[tuple[int, list[dict[str, Any]]]] = []
    gap, number, place, used = False, 1, 0, 0
    for turn, (start, end) in begun:
        words = _MARK.sub("", " ".join(filter(None, turn.said))).strip()
        parted = not (form.sure or headings) and _is_parted(text, turn.place)
        parted &= bool(turn.speaker) or not any(plain)
        gap |= bool(conversations) and parted
        if not conversations or turn.headed or (parted and not together):
            number += text.count("\n", place, turn.place)
            place = turn.place
            conversations.append((number, []))
        if _MEDIA.fullmatch(words):
            continue
        used += len(turn.said)
        speaker = plain[turn.speaker]
        speaker = speaker if speaker in plain or "[" in turn.speaker else turn.speaker
        item: dict[str, Any] = {"speaker": speaker, "text": _EDITED.sub("", words)}
        if start is not None:
            item["clip"] = {"video": recording(name), "start": start, "end": end}
        conversations[-1][1].append(item)
    conversations = [(number, of) for number, of in conversations if of]
    if not conversations:
        raise InputError(f"{where}: nobody says anything in it, these are media and notices")
    said = [item for _, of in conversations for item in of]
    if not form.sure:
        longest = max((of for _, of in conversations), key=len)
        _check_no_names(said, where)
        for _, of in conversations:
            _check_times(of, where)
        _check_names(said, longest, continuing, where, alone=count == 1)
    _check_gaps(said, where)
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
    repaired["lines without a name (of the turn before)"] += continuing
    repaired[NOT_SAID] += sum(map(bool, text.split("\n"))) - used
    for k, (number, of) in enumerate(conversations, 1):
        own = name if k == 1 else f"{name}-{k}"
        yield f"{where}:{number}", {"id": own, "utterances": of}


def _head(turns: Sequence[_Turn], text: str) -> int:
    """Returns how many of the first turns only say who takes part, "Interviewer: Ben Jones"."""
    counts = Counter(turn.speaker for turn in turns)
    once = [*takewhile(lambda turn: counts[turn.speaker] == 1, turns)]
    gap = max(text.find("\n\n", turns[0].place), 0)
    block = sum(turn.place < gap for turn in turns)
    if block <= len(once) and any(map(_LABEL.match, text[:gap].split("\n"))):
        return block
    people = {turn.speaker for turn in turns[len(once) :]}
    words = [turn.said[0].split() if _alone(turn.said[0]) else [] for turn in once]
    names = ({*own, "".join(word[0] for word in own)} for own in words)  # "BJ" is Ben Jones
    told = (len(once) < len(turns) and _is_about(turn) for turn in once)
    fits = (about or bool(own & people) for about, own in zip(told, names, strict=True))
    return max((k for k, fit in enumerate(fits, 1) if fit), default=0)


def _foot(turns: Sequence[_Turn]) -> int:
    """Returns how many of the last turns are about the transcript, "Transcribed by: Ben"."""
    counts = Counter(turn.speaker for turn in turns)
    once = [*takewhile(lambda turn: counts[turn.speaker] == 1, reversed(turns))]
    about = (k for k, turn in enumerate(once, 1) if len(once) < len(turns) and _is_about(turn))
    return max(about, default=0)


def _is_about(turn: _Turn) -> bool:
    """Returns whether a name that is there once and its words are about the transcript."""
    first = turn.speaker.split()[0] if turn.speaker else ""
    named = any(map(str.isalpha, first))
    return not named or bool(_ABOUT.fullmatch(first) or _FACT.fullmatch(turn.said[0]))


def _below(turns: Sequence[_Turn], text: str) -> int:
    """Returns how many lines below an empty one, after the last turn, nobody said.

    They are short or have a label, and in no other turn an empty line is followed by words.
    """
    ends = [*(turn.place for turn in turns[1:]), len(text)]
    spans = zip((turn.place for turn in turns), ends, strict=True)
    parts = [text[start:end].strip().partition("\n\n") for start, end in spans]
    if len(parts) < 4 or any(below for *_, below in parts[:-1]):
        return 0
    lines = [*filter(None, parts[-1][2].split("\n"))]
    lines = [line for line in lines if not _NOT_SAID.fullmatch(line)]
    short = all(len(line.split()) <= 6 and line[-1] not in ".?!…" for line in lines)
    return len(lines) if lines and (short or _LABEL.match(lines[0])) else 0


def _check_times(turns: Sequence[dict[str, Any]], where: str) -> None:
    """Raises InputError where times go back, most of the way."""
    starts = [turn["clip"]["start"] for turn in turns if "clip" in turn]
    for before, start in pairwise(starts):
        if start < before - 5 and before - start > 0.75 * (before - starts[0]):
            raise InputError(
                f"{where}: its times begin anew after {before:.0f} seconds; write each recording "
                "to a file of its own, or the turns in their order"
            )


def _check_no_names(turns: Sequence[dict[str, Any]], where: str) -> None:
    """Raises InputError where names seem to be among the words, "Ann Lee Well", "Hi. Ben: Oh"."""
    begins = [re.match(r"([A-Z][\w.]+)(?: [A-Z][\w.]+)*? [A-Z]", turn["text"]) for turn in turns]
    firsts = {begin[1] for begin in begins if begin}
    people = {turn["speaker"] for turn in turns} - {""}
    for turn in turns:
        inner = Counter(re.findall(r"[.?!…] ([A-Z][^.?!:]{0,30}): ", turn["text"]))
        name = next((name for name, count in inner.items() if count > 1 or name in people), "")
        if name:
            raise InputError(
                f"{where}: does {name!r} speak within {turn['text'][:30]!r}? write each turn in a "
                "line of its own"
            )
    nobody = not people
    if nobody and all(begins) and 1 < len(firsts) < len(turns):
        raise InputError(
            f"{where}: its lines seem to begin with names, {turns[0]['text'][:30]!r}; write a "
            "colon after each name"
        )


def _check_names(
    turns: Sequence[dict[str, Any]],
    longest: Sequence[dict[str, Any]],
    continuing: int,
    where: str,
    alone: bool,
) -> None:
    """Raises InputError where the names are hardly those of all speakers."""
    speakers = [turn["speaker"] for turn in turns]
    lower = 2 * sum(speaker[:1].islower() for speaker in speakers) > len(turns)
    once = len(longest) == len({turn["speaker"] for turn in longest})
    different = once and len(longest) > (1 if lower else 3)
    timed = any("clip" in turn for turn in turns)
    if not timed and (different or (len(turns) == 1 and not alone)):
        raise InputError(
            f"{where}: each name ({', '.join(speakers[:3])}) is there once; if these are speakers, "
            "write a table with the columns speaker and text"
        )
    if len({*speakers}) == 1 != len(turns) and 2 * continuing >= len(turns):
        raise InputError(
            f"{where}: {speakers[0]!r} is the only name, and {continuing} lines have none; give "
            "names to the others who say these"
        )


def _check_bare_names(lines: Sequence[str], turns: Sequence[_Turn], text: str, where: str) -> None:
    """Raises InputError if a turn seems to begin by a name without its time, or without a colon."""
    counts = Counter(turn.speaker for turn in turns)
    heads = {text.count("\n", 0, turn.place) + k for turn in turns for k in range(3)}
    for k, (before, line, after) in enumerate(zip(lines, lines[1:], lines[2:], strict=False), 1):
        if counts[line] > 1 and line and not before and after and k not in heads:
            raise InputError(
                f"{where}:{k + 1}: does {line!r} speak from here? then add the time that the other "
                "names have, else join the line to the one before"
            )


def _check_gaps(turns: Sequence[dict[str, Any]], where: str) -> None:
    """Raises InputError where turns without a speaker are too far apart to be all that is said."""
    clips = [(t["clip"], t["text"]) for t in turns if not t["speaker"] and "clip" in t]
    ended = [(clip["end"] - clip["start"], text) for clip, text in clips if clip["end"]]
    gaps = sorted(length / spoken_words(text) for length, text in ended)
    if len(gaps) > 2 and gaps[len(gaps) // 2] > SLOWEST:
        raise InputError(
            f"{where}: its lines are further apart than their words take; are they chapters or an "
            "agenda? give the transcript"
        )
