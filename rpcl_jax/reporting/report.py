"""Makes one HTML page to look at what a run believes: numbers, curves, every test conversation.

python tools/make_report.py RUN [OTHER_RUN] --out=report.html

With two runs (say base and rpcl), both on the same conversations. The page needs no network and no
other file. It holds the texts of the test split: keep it where those may be kept.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpcl_jax.data.dialogue import EMOTION_CLASSES, emotion_class
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.bootstrap import Interval, draw_weights, paired_interval
from rpcl_jax.evaluation.decode import decode_pairs
from rpcl_jax.evaluation.metrics import (
    ScoredDialogue,
    pair_labels,
    precision_recall_curve,
    reliability,
)
from rpcl_jax.readers.corpus import load_splits
from rpcl_jax.reporting.experiments import (
    METRICS,
    Run,
    benchmark_name,
    read_run,
    resampled_metrics,
    training_curves,
)
from rpcl_jax.run.command_line import one_line

TEMPLATE = Path(__file__).with_name("report.html")
# A precision-recall curve has a point for every candidate; a screen has no room for as many.
_CURVE_POINTS = 300


def report_data(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that the page shows, ready for JSON.

    Args:
      runs: one or two, on the same test conversations.

    Raises:
      InputError: they are on different ones, tell other emotions apart, or a run has no scores.
    """
    if len({run.config.data.emotions for run in runs}) > 1:
        raise InputError(f"{runs[1].folder}: tells other emotions apart than {runs[0].folder}")
    scores = [run.scores(load_splits(run.config)["test"], "test") for run in runs]
    dialogues = [s.dialogue for s in scores[0]]
    classes = EMOTION_CLASSES[runs[0].config.data.emotions]
    if any([s.dialogue for s in other] != dialogues for other in scores):
        raise InputError(f"{runs[1].folder}: on other test conversations than {runs[0].folder}")
    return {
        "benchmark": benchmark_name(runs[0].config),
        "emotions": classes,
        "runs": [
            _run_data(run, scored) | {"name": name}
            for run, scored, name in zip(runs, scores, _names(runs), strict=True)
        ],
        "differences": _differences(runs, scores) if len(runs) == 2 else {},
        "dialogues": [
            {
                "id": dialogue.id,
                "utterances": [
                    {
                        "speaker": u.speaker,
                        "text": u.text,
                        # Conversations with scores are labelled: no emotion is None.
                        "emotion": classes[emotion_class(str(u.emotion), classes)],
                    }
                    for u in dialogue.utterances
                ],
                "gold": dialogue.pairs,
                "scores": [
                    _dialogue_scores(scored[d], run.result["threshold"], run.config.rpcl.top_k)
                    for run, scored in zip(runs, scores, strict=True)
                ],
            }
            for d, dialogue in enumerate(dialogues)
        ],
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """Objective, modalities and seed; where two runs share them, their folders too."""
    names = [f"{r.config.objective}-{r.config.modalities}-seed{r.config.seed}" for r in runs]
    if len(set(names)) < len(names):
        return [str(run.folder) for run in runs]
    return names


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


def _dialogue_scores(s: ScoredDialogue, threshold: float, top_k: int) -> dict[str, Any]:
    """What is shown of a dialogue.

    `p` and `q` are in thousandths, None where there is no candidate; what is decided by more digits
    than that is decided here: the predicted pairs, and the hard negatives of every row.
    """
    thousandths = np.round(1000 * s.pair_confidence).astype(int)
    negatives = s.candidate_mask & ~pair_labels(s)
    order = np.argsort(np.where(negatives, -s.pair_confidence, np.inf), axis=1, kind="stable")
    emotions = s.emotion_probabilities.argmax(axis=1)
    return {
        "p": [
            [int(p) if candidate else None for p, candidate in zip(row, mask, strict=True)]
            for row, mask in zip(thousandths, s.candidate_mask, strict=True)
        ],
        "q": np.round(1000 * s.cause_confidence).astype(int).tolist(),
        "emotions": [
            [int(e), round(1000 * float(row[e]))]
            for e, row in zip(emotions, s.emotion_probabilities, strict=True)
        ],
        "predicted": decode_pairs(s.pair_confidence, s.candidate_mask, threshold),
        "hard": [
            row[: min(top_k, count)].tolist()
            for row, count in zip(order, negatives.sum(axis=1), strict=True)
        ],
    }


def _differences(
    runs: Sequence[Run], scores: Sequence[Sequence[ScoredDialogue]]
) -> dict[str, Interval]:
    """The second run's test metrics over the first's, with intervals over dialogues."""
    weights = draw_weights(len(scores[0]))
    first, second = (
        resampled_metrics(run, scored, weights) for run, scored in zip(runs, scores, strict=True)
    )
    return {
        metric: paired_interval(
            second[metric][None],
            first[metric][None],
            runs[1].result["test"][metric] - runs[0].result["test"][metric],
        )
        for metric in METRICS
    }


def make_page(data: dict[str, Any]) -> str:
    """The page; nothing in the data can end its script or become markup."""
    text = json.dumps(
        data, allow_nan=False, separators=(",", ":")
    )  # ASCII, so that any text is fine
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", text)


def main() -> None:
    """Reads the command line and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="one finished run or two")
    parser.add_argument("--out", required=True, type=Path, help="the HTML file")
    arguments = parser.parse_args()
    if len(arguments.runs) > 2:
        parser.error("one run or two")
    with one_line("make_report"):
        page = make_page(report_data([read_run(folder) for folder in arguments.runs]))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(page, encoding="utf-8")
        print(f"{arguments.out}: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
