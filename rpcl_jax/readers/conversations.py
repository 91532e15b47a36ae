"""Our own format, for corpora without a reader: one JSON object per line.

    {"id": "1", "utterances": [{"id": "dia1utt1", "speaker": "Ann", "text": "Oh!", "emotion": "joy",
     "clip": {"video": "x", "start": 1.5, "end": 2.0}}, …], "pairs": [[3, 1], …]}

`pairs` are [emotion utterance, cause utterance], numbered from 1. `emotion`, `clip`, a clip's
`start` and `end`, and `pairs` are left out if they are unknown. An empty `pairs` means that the
conversation has none. In place of clips, `video` (or `video_name`) may be beside `utterances`, or
in an utterance, and `start` and `end` in the utterance.
"""

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import (
    NEUTRAL,
    Dialogue,
    Utterance,
    check_dialogue,
    with_unique_ids,
)
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.files import atomic_write, json_bytes
from rpcl_jax.readers.benchmark_files import ReadLog, clip_beside, find_split
from rpcl_jax.readers.json_fields import field, identifier, read_objects, speech

_FILES = {split: [f"{split}.jsonl"] for split in ("train", "dev", "test")}
_ADVICE = "write it with `rpcl convert` and pass its folder as --config.data.root"


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads `root/<split>.jsonl`, in which every conversation must be labelled.

    Raises:
      InputError: the file is missing or malformed, or a conversation has no `pairs`.
    """
    path = find_split(root, _FILES, split, _ADVICE)
    dialogues = read_conversations(path)
    unlabelled = [dialogue.id for dialogue in dialogues if dialogue.pairs is None]
    if unlabelled:
        raise InputError(
            *(
                f"{path}: conversation {name} has no 'pairs'; training and evaluation require it, "
                "write [] if there are none"
                for name in unlabelled
            )
        )
    return dialogues


def read_conversations(path: Path) -> list[Dialogue]:
    """Reads a file of conversations; see `parse_objects`."""
    dialogues = parse_objects(read_objects(path), str(path))
    if not dialogues:
        raise InputError(f"{path}: contains no conversation; check that it is the right file")
    return dialogues


def is_ours(item: Any) -> bool:
    """Returns whether a JSON object is meant to be in this format, valid or not."""
    return isinstance(item, Mapping) and "utterances" in item


def parse_objects(
    objects: Sequence[Mapping[str, Any]], where: str, labelled: bool = True
) -> list[Dialogue]:
    """Converts conversations in this module's format to dialogues; other fields are ignored.

    Args:
      objects: the conversations. An `id` is a string or an integer. An utterance without `id` gets
        `dia<id of the conversation>utt<its number>`.
      labelled: whether to read emotions and pairs, if present. If not, these are conversations for
        a prediction: what it does not need is repaired (`rpcl_jax.readers.json_fields`), and ids
        may be repeated.
    """
    log = ReadLog(where, None if labelled else Counter())
    return log.dialogues(
        objects,
        lambda item, place, n: parse_conversation(item, place, labelled, log, str(n)),
    )


def parse_conversation(
    item: Mapping[str, Any], where: str, labelled: bool, log: ReadLog, default: str
) -> Dialogue:
    """Converts one conversation in this module's format to a dialogue.

    Args:
      log: what was found in the file, and whether it is repaired.
      default: the id of a conversation without one, if that is repaired.
    """
    name = identifier(item, "id", where, log.repaired, default, (int, str))
    where = f"{where} (id {name})"
    faults = Faults()

    def parse_turn(turn: Any, t: int, place: str) -> Utterance:
        speaker, text = speech(turn, place, log.repaired, faults)
        unique_id, emotion, clip = f"dia{name}utt{t}", None, None
        if turn.get("id") is not None:
            with faults.collected():
                unique_id = identifier(turn, "id", place, log.repaired, unique_id)
        if labelled and turn.get("emotion") is not None:
            emotion = NEUTRAL
            with faults.collected():
                emotion = log.emotion(field(turn, "emotion", str, place))
        given = turn.get("clip")
        given = clip_beside(turn, item) if given is None else given
        if given is not None:
            with faults.collected():
                clip = log.clip(given, f"{place}, its clip", required=True)
        return Utterance(unique_id, speaker, text, emotion, clip)

    turns = field(item, "utterances", list, where)
    utterances = log.utterances(turns, where, faults, parse_turn)
    pairs = None
    if labelled and item.get("pairs") is not None:
        entries = []
        with faults.collected():
            given = field(item, "pairs", list, where)
            entries = faults.each(lambda entry: _parse_pair(entry, where), given)
        pairs = log.unique_pairs(entries)
    dialogue = Dialogue(name, utterances, pairs)
    if log.repaired is not None:
        own = with_unique_ids(dialogue, Counter())
        changed = sum(map(operator.ne, own.utterances, dialogue.utterances))
        log.repaired["repeated utterance ids (numbered)"] += changed
        dialogue = own
    with faults.collected():
        check_dialogue(dialogue, where)
    faults.check()
    return dialogue


def _parse_pair(entry: Any, where: str) -> tuple[int, int]:
    match entry:
        case [int(emotion), int(cause)] if bool not in map(type, entry):
            return emotion - 1, cause - 1
    raise InputError(
        f"{where}: {str(entry)[:40]} is not a pair; write [3, 1] if utterance 1 causes the "
        "emotion of utterance 3"
    )


def dialogue_object(dialogue: Dialogue) -> dict[str, Any]:
    """Returns a dialogue in this module's format; `parse_objects` is the inverse."""
    item: dict[str, Any] = {
        "id": dialogue.id,
        "utterances": [_utterance_object(utterance) for utterance in dialogue.utterances],
    }
    if dialogue.pairs is not None:
        item["pairs"] = [[i + 1, j + 1] for i, j in dialogue.pairs]
    return item


def _utterance_object(utterance: Utterance) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "text": utterance.text,
        "emotion": utterance.emotion,
    }
    if utterance.clip:
        item["clip"] = _without_nothing(vars(utterance.clip))
    return _without_nothing(item)


def _without_nothing(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if value is not None}


def write_conversations(path: Path, dialogues: Iterable[Dialogue]) -> None:
    """Writes a file of conversations atomically; an existing file is replaced."""
    with atomic_write(path) as file:
        for dialogue in dialogues:
            file.write(json_bytes(dialogue_object(dialogue)))
