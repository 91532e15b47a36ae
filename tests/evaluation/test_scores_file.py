"""Scores on disk: what is read is what was written, or it is refused."""

import numpy as np
import pytest
from random_scores import random_scored

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.scores_file import load_scores, save_scores


def test_scores_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    scored = [random_scored(rng, f"d{n}", n + n // 4, n) for n in (3, 1, 8)]
    save_scores(tmp_path / "test.npz", scored)
    assert [path.name for path in tmp_path.iterdir()] == ["test.npz"]
    again = load_scores(tmp_path / "test.npz", [s.dialogue for s in scored])
    for old, new in zip(scored, again, strict=True):
        assert new.dialogue is old.dialogue
        for a, b in zip(old[1:], new[1:], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_scores_of_something_else_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    scored = [random_scored(rng, f"d{n}", n, n) for n in (3, 5)]
    path = tmp_path / "test.npz"
    dialogues = [s.dialogue for s in scored]
    with pytest.raises(InputError, match="not found"):
        load_scores(path, dialogues)
    save_scores(path, scored)
    with pytest.raises(InputError, match="conversations are not the run"):
        load_scores(path, dialogues[::-1])
    shorter = Dialogue("d5", dialogues[1].utterances[:4], ())
    with pytest.raises(InputError, match="conversations are not the run"):
        load_scores(path, [dialogues[0], shorter])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="not a scores file"):
        load_scores(path, dialogues)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not a scores file"):
        load_scores(path, dialogues)


@pytest.mark.parametrize(
    "name",
    [
        *("ids", "lengths", "pair_confidence", "candidate_mask"),
        *("emotion_probabilities", "cause_confidence"),
    ],
)
def test_damaged_scores_are_refused(tmp_path, name):
    rng = np.random.default_rng(0)
    scored = [random_scored(rng, f"d{n}", n, n) for n in (3, 5)]
    path = tmp_path / "test.npz"
    save_scores(path, scored)
    whole = dict(np.load(path))
    for damaged in (
        {k: v for k, v in whole.items() if k != name},
        whole | {name: whole[name][:-1]},
        whole | {name: np.array(3)},
    ):
        np.savez(path, **damaged)
        with pytest.raises(InputError, match="not a scores file"):
            load_scores(path, [s.dialogue for s in scored])
