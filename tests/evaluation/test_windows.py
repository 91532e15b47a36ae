"""Windows over long conversations, against a search over all of them."""

import numpy as np
import pytest

from rpcl_jax.evaluation.windows import owned, window_starts


def depth(place, start, width, length):
    """How far an utterance is from the nearest edge where the conversation goes on."""
    edges = []
    if start > 0:
        edges.append(place - start)
    if start + width < length:
        edges.append(start + width - 1 - place)
    return min(edges, default=length)


@pytest.mark.parametrize(
    ("length", "width"), [(1, 35), (35, 35), (36, 35), (52, 35), (120, 35), (17, 4), (9, 2), (5, 1)]
)
def test_every_pair_is_decided_once_where_it_lies_deepest(length, width):
    starts = window_starts(length, width)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - width)
    decided = np.zeros((length, length), int)
    utterances = np.zeros(length, int)
    for number, start in enumerate(starts):
        pairs, alone = owned(starts, width, length, number)
        size = min(width, length)
        assert pairs.shape == (size, size)
        for i, j in np.argwhere(pairs) + start:
            inside = [s for s in starts if s <= min(i, j) and max(i, j) < s + width]
            best = max(
                inside, key=lambda s: min(depth(i, s, width, length), depth(j, s, width, length))
            )
            assert start == best, (i, j)
            decided[i, j] += 1
        for i in np.flatnonzero(alone) + start:
            inside = [s for s in starts if s <= i < s + width]
            assert start == max(inside, key=lambda s: depth(i, s, width, length))
            utterances[i] += 1
    assert (utterances == 1).all()
    assert decided.max() == 1
    distance = np.abs(np.subtract.outer(range(length), range(length)))
    assert (decided[distance <= width // 2] == 1).all()
    assert not decided[distance >= width].any()
