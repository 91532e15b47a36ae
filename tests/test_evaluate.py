"""The numbers and the predictions of a run, from scores that are drawn at random."""

import json

import numpy as np
import pytest
from random_scores import dialogue_of, random_split

from rpcl_jax.data.dialogue import EMOTIONS
from rpcl_jax.evaluate import pair_objects, write_predictions
from rpcl_jax.evaluation.scores_file import ScoredDialogue, load_scores
from rpcl_jax.evaluation.split_numbers import result_numbers, split_numbers
from rpcl_jax.readers.semeval import parse_conversations


def test_the_threshold_is_chosen_on_dev_and_frozen_for_test():
    dev, test = random_split(1), random_split(2)
    diagnostics = {"top_k": 8, "base_margin": 0.05}
    numbers = result_numbers(dev, test, EMOTIONS, **diagnostics)
    own = split_numbers(test, None, EMOTIONS, **diagnostics)["threshold"]
    assert numbers["threshold"] == numbers["dev"]["threshold"] == numbers["test"]["threshold"]
    assert numbers["threshold"] != own, "or nothing was frozen"
    assert numbers["dev"]["pair_f1"] == max(
        split_numbers(dev, threshold, EMOTIONS, **diagnostics)["pair_f1"]
        for threshold in np.linspace(0, 1, 21, dtype=np.float32)
    )


def test_diagnostics_have_their_own_settings():
    scored = [hand_scored()]
    for top_k, base_margin in ((1, 0.5), (2, 1.0)):
        numbers = split_numbers(scored, 0.5, EMOTIONS, top_k=top_k, base_margin=base_margin)
        # The gold pair (2, 0) stands against 0.125 and 0.25; no cause is likelier than another.
        gaps = [0.875 - 0.25, 0.875 - 0.125][:top_k]
        severity = [max(0.0, base_margin - gap) for gap in gaps]
        assert numbers["triples_hard"] == top_k
        assert numbers["gap_hard"] == pytest.approx(np.mean(gaps))
        assert numbers["severity_hard"] == pytest.approx(np.mean(severity))
    assert numbers["brier"] == pytest.approx(
        np.mean(np.square([0.75, 0.25, 0.5, 1 - 0.875, 0.125, 0.25]))
    )


def hand_scored():
    emotions = np.full((3, len(EMOTIONS)), 0.05)
    emotions[0, EMOTIONS.index("joy")] = 0.7
    emotions[2, EMOTIONS.index("fear")] = 0.7
    confidence = np.array([[0.75, 0, 0], [0.25, 0.5, 0], [0.875, 0.125, 0.25]], np.float32)
    dialogue = dialogue_of(["joy", "neutral", "fear"], ((2, 0),), "d7")
    return ScoredDialogue(dialogue, confidence, np.tri(3, dtype=bool), emotions, np.zeros(3))


def test_pairs_are_written_as_semeval_has_them(tmp_path):
    scored = [hand_scored()]
    (found,) = pair_objects(scored, 0.75, EMOTIONS)
    assert found["conversation_ID"] == "d7"
    assert found["emotion-cause_pairs"] == [["1_joy", "1"], ["3_fear", "1"]]
    assert found["pair_confidences"] == [0.75, 0.875]
    write_predictions(tmp_path, scored, [hand_scored()] * 2, 0.2, EMOTIONS)
    written = json.loads((tmp_path / "predictions/test.json").read_text())
    assert [len(item["pair_confidences"]) for item in written] == [5, 5]
    written = json.loads((tmp_path / "predictions/dev.json").read_text())
    assert parse_conversations(written, "dev.json", labelled=False)
    (again,) = load_scores(tmp_path / "predictions/dev.npz", [scored[0].dialogue])
    np.testing.assert_array_equal(again.pair_confidence, scored[0].pair_confidence)
