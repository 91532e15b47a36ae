"""The numbers of a split, the predictions, and the evaluation of a trained run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rpcl_jax.evaluation.decode import decode_pairs, predict
from rpcl_jax.evaluation.entailment import entailment
from rpcl_jax.evaluation.metrics import confidence_diagnostics, evaluate_split, reliability
from rpcl_jax.evaluation.scores_file import ScoredDialogue, save_scores
from rpcl_jax.files import read_json, write_json
from rpcl_jax.readers.semeval import conversation_object
from rpcl_jax.reporting.predictions import with_prediction
from rpcl_jax.run.workdir import TrainedRun
from rpcl_jax.training.mesh import first_process


def result_of(
    dev: list[ScoredDialogue],
    test: list[ScoredDialogue],
    config: ConfigDict,
    emotions: Sequence[str],
) -> dict:
    """Returns the threshold, and the numbers of both splits; thresholds are chosen on `dev`."""
    of_dev = split_numbers(dev, None, config, emotions)
    threshold = of_dev["threshold"]
    of_test = split_numbers(test, threshold, config, emotions, of_dev["cee_threshold"])
    return {"threshold": threshold, "dev": of_dev, "test": of_test}


def split_numbers(
    scored: list[ScoredDialogue],
    threshold: float | None,
    config: ConfigDict,
    emotions: Sequence[str],
    cee_threshold: float | None = None,
) -> dict[str, float | int]:
    """Returns metrics, diagnostics and calibration of a split; see `rpcl_jax.evaluation`.

    Args:
      scored: its dialogues.
      threshold: `τ`; None chooses the best one for these dialogues.
      config: of the run.
      emotions: names of the emotion classes.
      cee_threshold: of Causal Emotion Entailment; None chooses the best one for these dialogues.
    """
    *_, ece, brier = reliability(scored)
    numbers = evaluate_split(scored, threshold, emotions)
    diagnostics = confidence_diagnostics(scored, **config.diagnostics)
    calibration = {"ece": ece, "brier": brier}
    return numbers | diagnostics | calibration | entailment(scored, cee_threshold)


def pair_objects(
    scored: list[ScoredDialogue], threshold: float, emotions: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the conversations with what is predicted, in the format of SemEval-2024 Task 3."""
    objects = []
    for s in scored:
        pairs = decode_pairs(s.pair_confidence, s.candidate_mask, threshold)
        confidences = [float(s.pair_confidence[pair]) for pair in pairs]
        found = predict(pairs, confidences, s.emotion_probabilities, emotions)
        objects.append(with_prediction(conversation_object(s.dialogue), found))
    return objects


def write_predictions(
    workdir: Path,
    dev: list[ScoredDialogue],
    test: list[ScoredDialogue],
    threshold: float,
    emotions: Sequence[str],
) -> None:
    """Writes the pairs to `predictions/{dev,test}.json`, and every confidence to `.npz`."""
    for split, scored in (("dev", dev), ("test", test)):
        path = workdir / "predictions" / f"{split}.json"
        write_json(path, pair_objects(scored, threshold, emotions), indent=1)
        save_scores(path.with_suffix(".npz"), scored)


def evaluate_run(workdir: Path) -> dict:
    """Recomputes a run's numbers and predictions from its best checkpoint.

    For a finished run, `result.json` and `predictions/` are rewritten; for an unfinished one, the
    numbers are only returned.

    Raises:
      InputError: there is no trained run, or its data are missing.
    """
    run = TrainedRun.from_workdir(workdir)
    path = workdir / "result.json"
    finished = read_json(path) if path.exists() else None  # fail early
    dev, test = run.score(run.splits["dev"]), run.score(run.splits["test"])
    numbers = result_of(dev, test, run.config, run.emotions)
    if first_process() and finished is not None:
        write_predictions(workdir, dev, test, numbers["threshold"], run.emotions)
        numbers = finished | numbers
        write_json(path, numbers)
    return numbers
