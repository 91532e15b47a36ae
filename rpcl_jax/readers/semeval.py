"""The JSON format of SemEval-2024 Task 3: reads conversations, labelled or not."""

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
    clip_name,
    is_stretch,
)
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.readers.objects import field, identifier, read_objects, seconds, speech
from rpcl_jax.readers.shared import Reading, emotion_name

_ECF_CLIP = re.compile(r"dia[0-9]+utt[0-9]+")
PAIRS = "emotion-cause_pairs"


def read_semeval(path: Path, labelled: bool | None = None) -> list[Dialogue]:
    """Reads a file of conversations; see `read_objects` and `parse_conversations`.

    Raises:
      InputError: the file is malformed or empty, has no labels though they are required, or a
        conversation is invalid.
    """
    objects = read_objects(path)
    if labelled and objects and not any(isinstance(o, Mapping) and PAIRS in o for o in objects):
        raise InputError(
            f"{path}: no conversation has {PAIRS!r}, so it cannot be trained on or evaluated; "
            "--mode=predict reads it, and tools/convert.py --splits=train --cut=80,10,10 cuts "
            "labelled splits from the training split (docs/data.md)"
        )
    dialogues = parse_conversations(objects, str(path), labelled)
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
        several spans of words in one cause utterance are one pair, and exact repetitions are
        counted on stderr.
      where: the name of `objects` in error messages, usually a file.
      labelled: whether emotions and pairs are required (True), ignored (False) or optional (None).
        If they are ignored, these are conversations for a prediction: what it does not need is
        mended (`rpcl_jax.readers.objects`), and ids may be repeated.

    Returns:
      The dialogues in the same order. The clip of an utterance is the stretch of an episode that
      its "video_source" gives (["S01E01", "00:07:40.335", "00:07:44.880"]), or its video from its
      "start" to its "end", or the whole video. Its id is `dia<conversation_ID>utt<utterance_ID>`,
      or the name of its video where that is of this form and names no other utterance of the
      conversation: those are the keys of ECF's tables.

    Raises:
      InputError: a conversation is malformed or invalid, or an id is duplicated.
    """
    reading = Reading(where, Counter() if labelled is False else None)
    return reading.dialogues(
        objects,
        lambda item, place, n: parse_conversation(item, place, labelled, reading, str(n)),
    )


def parse_conversation(
    item: Mapping[str, Any], where: str, labelled: bool | None, reading: Reading, default: str
) -> Dialogue:
    """Converts one conversation as `parse_conversations` does.

    Args:
      item: the conversation.
      where: file and place, with which messages start.
      labelled: as there.
      reading: what was found in the file, and whether it is mended.
      default: the id of a conversation without one, if that is mended.

    Raises:
      InputError: the conversation is malformed or invalid.
    """
    number = identifier(item, "conversation_ID", where, reading.mended, default, (int, str))
    where = f"{where} (conversation_ID {number})"
    faults = Faults()
    utterances = []
    for t, turn in enumerate(field(item, "conversation", list, where), 1):
        with faults.collected():
            place = f"{where}, utterance number {t}"
            utterances.append(_parse_utterance(turn, t, number, place, labelled, reading))
    if len({utterance.id for utterance in utterances}) < len(utterances):  # they share a video
        utterances = [
            dataclasses.replace(utterance, id=f"dia{number}utt{t}")
            for t, utterance in enumerate(utterances, 1)
        ]
    if labelled is False or (labelled is None and item.get(PAIRS) is None):
        faults.check()
        return check_dialogue(Dialogue(number, tuple(utterances)), where)
    entries = []
    with faults.collected():
        for entry in field(item, PAIRS, list, where):
            with faults.collected():
                entries.append(_parse_pair(entry, where))
    faults.check()
    unique = dict.fromkeys(entries)  # other words of the same cause are not a repetition
    reading.repeated["pairs"] += len(entries) - len(unique)
    pairs = sorted({(i - 1, j - 1) for i, _, j, _ in unique})
    dialogue = check_dialogue(Dialogue(number, tuple(utterances), tuple(pairs)), where)
    for i, emotion, _, _ in unique:
        if emotion and emotion_name(emotion) != utterances[i - 1].emotion:
            faults.messages.append(
                f"{where}: a pair gives utterance {i} the emotion {emotion!r}, but the utterance "
                f"has {utterances[i - 1].emotion!r}; correct one of them"
            )
    faults.check()
    return dialogue


def _parse_utterance(
    turn: Mapping[str, Any],
    expected: int,
    conversation: str,
    where: str,
    labelled: bool | None,
    reading: Reading,
) -> Utterance:
    number = identifier(turn, "utterance_ID", where, reading.mended, str(expected), (int, str))
    if number != str(expected):
        raise InputError(
            f"{where}: its utterance_ID is {number!r}; number utterances 1, 2, 3, … in order"
        )
    video = turn.get("video_name")
    if reading.mended is None and video is not None:
        field(turn, "video_name", str, where)
    name = clip_name(video) if isinstance(video, str) and video.strip() else ""
    clip = _parse_clip(name, turn.get("start"), turn.get("end")) if name else None
    source = turn.get("video_source")
    if (not name or _ECF_CLIP.fullmatch(name)) and isinstance(source, list) and len(source) == 3:
        clip = _parse_clip(*source) or clip
    emotion = None
    if labelled or (labelled is None and turn.get("emotion") is not None):
        emotion = reading.emotion(field(turn, "emotion", str, where))
    speaker, text = speech(turn, where, reading.mended)
    default = f"dia{conversation}utt{expected}"
    return Utterance(name if _ECF_CLIP.fullmatch(name) else default, speaker, text, emotion, clip)


def _parse_clip(video: Any, start: Any, end: Any) -> Clip | None:
    """Returns the clip, of the whole video if it has no usable times; None without a name."""
    if not isinstance(video, str) or not video.strip():
        return None
    times = seconds(start), seconds(end)
    return Clip(clip_name(video), *times) if is_stretch(*times) else Clip(clip_name(video))


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
