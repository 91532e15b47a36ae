"""Corpus statistics of a split: the paper's Table 1."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import NEUTRAL, Dialogue


class Statistics(NamedTuple):
    """Counts of a split, and the mean |i − j| over its pairs, in utterances (0 without pairs)."""

    conversations: int
    utterances: int
    emotional_utterances: int
    pairs: int
    mean_pair_distance: float


def split_statistics(dialogues: Sequence[Dialogue]) -> Statistics:
    """Returns the statistics of a split; dialogues are not cut to `data.max_utterances`."""
    emotions = [utterance.emotion for dialogue in dialogues for utterance in dialogue.utterances]
    distances = [abs(i - j) for dialogue in dialogues for i, j in dialogue.pairs or ()]
    return Statistics(
        conversations=len(dialogues),
        utterances=len(emotions),
        emotional_utterances=sum(emotion not in (None, NEUTRAL) for emotion in emotions),
        pairs=len(distances),
        mean_pair_distance=float(np.mean(distances)) if distances else 0.0,
    )
