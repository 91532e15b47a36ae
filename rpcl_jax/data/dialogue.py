"""What a reader yields: conversations, their labels, and the checks every one of them passes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from rpcl_jax.errors import InputError

NEUTRAL = "neutral"
# The seven categories of ECF and of SemEval-2024 Task 3; the index of a name is its class.
EMOTIONS = (NEUTRAL, "anger", "disgust", "fear", "joy", "sadness", "surprise")
EMOTIONAL = "emotional"  # where a benchmark says that there is an emotion, but not which
# What the emotion head may tell apart, by the name that `config.data.emotions` gives it.
EMOTION_CLASSES = {"categories": EMOTIONS, "binary": (NEUTRAL, EMOTIONAL)}


LONGEST_FILM = 1e7  # seconds, 16 weeks: more are milliseconds, or times since an epoch
_FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv")
_SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
CLIP_ENDINGS = _FILMS + _SOUNDS


@dataclass(frozen=True)
class Clip:
    """Where an utterance is heard and seen.

    `video` names a file without its ending; `start` and `end`, in seconds, are the stretch of it,
    None where the whole file is the utterance.
    """

    video: str
    start: float | None = None
    end: float | None = None


def clip_name(path: str) -> str:
    """The name of a film or sound without its folder, and without its ending if it has one."""
    name = PurePath(path)
    return name.stem if name.suffix.lower() in CLIP_ENDINGS else name.name


@dataclass(frozen=True)
class Utterance:
    """One turn. `id` is the key of its row in feature tables; `emotion` is None if unlabelled."""

    id: str
    speaker: str
    text: str
    emotion: str | None = None
    clip: Clip | None = None


@dataclass(frozen=True)
class Dialogue:
    """One conversation.

    `pairs` holds the gold pairs (emotion utterance, cause utterance), 0-based, sorted, without
    repeats; it is None where nobody labelled the conversation.
    """

    id: str
    utterances: tuple[Utterance, ...]
    pairs: tuple[tuple[int, int], ...] | None = None


def check_dialogue(dialogue: Dialogue, where: str) -> Dialogue:
    """Returns `dialogue` if it can be used.

    Args:
      dialogue: what a reader made.
      where: file and place, the beginning of the message.

    Raises:
      InputError: no utterance, a repeated utterance id, an unknown emotion, a pair that points
        outside the dialogue, a repeated pair, labels on some utterances only, a clip that ends
        before it starts, or an utterance id with characters that are not printable.
    """
    ids = [utterance.id for utterance in dialogue.utterances]
    if not ids:
        raise InputError(f"{where}: conversation {dialogue.id} has no utterance; remove it")
    for utterance_id in ids:
        if not utterance_id.isprintable():  # a tab or the end of a line would break tables
            raise InputError(
                f"{where}: utterance id {utterance_id!r} holds what is no letter, digit, mark or "
                "blank; choose another id"
            )
    if len(set(ids)) < len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{where}: utterance id {repeated} is there twice; ids must differ")
    emotions = [utterance.emotion for utterance in dialogue.utterances]
    for t, emotion in enumerate(emotions, 1):
        if emotion is not None and emotion not in (*EMOTIONS, EMOTIONAL):
            raise InputError(
                f"{where}: utterance {t} has the unknown emotion {emotion!r}; "
                f"known are {', '.join(EMOTIONS)}, or {EMOTIONAL} where no category is"
            )
    for t, utterance in enumerate(dialogue.utterances, 1):
        clip = utterance.clip or Clip("")
        stretch = (clip.start, clip.end)
        if stretch != (None, None) and not _is_stretch(*stretch):
            raise InputError(
                f"{where}: the clip of utterance {t} runs from {clip.start} to {clip.end}; give "
                "a start of at least 0 and an end after it, in seconds, or neither"
            )
    labelled = sum(emotion is not None for emotion in emotions)
    if dialogue.pairs is not None and labelled < len(emotions):
        raise InputError(
            f"{where}: conversation {dialogue.id} has pairs, but {len(emotions) - labelled} of its "
            f"{len(emotions)} utterances have no emotion; label all or none"
        )
    pairs = dialogue.pairs or ()
    for i, j in pairs:
        if pairs.count((i, j)) > 1:
            raise InputError(f"{where}: pair ({i + 1},{j + 1}) is there twice; remove one")
        if not (0 <= i < len(ids) and 0 <= j < len(ids)):
            raise InputError(
                f"{where}: pair ({i + 1},{j + 1}) points outside the conversation of "
                f"{len(ids)} utterances; correct or remove it"
            )
    return dialogue


def _is_stretch(start: float | None, end: float | None) -> bool:
    return start is not None and end is not None and 0 <= start < end < LONGEST_FILM


def emotion_class(emotion: str, classes: tuple[str, ...]) -> int:
    """The index of an utterance's emotion in `classes`, one of `EMOTION_CLASSES`.

    Raises:
      ValueError: `emotion` is EMOTIONAL, and `classes` are categories.
    """
    if EMOTIONAL in classes:
        return int(emotion != NEUTRAL)
    return classes.index(emotion)


def check_unique(dialogues: Iterable[Dialogue], where: str) -> None:
    """Raises InputError if two of `dialogues` have one id; `where` is the file they are from."""
    seen: set[str] = set()
    for dialogue in dialogues:
        if dialogue.id in seen:
            raise InputError(
                f"{where}: conversation id {dialogue.id} is there twice; ids must differ"
            )
        seen.add(dialogue.id)
