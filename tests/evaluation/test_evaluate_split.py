"""All numbers of a split, against scikit-learn over every cell and against hand counts."""

import json
import math

import numpy as np
import pytest
from random_scores import candidates_of, dialogue_of, random_split
from sklearn import metrics as sklearn_metrics

from rpcl_jax.data.dialogue import BINARY, EMOTIONS, NEUTRAL, Dialogue, Utterance
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.metrics import (
    PREDICT_NOTHING,
    average_precision,
    best_threshold,
    confidence_diagnostics,
    evaluate_split,
)
from rpcl_jax.evaluation.scores_file import ScoredDialogue


def test_evaluate_split_by_hand():
    emotions = np.full((3, len(EMOTIONS)), 0.05)
    emotions[0, EMOTIONS.index("joy")] = 0.7
    emotions[1, EMOTIONS.index(NEUTRAL)] = 0.5
    emotions[1, EMOTIONS.index("anger")] = 0.2
    emotions[2, EMOTIONS.index("sadness")] = 0.7
    dialogue = dialogue_of(
        ["joy", "anger", NEUTRAL, "fear"],
        # (0, 1) is no candidate, (3, 0) and (1, 3) are cut.
        ((0, 0), (0, 1), (1, 0), (1, 3), (3, 0)),
    )
    confidence = np.array([[0.9, 0.9, 0.9], [0.8, 0.2, 0.9], [0.6, 0.1, 0.5]], np.float32)
    scored = ScoredDialogue(
        dialogue, confidence, np.tri(3, dtype=bool), emotions, np.array([0.5, 0.4, 0.6])
    )

    result = evaluate_split([scored], 0.6 - 1e-6, EMOTIONS)
    # Predicted (0, 0), (1, 0), (2, 0); two of them gold, of five.
    assert result == pytest.approx(
        {
            "threshold": 0.6 - 1e-6,
            "pair_precision": 2 / 3,
            "pair_recall": 2 / 5,
            "pair_f1": 4 / 8,
            # Beside these, (2, 2).
            "pair_precision_at_half": 2 / 4,
            "pair_recall_at_half": 2 / 5,
            "pair_f1_at_half": 4 / 9,
            "pair_auprc": 2 / 5,
            "emotion_precision": 1 / 2,  # predicted 0 and 2; gold 0, 1 and the cut 3
            "emotion_recall": 1 / 3,
            "emotion_f1": 2 / 5,
            "cause_precision": 1 / 2,  # predicted 0 and 2; gold 0, 1 and the cut 3
            "cause_recall": 1 / 3,
            "cause_f1": 2 / 5,
            # joy 2·1/(1+2) with weight 2, anger 2·1/(1+2) with 2, fear 0 with 1.
            "weighted_f1": (2 * 2 / 3 + 2 * 2 / 3) / 5,
            # joy alone, of joy, anger, neutral and the cut fear, is right.
            "emotion_weighted_f1": 1 / 4,
            "gold_pairs": 5,
            "gold_pairs_cut": 2,
            "gold_pairs_outside_candidates": 1,
            "predicted_pairs": 3,
            "dialogues": 1,
            "utterances": 4,
        }
    )
    # At 0.8 the pair that is not gold is gone: 2·2/(2+5).
    searched = evaluate_split([scored], None, EMOTIONS)
    assert searched["threshold"] == float(np.float32(0.8))
    assert searched["pair_f1"] == pytest.approx(4 / 7)


