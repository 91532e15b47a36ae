"""Scored dialogues drawn at random."""

import numpy as np

from rpcl_jax.data.dialogue import EMOTIONS, Dialogue, Utterance
from rpcl_jax.evaluation.scores_file import ScoredDialogue


def dialogue_of(emotions, pairs, name="d"):
    return Dialogue(
        name,
        tuple(Utterance(f"{name}-{t}", "A", "Well.", e) for t, e in enumerate(emotions)),
        pairs,
    )


def random_split(seed, dialogues=12):
    """Dialogues with tied confidences, some cut, some with all cells as candidates."""
    rng = np.random.default_rng(seed)
    scored = []
    for d in range(dialogues):
        length = int(rng.integers(1, 25))
        n = int(rng.integers(1, length + 1))
        emotions = [EMOTIONS[c] for c in rng.integers(0, len(EMOTIONS), length)]
        gold = np.argwhere(rng.random((length, length)) < 0.2)
        mask = np.ones((n, n), bool) if d % 3 == 0 else np.tri(n, dtype=bool)
        scored.append(
            ScoredDialogue(
                dialogue_of(emotions, tuple(map(tuple, gold.tolist())), f"d{d}"),
                (rng.integers(0, 21, (n, n)) / 20).astype(np.float32),
                mask,
                rng.dirichlet(np.ones(len(EMOTIONS)), n).astype(np.float32),
                rng.random(n).astype(np.float32),
            )
        )
    return scored


def candidates_of(scored):
    """Confidences and labels of all candidates, and the gold pairs left out, cell by cell."""
    confidences, labels, gold = [], [], 0
    for s in scored:
        gold += len(s.dialogue.pairs)
        for i, j in np.argwhere(s.candidate_mask):
            confidences.append(s.pair_confidence[i, j])
            labels.append((i, j) in s.dialogue.pairs)
    return np.array(confidences), np.array(labels, bool), gold - sum(labels)


def random_scored(rng, name, utterances, kept, pairs=4, ties=False):
    """A labelled dialogue of which `kept` utterances were scored, at random."""
    places = [(i, j) for i in range(utterances) for j in range(utterances)]
    gold = sorted(places[k] for k in rng.permutation(len(places))[:pairs])
    emotions = ["joy" if any(i == t for i, _ in gold) else "neutral" for t in range(utterances)]
    confidence = rng.random((kept, kept), np.float32)
    return ScoredDialogue(
        Dialogue(
            name,
            tuple(Utterance(f"{name}u{t}", "A", "x", e) for t, e in enumerate(emotions)),
            tuple(gold),
        ),
        np.round(confidence, 1) if ties else confidence,
        np.tril(np.ones((kept, kept), bool)),
        rng.dirichlet(np.ones(7), size=kept).astype(np.float32),
        rng.random(kept, np.float32),
    )
