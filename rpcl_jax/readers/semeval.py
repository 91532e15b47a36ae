"""The JSON format of SemEval-2024 Task 3: reads conversations, labelled or not."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import NEUTRAL, Dialogue, Utterance, check_dialogue, clip_name
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.readers.benchmark_files import ReadLog, clip_beside, emotion_name
from rpcl_jax.readers.json_fields import (
    field,
    identifier,
    is_blank,
    read_objects,
    speech,
)

_ECF_CLIP = re.compile(r"dia[0-9]+utt[0-9]+")
PAIRS = "emotion-cause_pairs"


def read_semeval(path: Path, labelled: bool | None = None) -> list[Dialogue]:
    """Reads a file of conversations; see `read_objects` and `parse_conversations`."""
    objects = read_objects(path)
    if labelled and objects and not any(isinstance(o, Mapping) and PAIRS in o for o in objects):
        raise InputError(
            f"{path}: no conversation has {PAIRS!r}, so it cannot be trained on or evaluated; "
            "--mode=predict reads it, and `rpcl convert --splits=train --cut=80,10,10` cuts "
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
        logged.
      labelled: whether emotions and pairs are required (True), ignored (False) or optional (None).
        If they are ignored, these are conversations for a prediction: what it does not need is
        repaired (`rpcl_jax.readers.json_fields`), and ids may be repeated.

    Returns:
      The dialogues in the same order. An utterance's clip is the span of an episode that its
      "video_source" gives (["S01E01", "00:07:40.335", "00:07:44.880"]), or what `clip_beside`
      returns; None if its times are unusable. Its id is `dia<conversation_ID>utt<utterance_ID>`, or
      the name of its video where that is of this form and names no other utterance of the
      conversation: those are the keys of ECF's tables.
    """
    log = ReadLog(where, Counter() if labelled is False else None)
    return log.dialogues(
        objects,
        lambda item, place, n: parse_conversation(item, place, labelled, log, str(n)),
    )


def parse_conversation(
    item: Mapping[str, Any], where: str, labelled: bool | None, log: ReadLog, default: str
) -> Dialogue:
    """Converts one conversation as `parse_conversations` does.

    Args:
      log: what was found in the file, and whether it is repaired.
      default: the id of a conversation without one, if that is repaired.
    """
    number = identifier(item, "conversation_ID", where, log.repaired, default, (int, str))
    where = f"{where} (conversation_ID {number})"
    read_pairs = labelled or (labelled is None and item.get(PAIRS) is not None)
    faults = Faults()

    def parse_turn(turn: Any, t: int, place: str) -> Utterance:
        with faults.collected():
            _check_number(turn, t, place, log.repaired, read_pairs)
        speaker, text = speech(turn, place, log.repaired, faults)
        if log.repaired is None and turn.get("video_name") is not None:
            with faults.collected():
                field(turn, "video_name", str, place)
        given = clip_beside(turn, item)
        name = clip_name(given["video"]) if given else ""
        unique_id = _ECF_CLIP.fullmatch(name) is not None
        clip = None
        match turn.get("video_source"):
            case [str(episode), start, end] if episode.strip() and (not given or unique_id):
                clip = log.clip({"video": episode, "start": start, "end": end}, place)
        if given is not None and clip is None:
            clip = log.clip(given, place)
        emotion = None
        if labelled or (labelled is None and turn.get("emotion") is not None):
            emotion = NEUTRAL
            with faults.collected():
                emotion = log.emotion(field(turn, "emotion", str, place))
        return Utterance(name if unique_id else f"dia{number}utt{t}", speaker, text, emotion, clip)

    turns = field(item, "conversation", list, where)
    utterances = log.utterances(turns, where, faults, parse_turn)
    if len({utterance.id for utterance in utterances}) < len(utterances):  # they share a video
        utterances = tuple(
            dataclasses.replace(utterance, id=f"dia{number}utt{t}")
            for t, utterance in enumerate(utterances, 1)
        )
    pairs, unique = None, {}
    if read_pairs:
        entries = []
        with faults.collected():
            given = field(item, PAIRS, list, where)
            entries = faults.each(lambda entry: _parse_pair(entry, where), given)
        unique = dict.fromkeys(entries)  # other words of the same cause are not a repetition
        log.left_out["repetitions of pairs"] += len(entries) - len(unique)
        pairs = tuple(sorted({(i - 1, j - 1) for i, _, j, _ in unique}))
    dialogue = Dialogue(number, utterances, pairs)
    with faults.collected():
        check_dialogue(dialogue, where)
    faults.check()
    for i, emotion, _, _ in unique:
        if emotion and emotion_name(emotion) != utterances[i - 1].emotion:
            faults.messages.append(
                f"{where}: a pair gives utterance {i} the emotion {emotion!r}, but the utterance "
                f"has {utterances[i - 1].emotion!r}; correct one of them"
            )
    faults.check()
    return dialogue


def _check_number(
    turn: Any, expected: int, where: str, repaired: Counter[str] | None, read_pairs: bool
) -> None:
    """Refuses an utterance that is not number `expected`, which pairs may refer to."""
    # `with_prediction` writes numbers and pairs, so in a prediction others are only counted.
    if not isinstance(turn, Mapping):
        return  # which is a fault of its own
    given = turn.get("utterance_ID")
    if repaired is not None and (is_blank(given) or str(given) == f"{expected}.0"):
        return
    if repaired is not None and not read_pairs:
        other = str(given) != str(expected)
        repaired["utterance_IDs other than 1, 2, 3, … (numbered anew)"] += other
        return
    number = str(field(turn, "utterance_ID", (int, str), where))
    if number != str(expected):
        raise InputError(
            f"{where}: its utterance_ID is {number!r}; number utterances 1, 2, 3, … in order"
        )


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
