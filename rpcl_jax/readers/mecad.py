"""MECAD (Chinese) and other files in its format: RECCON's JSON with a video per utterance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpcl_jax.data.dialogue import (
    EMOTIONS,
    NEUTRAL,
    Clip,
    Dialogue,
    Utterance,
    check_dialogue,
    clip_name,
)
from rpcl_jax.errors import InputError
from rpcl_jax.readers.objects import field, read_objects

EVIDENCE = "expanded emotion cause evidence"
_FILES = {
    "train": "train_data_pair.json",
    "dev": "valid_data_pair.json",
    "test": "test_data_pair.json",
}
# Emotion names of MECAD and RECCON that differ from ECF's.
_EMOTIONS = {"happy": "joy", "happiness": "joy", "sad": "sadness"}
_BACKGROUND = "b"


def read_split(root: Path, split: str) -> list[Dialogue]:
    """Reads a split of MECAD.

    Args:
      root: folder with `train_data_pair.json`, `valid_data_pair.json` and `test_data_pair.json`.
      split: "train", "dev" or "test".

    Raises:
      InputError: the file is missing or malformed.
    """
    path = root / _FILES[split]
    if not path.is_file():
        raise InputError(
            f"{path}: not found; download MECAD (https://github.com/redifinition/M3HG, data/MECAD, "
            "or from its authors) and pass its folder as --config.data.root"
        )
    return read_mecad(path)


def read_mecad(path: Path) -> list[Dialogue]:
    """Reads a file with the layout `{id: [[utterance, …]]}`.

    An utterance has "turn" (1, 2, 3, …), "speaker", "utterance", "emotion" (in any case; Happy or
    joy, Sad or sadness) and optionally "utterance_name", "video" and "expanded emotion cause
    evidence", the turns of its causes. The evidence of a neutral utterance makes no pair, nor does
    "b", which in RECCON is a cause outside the conversation. An utterance's id is its
    `utterance_name`, or `video` without its extension, or `<id>_<turn>`; its clip is the whole file
    `video`.

    The public copy of ECF in https://github.com/redifinition/M3HG has this layout too.

    Raises:
      InputError: the file is malformed, or a conversation is invalid.
    """
    objects = read_objects(path)
    if len(objects) != 1 or not isinstance(objects[0], Mapping) or not objects[0]:
        raise InputError(
            f"{path}: must be one object of conversations by id; check that it is the right file"
        )
    if any(not name.strip() for name in objects[0]):
        raise InputError(f"{path}: a conversation's id is blank; add one")
    return [
        _parse_conversation(name, value, f"{path}: conversation {name}")
        for name, value in objects[0].items()
    ]


def emotion_name(name: str) -> str:
    """Returns ECF's name of an emotion in MECAD or RECCON; unknown names are kept."""
    return _EMOTIONS.get(name.strip().lower(), name.strip().lower())


def _parse_conversation(name: str, value: Any, where: str) -> Dialogue:
    # Every published file has exactly one inner list; the meaning of a second one is undefined.
    if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)):
        raise InputError(f"{where}: must be a list of one list of utterances; correct it")
    utterances = []
    pairs = []
    for t, turn in enumerate(value[0], 1):
        place = f"{where}, utterance number {t}"
        number = field(turn, "turn", (int, str), place)
        if str(number) != str(t):
            raise InputError(
                f"{place}: its turn is {number!r}; number utterances 1, 2, 3, … in order"
            )
        utterance = _parse_utterance(turn, f"{name}_{t}", place)
        utterances.append(utterance)
        causes = _parse_evidence(turn.get(EVIDENCE), place)
        if utterance.emotion != NEUTRAL:
            pairs += [(t - 1, cause - 1) for cause in causes]
    return check_dialogue(Dialogue(name, tuple(utterances), tuple(sorted(pairs))), where)


def _parse_utterance(turn: Mapping[str, Any], name: str, where: str) -> Utterance:
    clip = None
    if turn.get("video") is not None:
        clip = Clip(clip_name(field(turn, "video", str, where)))
        name = clip.video
    if turn.get("utterance_name") is not None:
        name = field(turn, "utterance_name", str, where)
    emotion = emotion_name(field(turn, "emotion", str, where))
    if emotion not in EMOTIONS:
        raise InputError(
            f"{where}: its emotion {turn['emotion']!r} is unknown; use one of "
            f"{', '.join((*EMOTIONS, *_EMOTIONS))}"
        )
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
