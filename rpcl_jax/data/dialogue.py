"""Conversations as every reader returns them, and the checks that they have passed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rpcl_jax.errors import InputError

NEUTRAL = "neutral"
# The seven emotion categories of ECF and of SemEval-2024 Task 3. Readers label utterances with
# these names, the index of a name is its class in the emotion head, and predictions and reports
# print them.
EMOTIONS = (NEUTRAL, "anger", "disgust", "fear", "joy", "sadness", "surprise")
EMOTIONAL = "emotional"  # for benchmarks that label whether there is an emotion, but not which one
# The classes of the emotion head by the value of `config.data.emotions`; names are stored with a
# run, so that predictions can name the class.
EMOTION_CLASSES = {"categories": EMOTIONS, "binary": (NEUTRAL, EMOTIONAL)}

LONGEST_FILM = 1e7  # seconds (16 weeks); larger times must be milliseconds or dates
_FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv")
_SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
CLIP_ENDINGS = _FILMS + _SOUNDS


@dataclass(frozen=True)
class Clip:
    """The media file, and the span in it, that belong to an utterance.

    `video` is the file's name, without folder or extension. `start` and `end` are in seconds; None
    is the start or the end of the file.
    """

    video: str
    start: float | None = None
    end: float | None = None


def clip_name(path: str) -> str:
    """Returns the name of a media file without its folder and its extension, if it has one."""
    name = PurePath(path)
    return name.stem if name.suffix.lower() in CLIP_ENDINGS else name.name


@dataclass(frozen=True)
class Utterance:
    """One turn. `id` is its key in feature tables; `emotion` is None if it is unlabelled."""

    id: str
    speaker: str
    text: str
    emotion: str | None = None
    clip: Clip | None = None


@dataclass(frozen=True)
class Dialogue:
    """One conversation.

    `pairs` holds the gold pairs (emotion utterance, cause utterance), 0-based, sorted and without
    duplicates; None means that the conversation is unlabelled.
    """

    id: str
    utterances: tuple[Utterance, ...]
    pairs: tuple[tuple[int, int], ...] | None = None


def check_dialogue(dialogue: Dialogue, where: str) -> Dialogue:
    """Returns `dialogue` if it is valid.

    Args:
      dialogue: from a reader.
      where: file and place, with which the message starts.

    Raises:
      InputError: there is no utterance; an utterance id is duplicated or not printable; an emotion
        is unknown; a pair is duplicated or points outside the dialogue; only some utterances of a
        dialogue with pairs have an emotion; or a clip does not end after it starts.
    """
    ids = [utterance.id for utterance in dialogue.utterances]
    if not ids:
        raise InputError(f"{where}: conversation {dialogue.id} has no utterance; remove it")
    for utterance_id in ids:
        if not utterance_id.isprintable():  # a tab or line break would corrupt feature tables
            raise InputError(
                f"{where}: utterance id {utterance_id!r} contains characters that are not "
                "printable; choose another id"
            )
    if len(set(ids)) < len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{where}: utterance id {repeated} is duplicated; ids must be unique")
    emotions = [utterance.emotion for utterance in dialogue.utterances]
    for t, emotion in enumerate(emotions, 1):
        if emotion is not None and emotion not in (*EMOTIONS, EMOTIONAL):
            raise InputError(
                f"{where}: utterance {t} has the unknown emotion {emotion!r}; "
                f"use one of {', '.join(EMOTIONS)}, or {EMOTIONAL} if the category is unknown"
            )
    for t, utterance in enumerate(dialogue.utterances, 1):
        if utterance.clip is not None:
            check_clip(utterance.clip, f"{where}: the clip of utterance {t}")
    labelled = sum(emotion is not None for emotion in emotions)
    if dialogue.pairs is not None and labelled < len(emotions):
        raise InputError(
            f"{where}: conversation {dialogue.id} has pairs, but {len(emotions) - labelled} of its "
            f"{len(emotions)} utterances have no emotion; label all or none"
        )
    pairs = dialogue.pairs or ()
    for i, j in pairs:
        if pairs.count((i, j)) > 1:
            raise InputError(f"{where}: pair ({i + 1},{j + 1}) is duplicated; remove one")
        if not (0 <= i < len(ids) and 0 <= j < len(ids)):
            raise InputError(
                f"{where}: pair ({i + 1},{j + 1}) points outside the conversation of "
                f"{len(ids)} utterances; correct or remove it"
            )
    return dialogue


def check_clip(clip: Clip, where: str) -> Clip:
    """Returns `clip` if its times are valid; `where` is what the message starts with.

    Raises:
      InputError: it does not end after it starts, or the times are not seconds of a film.
    """
    start, end = 0.0 if clip.start is None else clip.start, clip.end
    if not (0 <= start < LONGEST_FILM and (end is None or start < end < LONGEST_FILM)):
        raise InputError(
            f"{where} runs from {clip.start} to {clip.end}; give a start of at least 0 and a "
            "later end, in seconds, or leave them out"
        )
    return clip


def emotion_class(emotion: str, classes: Sequence[str]) -> int:
    """Returns the index of an utterance's emotion in `classes`, a value of `EMOTION_CLASSES`.

    Raises:
      ValueError: `emotion` is EMOTIONAL, but `classes` are categories.
    """
    if EMOTIONAL in classes:
        return int(emotion != NEUTRAL)
    return classes.index(emotion)


def check_unique(dialogues: Iterable[Dialogue], where: str) -> None:
    """Raises InputError if two of `dialogues`, all from the file `where`, have the same id."""
    seen: set[str] = set()
    for dialogue in dialogues:
        if dialogue.id in seen:
            raise InputError(
                f"{where}: conversation id {dialogue.id} is duplicated; ids must be unique"
            )
        seen.add(dialogue.id)
