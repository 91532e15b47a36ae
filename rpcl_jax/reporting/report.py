"""One HTML page about one or two runs: numbers, curves, and every test conversation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpcl_jax.data.dialogue import emotion_class
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.bootstrap import draw_weights, paired_interval
from rpcl_jax.evaluation.decode import decode_pairs, expressed_classes
from rpcl_jax.evaluation.metrics import (
    pair_labels,
    precision_recall_curve,
    ranked_negatives,
    reliability,
)
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.reporting.experiments import (
    METRICS,
    Run,
    benchmark_name,
    interval_text,
    resampled_metrics,
    training_curves,
)
from rpcl_jax.run.workdir import run_name

TEMPLATE = Path(__file__).with_name("report.html")
# A precision-recall curve has a point for every candidate, far more than a screen can show.
_CURVE_POINTS = 300


def report_data(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns everything that the page shows of one or two runs, ready for JSON.

    InputError if they have different test conversations or emotion classes, or one has no scores.
    """
    if len({run.emotions for run in runs}) > 1:
        raise InputError(f"{runs[1].folder}: emotion classes differ from {runs[0].folder}")
    scores = [run.scores(run.splits()["test"], "test") for run in runs]
    dialogues = [s.dialogue for s in scores[0]]
    classes = runs[0].emotions
    if any([s.dialogue for s in other] != dialogues for other in scores):
        raise InputError(f"{runs[1].folder}: test conversations differ from {runs[0].folder}")
    names = [run_name(run.config) for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    return {
        "benchmark": benchmark_name(runs[0].config),
        "emotions": classes,
        "runs": [
            _run_data(run, scored) | {"name": name}
            for run, scored, name in zip(runs, scores, names, strict=True)
        ],
        "differences": _differences(runs, scores) if len(runs) == 2 else {},
        "dialogues": [
            {
                "id": dialogue.id,
                "utterances": [
                    {
                        "speaker": u.speaker,
                        "text": u.text,
                        # Not None, because conversations with scores are labelled.
                        "emotion": classes[emotion_class(str(u.emotion), classes)],
                    }
                    for u in dialogue.utterances
                ],
                "gold": dialogue.pairs,
                "scores": [
                    _dialogue_scores(scored[d], run)
                    for run, scored in zip(runs, scores, strict=True)
                ],
            }
            for d, dialogue in enumerate(dialogues)
        ],
    }


def _run_data(run: Run, scored: Sequence[ScoredDialogue]) -> dict[str, Any]:
    recall, precision = precision_recall_curve(scored)
    grid = np.linspace(recall[0], recall[-1], _CURVE_POINTS)
    shown = np.unique(np.searchsorted(recall, grid))
    calibration = reliability(scored)
    losses, dev_f1 = training_curves(run)
    return {
        "objective": run.config.objective,
        "threshold": run.result["threshold"],
        "test": run.result["test"],
        "curve": np.round([recall[shown], precision[shown]], 4).T.tolist(),
        "reliability": np.round([calibration.confidence, calibration.gold], 4).T.tolist(),
        "ece": calibration.ece,
        "brier": calibration.brier,
        "losses": np.round(losses, 4).tolist(),
        "dev_f1": np.round(dev_f1, 4).tolist(),
    }


def _dialogue_scores(s: ScoredDialogue, run: Run) -> dict[str, Any]:
    """Returns what the page shows of a dialogue; p and q are in thousandths."""
    # Predicted pairs and hard negatives are decided here: thousandths are too coarse for that.
    thousandths = np.round(1000 * s.pair_confidence).astype(int)
    negatives = s.candidate_mask & ~pair_labels(s)
    # As predictions have them: in a pair, the emotion is not neutral.
    choices = s.emotion_probabilities.argmax(axis=1), expressed_classes(s.emotion_probabilities)
    return {
        "p": [
            [int(p) if candidate else None for p, candidate in zip(row, mask, strict=True)]
            for row, mask in zip(thousandths, s.candidate_mask, strict=True)
        ],
        "q": np.round(1000 * s.cause_confidence).astype(int).tolist(),
        "choices": [
            [[int(e), round(1000 * float(row[e]))] for e in chosen]
            for *chosen, row in zip(*choices, s.emotion_probabilities, strict=True)
        ],
        "predicted": decode_pairs(s.pair_confidence, s.candidate_mask, run.result["threshold"]),
        "hard": [
            row[: min(run.config.diagnostics.top_k, count)].tolist()
            for row, count in zip(ranked_negatives(s), negatives.sum(axis=1), strict=True)
        ],
    }


def _differences(
    runs: Sequence[Run], scores: Sequence[Sequence[ScoredDialogue]]
) -> dict[str, dict[str, Any]]:
    """Returns how much the second run's test metrics exceed the first's, as the page shows it."""
    weights = draw_weights(len(scores[0]))
    first, second = (
        resampled_metrics(run, scored, weights) for run, scored in zip(runs, scores, strict=True)
    )
    differences = {}
    for metric in METRICS:
        interval = paired_interval(
            second[metric][None],
            first[metric][None],
            runs[1].result["test"][metric] - runs[0].result["test"][metric],
        )
        text = " ".join(interval_text(interval))
        differences[metric] = {"text": text, "contains_zero": interval.contains_zero}
    return differences


def make_page(data: dict[str, Any]) -> str:
    """Returns the page; nothing in the data can end its script or become markup."""
    return TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", embedded(data))


def embedded(data: Any) -> str:
    """Returns JSON that can stand within a script of a page, whatever texts it has."""
    # json.dumps escapes everything outside ASCII, so that any text can be embedded.
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
