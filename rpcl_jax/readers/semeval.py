"""The JSON of SemEval-2024 Task 3: conversations in, with labels or without, and pairs out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import (
    Clip,
    Dialogue,
    Utterance,
    check_dialogue,
    check_unique,
    clip_name,
)
from rpcl_jax.errors import InputError
from rpcl_jax.readers.objects import field, read_objects

PAIRS = "emotion-cause_pairs"
CONFIDENCES = "pair_confidences"


def read_semeval(path: Path, labelled: bool | None = None) -> list[Dialogue]:
    """Reads a file of conversations; see `read_objects` and `parse_conversations`.

    Raises:
      InputError: the file is malformed, empty, or a conversation is unusable.
    """
    dialogues = parse_conversations(read_objects(path), str(path), labelled)
    if not dialogues:
        raise InputError(f"{path}: holds no conversation; is it the right file?")
    return dialogues


def parse_conversations(
    objects: Sequence[Mapping[str, Any]], where: str, labelled: bool | None = None
) -> list[Dialogue]:
    """Makes dialogues of conversations in the form of SemEval-2024 Task 3.

    Args:
      objects: each with "conversation_ID" and "conversation", a list of utterances with
        "utterance_ID" (1, 2, 3, …), "text", "speaker" and possibly "emotion" and "video_name".
        "emotion-cause_pairs" may say `["3_surprise", "1"]`, or `["3_surprise", "1_some words"]`;
        several stretches of words in one cause utterance are one pair.
      where: what error messages call `objects`, usually a file.
      labelled: True: emotions and pairs must be there. False: they are not looked at. None: they
        are taken where they are there.

    Returns:
      The dialogues in the same order. An utterance's id is its video's name without its ending, and
      the whole of that video its clip; or its id is `dia<conversation_ID>utt<utterance_ID>`.

    Raises:
      InputError: a conversation is not of this form or unusable, or two have one id.
    """
    dialogues = [
        _parse_conversation(item, f"{where}: conversation number {number}", labelled)
        for number, item in enumerate(objects, 1)
    ]
    check_unique(dialogues, where)
    return dialogues


def _parse_conversation(item: Mapping[str, Any], where: str, labelled: bool | None) -> Dialogue:
    number = field(item, "conversation_ID", (int, str), where)
    where = f"{where} (conversation_ID {number})"
    turns = field(item, "conversation", list, where)
    utterances = tuple(
        _parse_utterance(turn, t, number, f"{where}, utterance number {t}", labelled)
        for t, turn in enumerate(turns, 1)
    )
    if labelled is False or (labelled is None and item.get(PAIRS) is None):
        return check_dialogue(Dialogue(str(number), utterances), where)
    entries = [_parse_pair(entry, where) for entry in field(item, PAIRS, list, where)]
    for entry in entries:
        if entries.count(entry) > 1:
            raise InputError(f"{where}: a pair of utterance {entry[0]} is there twice; remove one")
    pairs = sorted({(i - 1, j - 1) for i, _, j, _ in entries})
    dialogue = check_dialogue(Dialogue(str(number), utterances, tuple(pairs)), where)
    for i, emotion, _, _ in entries:
        if emotion and emotion != utterances[i - 1].emotion:
            raise InputError(
                f"{where}: a pair says {emotion!r} of utterance {i}, which itself says "
                f"{utterances[i - 1].emotion!r}; correct one of them"
            )
    return dialogue


def _parse_utterance(
    turn: Mapping[str, Any],
    expected: int,
    conversation: int | str,
    where: str,
    labelled: bool | None,
) -> Utterance:
    number = field(turn, "utterance_ID", (int, str), where)
    if str(number) != str(expected):
        raise InputError(
            f"{where}: its utterance_ID is {number!r}; utterances are numbered 1, 2, 3, … in order"
        )
    clip = None
    if turn.get("video_name") is not None:
        clip = Clip(clip_name(field(turn, "video_name", str, where)))
    name = clip.video if clip else f"dia{conversation}utt{expected}"
    emotion = None
    if labelled or (labelled is None and turn.get("emotion") is not None):
        emotion = field(turn, "emotion", str, where)
    speaker = field(turn, "speaker", str, where)
    return Utterance(name, speaker, field(turn, "text", str, where), emotion, clip)


def _parse_pair(entry: Any, where: str) -> tuple[int, str, int, str]:
    """Emotion utterance, emotion ("" if not said), cause utterance, words of the cause."""
    if isinstance(entry, list) and len(entry) == 2:
        (emotion_at, _, emotion), (cause_at, _, words) = (str(s).partition("_") for s in entry)
        if emotion_at.isdecimal() and cause_at.isdecimal():
            return int(emotion_at), emotion, int(cause_at), words
    raise InputError(
        f'{where}: {str(entry)[:60]} is not a pair; write it as ["3_surprise", "1"], with numbers '
        "of utterances before the underscores"
    )


def conversation_object(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue as SemEval-2024 Task 3 writes it, without labels."""
    number = dialogue.id
    return {
        "conversation_ID": int(number) if number.isdecimal() else number,
        "conversation": [
            {"utterance_ID": t, "text": utterance.text, "speaker": utterance.speaker}
            for t, utterance in enumerate(dialogue.utterances, 1)
        ],
    }


def with_pairs(
    conversation: Mapping[str, Any],
    pairs: Sequence[tuple[int, int]],
    emotions: Sequence[str],
    confidences: Sequence[float],
) -> dict[str, Any]:
    """A copy of a conversation's object that says its pairs; what it said of them is replaced.

    Args:
      conversation: in the form of SemEval-2024 Task 3; whatever else it holds is kept.
      pairs: (emotion utterance, cause utterance), 0-based.
      emotions: of the emotion utterance, one per pair.
      confidences: one per pair.
    """
    written = [
        [f"{i + 1}_{emotion}", str(j + 1)] for (i, j), emotion in zip(pairs, emotions, strict=True)
    ]
    return {**conversation, PAIRS: written, CONFIDENCES: list(confidences)}
