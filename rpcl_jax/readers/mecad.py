"""MECAD (Chinese), whose files have RECCON's layout with a video per utterance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import (
    NEUTRAL,
    Clip,
    Dialogue,
    Utterance,
    check_dialogue,
    clip_name,
)
from rpcl_jax.errors import Faults, InputError
from rpcl_jax.readers.benchmark_files import ReadLog, find_split
from rpcl_jax.readers.json_fields import field, read_objects

EVIDENCE = "expanded emotion cause evidence"
_FILES = {
    "train": ["train_data_pair.json"],
    "dev": ["valid_data_pair.json"],
    "test": ["test_data_pair.json"],
}
_ADVICE = (
    "download MECAD (https://github.com/redifinition/M3HG, data/MECAD, or from its authors) and "
    "pass its folder as --config.data.root"
)
_BACKGROUND = "b"


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads a split of MECAD.

    Args:
      root: folder with `train_data_pair.json`, `valid_data_pair.json` and `test_data_pair.json`.
    """
    return read_evidence(find_split(root, _FILES, split, _ADVICE))


def read_evidence(path: Path) -> list[Dialogue]:
    """Reads a file with the layout `{id: [[utterance, …]]}`, as MECAD's and RECCON's are.

    An utterance has "turn" (1, 2, 3, …), "speaker", "utterance", "emotion" (in any case, and under
    any name that `emotion_name` knows) and optionally "utterance_name", "video" and "expanded
    emotion cause evidence", the turns of its causes. A turn that is listed twice, as RECCON lists a
    turn with two spans, is one pair. "b", a cause outside the conversation, makes no pair, nor does
    the evidence of a neutral utterance. An utterance's id is its `utterance_name`, or `video`
    without its extension, or `<id>_<turn>`; its clip is the whole file `video`.

    The public copy of ECF in https://github.com/redifinition/M3HG has this layout too.
    """
    return parse_evidence(read_objects(path), path)


def is_evidence(item: Any) -> bool:
    """Returns whether a JSON object has this layout."""
    return (
        isinstance(item, Mapping)
        and bool(item)
        and all(isinstance(value, list) and len(value) == 1 for value in item.values())
        and all(isinstance(value[0], list) and value[0] for value in item.values())
        and all(
            isinstance(turn, Mapping) and "turn" in turn
            for (turns,) in item.values()
            for turn in turns
        )
    )


def parse_evidence(objects: list[Any], path: Path) -> list[Dialogue]:
    """Parses the objects of a file; see `read_evidence`."""
    if len(objects) != 1 or not isinstance(objects[0], Mapping) or not objects[0]:
        raise InputError(
            f"{path}: must be one object of conversations by id; check that it is the right file"
        )
    log = ReadLog(str(path))
    dialogues = log.each(lambda item: _parse_conversation(*item, path, log), objects[0].items())
    log.close()
    return dialogues


def _parse_conversation(name: str, value: Any, path: Path, log: ReadLog) -> Dialogue:
    if not name.strip():
        raise InputError(f"{path}: a conversation's id is blank; add one")
    where = f"{path}: conversation {name}"
    # Every published file has exactly one inner list; the meaning of a second one is undefined.
    if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)):
        raise InputError(f"{where}: must be a list of one list of utterances; correct it")
    faults = Faults()
    utterances = []
    pairs = []
    for t, turn in enumerate(value[0], 1):
        with faults.collected():
            place = f"{where}, utterance number {t}"
            number = field(turn, "turn", (int, str), place)
            if str(number) != str(t):
                raise InputError(
                    f"{place}: its turn is {number!r}; number utterances 1, 2, 3, … in order"
                )
            utterance = _parse_utterance(turn, f"{name}_{t}", place, log)
            utterances.append(utterance)
            causes = _parse_evidence(turn.get(EVIDENCE), place)
            if utterance.emotion != NEUTRAL:
                pairs += [(t - 1, cause - 1) for cause in causes]
    faults.check()
    dialogue = Dialogue(name, tuple(utterances), log.unique_pairs(pairs))
    return check_dialogue(dialogue, where)


def _parse_utterance(turn: Mapping[str, Any], name: str, where: str, log: ReadLog) -> Utterance:
    clip = None
    if turn.get("video") is not None:
        clip = Clip(clip_name(field(turn, "video", str, where)))
        name = clip.video
    if turn.get("utterance_name") is not None:
        name = field(turn, "utterance_name", str, where)
    emotion = log.emotion(field(turn, "emotion", str, where))
    speaker, text = (field(turn, key, str, where) for key in ("speaker", "utterance"))
    return Utterance(name, speaker, text, emotion, clip)


def _parse_evidence(evidence: Any, where: str) -> list[int]:
    """Returns the turns of the causes; empty without evidence."""
    causes = [] if evidence is None else evidence
    if not isinstance(causes, list):
        raise InputError(f"{where}: {EVIDENCE!r} must be a list of turns; correct it")
    turns = []
    for cause in causes:
        is_turn = isinstance(cause, int) and not isinstance(cause, bool)
        if not (is_turn or (isinstance(cause, str) and cause.strip().isdecimal())):
            if cause == _BACKGROUND:
                continue
            raise InputError(
                f"{where}: {str(cause)[:40]!r} in {EVIDENCE!r} is not a turn; write an utterance "
                f"number, or {_BACKGROUND!r} for a cause outside the conversation"
            )
        turns.append(int(cause))
    return turns
