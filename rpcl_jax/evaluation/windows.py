"""Windows over conversations that are longer than a model reads at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rpcl_jax.batching.batch import candidate_mask
from rpcl_jax.evaluation.decode import decode_pairs

if TYPE_CHECKING:
    from rpcl_jax.evaluation.inference import Scores


def window_starts(length: int, width: int) -> list[int]:
    """Returns where the windows over `length` utterances start; they overlap by half.

    Every two utterances at most `width // 2` apart are together in one of them.

    >>> window_starts(35, 35), window_starts(80, 35)
    ([0], [0, 17, 34, 45])
    """
    if length <= width:
        return [0]
    return [*range(0, length - width, max(1, width // 2)), length - width]


def owned(starts: list[int], width: int, length: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a window decides: the pairs and the utterances that lie deepest in it.

    An utterance lies as deep in a window as it is far from the nearest edge where the conversation
    goes on, and a pair as deep as the shallower of its two. Where two windows are equal, the
    earlier one decides. `window` is an index in `starts`, which are from `window_starts`; the masks
    are bool [w, w] and [w], for the w utterances of the window.
    """
    start = starts[window]
    places = np.arange(start, min(start + width, length))
    overlapping = range(max(0, window - 3), min(len(starts), window + 4))
    depths = np.stack([_depths(places, starts[other], width, length) for other in overlapping])
    pair_depths = np.minimum(depths[:, :, None], depths[:, None, :])
    number = overlapping.index(window)
    return pair_depths.argmax(axis=0) == number, depths.argmax(axis=0) == number


def _depths(places: np.ndarray, start: int, width: int, length: int) -> np.ndarray:
    """Returns how deep the utterances `places` lie in a window, negative outside it."""
    before = np.full(len(places), length) if start == 0 else places - start
    end = start + width
    after = np.full(len(places), length) if end >= length else end - 1 - places
    return np.minimum(before, after)


class Merged(NamedTuple):
    """The scores of a conversation, of any length."""

    # (emotion utterance, cause utterance, confidence), 0-based and sorted.
    pairs: list[tuple[int, int, float]]
    emotion_probabilities: np.ndarray  # [length, C]
    cause_confidence: np.ndarray  # [length]


def merged(
    windows: Sequence["Scores"], width: int, length: int, candidates: str, lowest: float
) -> Merged:
    """Returns the scores of a conversation from those of each of `window_starts`, with padding.

    Of the candidates, those with a confidence of at least `lowest`.
    """
    starts = window_starts(length, width)
    found: list[tuple[int, int, float]] = []
    probabilities = np.zeros((length, windows[0].emotion_probabilities.shape[-1]), np.float32)
    causes = np.zeros(length, np.float32)
    for number, (start, scores) in enumerate(zip(starts, windows, strict=True)):
        n = min(width, length - start)
        mask = candidate_mask(np.ones(n, bool), candidates)
        own = np.ones(n, bool)
        if len(starts) > 1:
            own_pairs, own = owned(starts, width, length, number)
            mask &= own_pairs
        probabilities[start : start + n][own] = scores.emotion_probabilities[:n][own]
        causes[start : start + n][own] = scores.cause_confidence[:n][own]
        confidence = np.asarray(scores.pair_confidence)[:n, :n]
        found += [
            (start + i, start + j, float(confidence[i, j]))
            for i, j in decode_pairs(confidence, mask, lowest)
        ]
    return Merged(sorted(found), probabilities, causes)
