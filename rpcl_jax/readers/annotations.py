"""The formats of linguists, CHAT (.cha), ELAN (.eaf) and Praat's TextGrid, which rustling reads."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.readers.json_fields import NOT_SAID
from rpcl_jax.readers.subtitles import recording

SUFFIXES = (".cha", ".eaf", ".textgrid")
_NO_SPEECH = re.compile(
    r"(?<![A-Za-z])(emotions?|gestures?|comments?|translations?|gloss|glosses|notes?|gaze|postures?"
    r"|topics?|ft|ref)(?![A-Za-z])",
    re.IGNORECASE,
)
_PAUSE = re.compile(r"<[^<>]*>|sil|sp|\(\.+\)", re.IGNORECASE)
_PHONES = re.compile(r"\bphone|\b(MAU|KAN)\b", re.IGNORECASE)
_OF_ALIGNERS = re.compile(r"word|phone|token|syllable|\b(MAU|KAN|ORT|TRN)\b", re.IGNORECASE)


def read_annotations(
    text: str, suffix: str, name: str, where: str, repaired: Counter[str]
) -> dict[str, Any]:
    """Converts a file with one of SUFFIXES to a conversation in our format, in the order of times.

    Of ELAN's tiers, those that depend on another, such as translations, are left out. In CHAT, what
    is retraced or cannot be understood is left out, as rustling does. `repaired` counts what is in
    tiers of something else than speech, by their names.
    """
    try:
        import rustling.chat  # noqa: F401
    except ImportError as error:
        raise InputError(f'{where}: needs rustling; pip install "rpcl_jax[annotations]"') from error
    read = {".cha": _chat, ".eaf": _elan, ".textgrid": _praat}[suffix]
    try:
        found = [turn for turn in read(text) if re.search(r"\w", turn[1])]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{where}: cannot be read ({reason}); check it in its program") from error
    turns = [t for t in found if not (_NO_SPEECH.search(t[0]) or _PAUSE.fullmatch(t[1].strip()))]
    repaired[NOT_SAID] += len(found) - len(turns)
    tiers: dict[str, list[bool]] = {}
    for speaker, words, *_ in turns:
        tiers.setdefault(speaker, []).append(" " in words)
    if phones := next(filter(_PHONES.search, tiers), ""):
        raise InputError(
            f"{where}: its tier {phones!r} has sounds, as of an aligner; give a transcript"
        )
    # A tier of single words or sounds, as of an aligner, has no utterances.
    single = {
        tier
        for tier, many in tiers.items()
        if sum(many) < len(many) / 10 and (len(many) > 5 or _OF_ALIGNERS.search(tier))
    }
    aligned = {tier for tier in single if _OF_ALIGNERS.search(tier) or single == {*tiers}}
    turns = [turn for turn in turns if turn[0] not in aligned]
    if not turns:
        what = "its tiers have single words" if single else "nobody says anything in it"
        raise InputError(f"{where}: {what}; give a tier of utterances for each speaker")
    if all(start is not None for _, _, start, _ in turns):
        turns.sort(key=lambda turn: turn[2] or 0.0)
    utterances: list[dict[str, Any]] = []
    for speaker, words, start, end in turns:
        clip = {"clip": {"video": recording(name), "start": start, "end": end}}
        utterances.append(
            {"speaker": speaker, "text": words, **(clip if start is not None else {})}
        )
    return {"id": name, "utterances": utterances}


def _chat(text: str) -> Iterator[tuple[str, str, float | None, float | None]]:
    from rustling.chat import CHAT

    # Where its dependent tiers do not fit, an utterance would be dropped; none is read here.
    text = re.sub(r"^%.*\n(?:\t.*\n)*", "", text, flags=re.MULTILINE)
    chat = CHAT.from_strs([text], strict=False)
    names = {person.code: person.name or person.code for person in chat.participants()}
    for utterance in chat.utterances():
        words = " ".join(token.word for token in utterance.tokens or ())
        start, end = (
            (time / 1000 for time in utterance.time_marks) if utterance.time_marks else (None, None)
        )
        code = utterance.participant or ""
        yield names.get(code, code), words, start, end


def _elan(text: str) -> Iterator[tuple[str, str, float | None, float | None]]:
    from rustling.elan import ELAN

    for tier in ELAN.from_strs([text]).tiers()[0].values():
        for annotation in () if tier.parent_id else tier.annotations:
            times = (annotation.start_time, annotation.end_time)
            start, end = (None if time is None else time / 1000 for time in times)
            yield tier.participant or tier.id, annotation.value, start, end


def _praat(text: str) -> Iterator[tuple[str, str, float | None, float | None]]:
    from rustling.textgrid import TextGrid

    for tier in TextGrid.from_strs([text]).tiers()[0]:
        for interval in getattr(tier, "intervals", ()):
            yield tier.name, interval.text, interval.xmin, interval.xmax
