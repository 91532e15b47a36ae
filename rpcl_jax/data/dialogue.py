"""Conversations as every reader returns them, and the checks that they have passed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from rpcl_jax.errors import Faults, InputError

NEUTRAL = "neutral"
# The seven emotion categories of ECF and of SemEval-2024 Task 3, under the names that all readers
# give them. A benchmark may have others: a run's classes are what its training split has.
EMOTIONS = (NEUTRAL, "anger", "disgust", "fear", "joy", "sadness", "surprise")
EMOTIONAL = "emotional"  # for benchmarks that label whether there is an emotion, but not which one
BINARY = (NEUTRAL, EMOTIONAL)  # the classes of an emotion head without categories

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
    """Returns the name of a media file without its folder and its extension, if it has one.

    The folders may be those of Windows.
    """
    name = PurePath(path.replace("\\", "/"))
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
    """Returns `dialogue` if it is valid, and otherwise raises InputError with all of its faults.

    There must be utterances, with unique printable ids, emotions that can be names, all or none of
    them labelled if there are pairs, and clips that end after they start; and pairs must lie inside
    the dialogue. Every message starts with `where`, the file and the place.
    """
    faults = Faults()

    def fault(what: str) -> None:
        faults.messages.append(f"{where}: {what}")

    ids = [utterance.id for utterance in dialogue.utterances]
    if not ids:
        raise InputError(f"{where}: conversation {dialogue.id} has no utterances; remove it")
    for utterance_id, count in Counter(ids).items():
        if not utterance_id.isprintable():  # a tab or line break would corrupt feature tables
            fault(
                f"utterance id {utterance_id!r} contains characters that are not printable; "
                "choose another id"
            )
        if count > 1:
            fault(f"utterance id {utterance_id} is duplicated; ids must be unique")
    emotions = [utterance.emotion for utterance in dialogue.utterances]
    for t, emotion in enumerate(emotions, 1):
        if emotion is not None and not is_emotion_name(emotion):
            fault(
                f"utterance {t} cannot have the emotion {emotion[:40]!r}; write a name such as "
                f"{', '.join(EMOTIONS)}, or {EMOTIONAL} if the category is unknown"
            )
    for t, utterance in enumerate(dialogue.utterances, 1):
        clip = utterance.clip
        if clip is not None and not is_stretch(clip.start, clip.end):
            fault(
                f"the clip of utterance {t} runs from {clip.start} to {clip.end}; give a start of "
                "at least 0 and a later end, in seconds, or leave them out"
            )
    labelled = sum(emotion is not None for emotion in emotions)
    if dialogue.pairs is not None and labelled < len(emotions):
        fault(
            f"conversation {dialogue.id} has pairs, but {len(emotions) - labelled} of its "
            f"{len(emotions)} utterances have no emotion; label all or none"
        )
    for i, j in dialogue.pairs or ():
        if not (0 <= i < len(ids) and 0 <= j < len(ids)):
            fault(
                f"pair ({i + 1},{j + 1}) points outside the conversation of {len(ids)} utterances; "
                "correct or remove it"
            )
    faults.check()
    return dialogue


def is_emotion_name(name: str) -> bool:
    """Returns whether `name` can be the name of an emotion: printable, short, without a comma."""
    return name.isprintable() and 0 < len(name.strip()) <= 40 and "," not in name


def is_stretch(start: float | None, end: float | None) -> bool:
    """Returns whether a clip can have these times, in seconds or None; see `Clip`."""
    start = 0.0 if start is None else start
    return 0 <= start < LONGEST_FILM and (end is None or start < end < LONGEST_FILM)


def unique_id(name: str, used: Counter[str]) -> str:
    """Returns `name`, or with "_2" or the next free number at its end if it is in `used`; adds it.

    So the same names in the same order always become the same ids, and unique ones stay. An empty
    counter begins.
    """
    free = name
    while free in used:
        used[name] += 1
        free = f"{name}_{used[name]}"
    used[free] = 1
    return free


def with_unique_ids(dialogue: Dialogue, used: Counter[str]) -> Dialogue:
    """Returns `dialogue` with the `unique_id` of every utterance; `used` are those before it."""
    utterances = (
        u if (own := unique_id(u.id, used)) == u.id else replace(u, id=own)
        for u in dialogue.utterances
    )
    return replace(dialogue, utterances=tuple(utterances))


def of_corpus(dialogue: Dialogue, name: str) -> Dialogue:
    """Returns `dialogue` with the name of its corpus, one of several, before its ids."""
    utterances = (replace(u, id=f"{name}:{u.id}") for u in dialogue.utterances)
    return replace(dialogue, id=f"{name}:{dialogue.id}", utterances=tuple(utterances))


def is_of(dialogue: Dialogue, name: str) -> bool:
    """Returns whether `of_corpus` has put this name before a dialogue's id."""
    return dialogue.id.startswith(f"{name}:")


def without_labels(dialogue: Dialogue) -> Dialogue:
    """Returns a dialogue as a model sees it."""
    utterances = (replace(utterance, emotion=None) for utterance in dialogue.utterances)
    return replace(dialogue, utterances=tuple(utterances), pairs=None)


def emotion_class(emotion: str, classes: Sequence[str]) -> int:
    """Returns the index of an utterance's emotion in the names of the emotion classes.

    `BINARY` contains every emotion; if other classes do not contain it, there is a ValueError.
    """
    if tuple(classes) == BINARY:
        return int(emotion != NEUTRAL)
    return classes.index(emotion)


def check_unique(dialogues: Iterable[Dialogue], where: str) -> None:
    """Raises InputError if any of `dialogues`, all from the file `where`, have the same id."""
    faults = Faults()
    for name, count in Counter(dialogue.id for dialogue in dialogues).items():
        if count > 1:
            faults.messages.append(
                f"{where}: conversation id {name} is duplicated; ids must be unique"
            )
    faults.check()
