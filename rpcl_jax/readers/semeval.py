"""The JSON format of SemEval-2024 Task 3: reads conversations and writes pairs."""

import dataclasses
import re
from collections import Counter
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
from rpcl_jax.readers.objects import field, identifier, read_objects, speech

_ECF_CLIP = re.compile(r"dia[0-9]+utt[0-9]+")
PAIRS = "emotion-cause_pairs"
CONFIDENCES = "pair_confidences"


def read_semeval(path: Path, labelled: bool | None = None) -> list[Dialogue]:
    """Reads a file of conversations; see `read_objects` and `parse_conversations`.

    Raises:
      InputError: the file is malformed or empty, or a conversation is invalid.
    """
    dialogues = parse_conversations(read_objects(path), str(path), labelled)
    if not dialogues:
        raise InputError(f"{path}: contains no conversation; check that it is the right file")
    return dialogues


def parse_conversations(
    objects: Sequence[Mapping[str, Any]], where: str, labelled: bool | None = None
) -> list[Dialogue]:
    """Converts conversations in the format of SemEval-2024 Task 3 to dialogues.

    Args:
      objects: each with "conversation_ID" and "conversation", a list of utterances with
        "utterance_ID" (1, 2, 3, …), "text", "speaker" and optionally "emotion" and "video_name".
        "emotion-cause_pairs" contains `["3_surprise", "1"]` or `["3_surprise", "1_some words"]`;
        several spans of words in one cause utterance are one pair.
      where: the name of `objects` in error messages, usually a file.
      labelled: whether emotions and pairs are required (True), ignored (False) or optional (None).
        If ignored, the rest is read leniently; see `parse_conversation`.

    Returns:
      The dialogues in the same order. If an utterance has a video, its clip is the whole video. Its
      id is `dia<conversation_ID>utt<utterance_ID>`, or the name of its video where that is of this
      form and names no other utterance of the conversation: those are the keys of ECF's tables.

    Raises:
      InputError: a conversation is malformed or invalid, or an id is duplicated.
    """
    mended = Counter[str]() if labelled is False else None
    dialogues = [
        parse_conversation(
            item, f"{where}: conversation number {number}", labelled, mended, str(number)
        )
        for number, item in enumerate(objects, 1)
    ]
    check_unique(dialogues, where)
    return dialogues


def parse_conversation(
    item: Mapping[str, Any],
    where: str,
    labelled: bool | None,
    mended: Counter[str] | None,
    default: str,
) -> Dialogue:
    """Converts a conversation as `parse_conversations` does.

    Args:
      item: the conversation.
      where: file and place, with which messages start.
      labelled: as there.
      mended: a counter of what is mended; see `rpcl_jax.readers.objects`. None mends nothing.
      default: the id of a conversation that has none, if missing ids are mended.

    Raises:
      InputError: the conversation is malformed or invalid.
    """
    number = identifier(item, "conversation_ID", where, mended, default, (int, str))
    where = f"{where} (conversation_ID {number})"
    turns = field(item, "conversation", list, where)
    utterances = tuple(
        _parse_utterance(turn, t, number, f"{where}, utterance number {t}", labelled, mended)
        for t, turn in enumerate(turns, 1)
    )
    ids = [
        u.clip.video if u.clip and _ECF_CLIP.fullmatch(u.clip.video) else u.id for u in utterances
    ]
    if len(set(ids)) == len(ids):
        utterances = tuple(
            dataclasses.replace(u, id=name) for u, name in zip(utterances, ids, strict=True)
        )
    if labelled is False or (labelled is None and item.get(PAIRS) is None):
        return check_dialogue(Dialogue(number, utterances), where)
    entries = [_parse_pair(entry, where) for entry in field(item, PAIRS, list, where)]
    for entry in entries:
        if entries.count(entry) > 1:
            raise InputError(f"{where}: a pair of utterance {entry[0]} is duplicated; remove one")
    pairs = sorted({(i - 1, j - 1) for i, _, j, _ in entries})
    dialogue = check_dialogue(Dialogue(number, utterances, tuple(pairs)), where)
    for i, emotion, _, _ in entries:
        if emotion and emotion != utterances[i - 1].emotion:
            raise InputError(
                f"{where}: a pair gives utterance {i} the emotion {emotion!r}, but the utterance "
                f"has {utterances[i - 1].emotion!r}; correct one of them"
            )
    return dialogue


def _parse_utterance(
    turn: Mapping[str, Any],
    expected: int,
    conversation: str,
    where: str,
    labelled: bool | None,
    mended: Counter[str] | None,
) -> Utterance:
    number = identifier(turn, "utterance_ID", where, mended, str(expected), (int, str))
    if number != str(expected):
        raise InputError(
            f"{where}: its utterance_ID is {number!r}; number utterances 1, 2, 3, … in order"
        )
    video = turn.get("video_name")
    if mended is None and video is not None:
        field(turn, "video_name", str, where)
    clip = Clip(clip_name(video)) if isinstance(video, str) and video.strip() else None
    emotion = None
    if labelled or (labelled is None and turn.get("emotion") is not None):
        emotion = field(turn, "emotion", str, where)
    speaker, text = speech(turn, where, mended)
    return Utterance(f"dia{conversation}utt{expected}", speaker, text, emotion, clip)


def _parse_pair(entry: Any, where: str) -> tuple[int, str, int, str]:
    """Returns emotion utterance, emotion ("" if not given), cause utterance, words of the cause."""
    if isinstance(entry, list) and len(entry) == 2:
        (emotion_at, _, emotion), (cause_at, _, words) = (str(s).partition("_") for s in entry)
        if emotion_at.isdecimal() and cause_at.isdecimal():
            return int(emotion_at), emotion, int(cause_at), words
    raise InputError(
        f'{where}: {str(entry)[:60]} is not a pair; write it as ["3_surprise", "1"], with '
        "utterance numbers before the underscores"
    )


def conversation_object(dialogue: Dialogue) -> dict[str, Any]:
    """Returns a dialogue in the format of SemEval-2024 Task 3, without labels."""
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
    """Returns a copy of the conversation with its pairs replaced.

    Args:
      conversation: in the format of SemEval-2024 Task 3; its other fields are kept.
      pairs: (emotion utterance, cause utterance), 0-based.
      emotions: the emotion of each pair's emotion utterance.
      confidences: one per pair.
    """
    written = [
        [f"{i + 1}_{emotion}", str(j + 1)] for (i, j), emotion in zip(pairs, emotions, strict=True)
    ]
    return {**conversation, PAIRS: written, CONFIDENCES: list(confidences)}