@pytest.mark.parametrize("seed", range(8))
def test_evaluate_split_is_what_sklearn_says_about_whole_dialogues(seed):
    scored = random_split(seed)
    result = evaluate_split(scored, None, EMOTIONS)
    confidences, labels, missed = candidates_of(scored)
    threshold, f1 = best_threshold(confidences, labels, missed)
    assert result["threshold"] == threshold
    assert result["pair_f1"] == f1 > 0
    assert result["pair_auprc"] == average_precision(confidences, labels, missed)
    assert json.loads(json.dumps(result)) == result

    truth = {"pair": [], "emotion": [], "cause": []}
    guess = {"pair": [], "emotion": [], "cause": []}
    gold_categories, guessed_categories = [], []  # of every cell; "" is no pair
    emotions = {"gold": [], "guessed": []}
    for s in scored:
        length, n = len(s.dialogue.utterances), len(s.pair_confidence)
        for i in range(length):
            cut = i >= n
            truth["emotion"].append(s.dialogue.utterances[i].emotion != NEUTRAL)
            guess["emotion"].append(not cut and np.argmax(s.emotion_probabilities[i]) != 0)
            emotions["gold"].append(s.dialogue.utterances[i].emotion)
            guessed = NEUTRAL if cut else EMOTIONS[np.argmax(s.emotion_probabilities[i])]
            emotions["guessed"].append(guessed)
            truth["cause"].append(any(i == cause for _, cause in s.dialogue.pairs))
            guess["cause"].append(not cut and s.cause_confidence[i] >= 0.5)
            for j in range(length):
                is_pair = (
                    i < n
                    and j < n
                    and s.candidate_mask[i, j]
                    and float(s.pair_confidence[i, j]) >= threshold
                )
                is_gold = (i, j) in s.dialogue.pairs
                truth["pair"].append(is_gold)
                guess["pair"].append(is_pair)
                gold_categories.append(s.dialogue.utterances[i].emotion if is_gold else "")
                guessed_categories.append(
                    EMOTIONS[1:][np.argmax(s.emotion_probabilities[i, 1:])] if is_pair else ""
                )
    for name in truth:
        expected = sklearn_metrics.precision_recall_fscore_support(
            truth[name], guess[name], average="binary", zero_division=0
        )
        ours = [result[f"{name}_{kind}"] for kind in ("precision", "recall", "f1")]
        assert ours == pytest.approx(expected[:3])
    assert result["weighted_f1"] == pytest.approx(
        sklearn_metrics.f1_score(
            gold_categories,
            guessed_categories,
            labels=[e for e in EMOTIONS if e != NEUTRAL],
            average="weighted",
            zero_division=0,
        )
    )
    assert result["emotion_weighted_f1"] == pytest.approx(
        sklearn_metrics.f1_score(emotions["gold"], emotions["guessed"], average="weighted")
    )
    assert result["gold_pairs"] == sum(truth["pair"])
    assert result["predicted_pairs"] == sum(guess["pair"])
    assert result["gold_pairs_cut"] + result["gold_pairs_outside_candidates"] == missed
    assert result["gold_pairs_cut"] == sum(
        max(pair) >= len(s.pair_confidence) for s in scored for pair in s.dialogue.pairs
    )
    # Frozen, the threshold says the same. At τ = 0.5 both sets of scores agree.
    assert evaluate_split(scored, threshold, EMOTIONS) == result
    half = evaluate_split(scored, 0.5, EMOTIONS)
    for kind in ("precision", "recall", "f1"):
        assert (
            result[f"pair_{kind}_at_half"] == half[f"pair_{kind}"] == half[f"pair_{kind}_at_half"]
        )


def test_two_classes_of_emotion_by_hand():
    """Categories count as emotional, so that ECF too can be scored by such a head."""
    utterances = tuple(
        Utterance(f"u{t}", "A", "x", e) for t, e in enumerate(("joy", "emotional", "neutral"))
    )
    scored = ScoredDialogue(
        Dialogue("1", utterances, ((0, 0), (1, 0))),
        np.array([[0.9, 0, 0], [0.2, 0, 0], [0.8, 0, 0]], np.float32),
        np.tri(3, dtype=bool),
        np.array([[0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]),
        np.zeros(3),
    )
    numbers = evaluate_split([scored], 0.5, BINARY)
    # Two pairs are predicted, one of two gold ones among them; so in the only category there is.
    assert numbers["pair_f1"] == numbers["weighted_f1"] == 0.5
    assert (numbers["emotion_precision"], numbers["emotion_recall"]) == (1.0, 0.5)


def test_a_split_without_gold_pairs_has_numbers_all_the_same():
    scored = [s._replace(dialogue=dialogue_of([NEUTRAL] * 25, ())) for s in random_split(0)]
    result = evaluate_split(scored, None, EMOTIONS)
    assert result["threshold"] == PREDICT_NOTHING
    assert result["predicted_pairs"] == result["gold_pairs"] == 0
    diagnostics = confidence_diagnostics(scored, top_k=8, base_margin=0.05)
    assert set(diagnostics.values()) == {0}
    assert all(math.isfinite(value) for value in result.values())


def test_an_unlabelled_dialogue_is_refused():
    scored = [random_split(0)[0]._replace(dialogue=dialogue_of([None] * 25, None, "x7"))]
    with pytest.raises(InputError, match="conversation x7 has no labels"):
        evaluate_split(scored, 0.5, EMOTIONS)
    with pytest.raises(InputError, match="conversation x7 has no labels"):
        confidence_diagnostics(scored, top_k=8, base_margin=0.05)
