"""Scored dialogues, and the file of a split's scores that intervals and reports read."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.files import atomic_write, check_not_pointer


class ScoredDialogue(NamedTuple):
    """A labelled dialogue and the model's scores for its first `n` utterances, without padding.

    `n` is smaller than `len(dialogue.utterances)` if the dialogue was cut.
    """

    dialogue: Dialogue
    pair_confidence: np.ndarray  # [n, n]
    candidate_mask: np.ndarray  # bool [n, n]
    emotion_probabilities: np.ndarray  # [n, C]
    cause_confidence: np.ndarray  # [n]


def save_scores(path: Path, scored: Sequence[ScoredDialogue]) -> None:
    """Writes the scores of all dialogues atomically, as an .npz file.

    It contains `ids` and `lengths`, [d] each, and the concatenated arrays of all dialogues:
    `pair_confidence` and `candidate_mask`, n x n per dialogue, `emotion_probabilities`, n x C, and
    `cause_confidence`, n.
    """
    arrays: dict[str, Any] = {
        "ids": np.array([s.dialogue.id for s in scored]),
        "lengths": np.array([len(s.cause_confidence) for s in scored]),
        "pair_confidence": np.concatenate([s.pair_confidence.ravel() for s in scored]),
        "candidate_mask": np.concatenate([s.candidate_mask.ravel() for s in scored]),
        "emotion_probabilities": np.concatenate([s.emotion_probabilities for s in scored]),
        "cause_confidence": np.concatenate([s.cause_confidence for s in scored]),
    }
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_scores(path: Path, dialogues: Sequence[Dialogue]) -> list[ScoredDialogue]:
    """Loads a file that `save_scores` wrote, given the scored dialogues in the same order."""
    check_not_pointer(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        lengths = arrays["lengths"]
        numbers = {
            **dict.fromkeys(("ids", "lengths"), len(lengths)),
            **dict.fromkeys(("pair_confidence", "candidate_mask"), (lengths**2).sum()),
            **dict.fromkeys(("emotion_probabilities", "cause_confidence"), lengths.sum()),
        }
        if any(len(arrays[name]) != number for name, number in numbers.items()):
            raise ValueError("its arrays do not match")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: not found; --mode=evaluate of a finished run writes it"
        ) from error
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a scores file; --mode=evaluate writes it again") from error
    if arrays["ids"].tolist() != [dialogue.id for dialogue in dialogues] or any(
        n > len(dialogue.utterances) for n, dialogue in zip(lengths, dialogues, strict=True)
    ):
        raise InputError(f"{path}: its conversations are not the run's; restore the data")
    cells, utterances = np.cumsum(lengths**2)[:-1], np.cumsum(lengths)[:-1]
    return [
        ScoredDialogue(dialogue, p.reshape(n, n), mask.reshape(n, n), emotions, causes)
        for dialogue, n, p, mask, emotions, causes in zip(
            dialogues,
            lengths,
            np.split(arrays["pair_confidence"], cells),
            np.split(arrays["candidate_mask"], cells),
            np.split(arrays["emotion_probabilities"], utterances),
            np.split(arrays["cause_confidence"], utterances),
            strict=True,
        )
    ]
