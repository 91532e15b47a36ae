"""What a reader yields: conversations, their labels, and the checks every one of them passes."""

from collections.abc import Iterable
from dataclasses import dataclass

from rpcl_jax.errors import InputError

NEUTRAL = "neutral"
# The seven categories of ECF and of SemEval-2024 Task 3; the index of a name is its class.
EMOTIONS = (NEUTRAL, "anger", "disgust", "fear", "joy", "sadness", "surprise")


@dataclass(frozen=True)
class Utterance:
    """One turn. `id` is the key of its row in feature tables; `emotion` is None if unlabelled."""

    id: str
    speaker: str
    text: str
    emotion: str | None = None


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
        outside the dialogue, a repeated pair, or labels on some utterances only.
    """
    ids = [utterance.id for utterance in dialogue.utterances]
    if not ids:
        raise InputError(f"{where}: conversation {dialogue.id} has no utterance; remove it")
    if len(set(ids)) < len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{where}: utterance id {repeated} is there twice; ids must differ")
    emotions = [utterance.emotion for utterance in dialogue.utterances]
    for t, emotion in enumerate(emotions, 1):
        if emotion is not None and emotion not in EMOTIONS:
            raise InputError(
                f"{where}: utterance {t} has the unknown emotion {emotion!r}; "
                f"known are {', '.join(EMOTIONS)}"
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


def check_unique(dialogues: Iterable[Dialogue], where: str) -> None:
    """Raises InputError if two of `dialogues` have one id; `where` is the file they are from."""
    seen: set[str] = set()
    for dialogue in dialogues:
        if dialogue.id in seen:
            raise InputError(
                f"{where}: conversation id {dialogue.id} is there twice; ids must differ"
            )
        seen.add(dialogue.id)
