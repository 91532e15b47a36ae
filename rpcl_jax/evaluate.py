"""The predictions, and the evaluation of a trained run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.decode import decode_pairs, predict
from rpcl_jax.evaluation.scores_file import ScoredDialogue, save_scores
from rpcl_jax.evaluation.split_numbers import result_numbers
from rpcl_jax.files import read_json, write_json
from rpcl_jax.models.pretrained import WEIGHTS
from rpcl_jax.readers.semeval import conversation_object
from rpcl_jax.reporting.predictions import with_prediction
from rpcl_jax.run.model_folder import load_model
from rpcl_jax.run.workdir import read_run_config, read_splits
from rpcl_jax.training.mesh import is_main_process


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
    """Recomputes a run's numbers and predictions from its best epoch.

    For a finished run, `result.json` and `predictions/` are rewritten; for an unfinished one, the
    numbers are only returned.

    Raises:
      InputError: there is no trained run, or its data are missing.
    """
    read_run_config(workdir)  # fail early, as on an exported folder
    if not (workdir / WEIGHTS).exists():
        raise InputError(f"{workdir}: no {WEIGHTS} yet; train the run first")
    path = workdir / "result.json"
    finished = read_json(path) if path.exists() else None
    run = load_model(workdir)
    splits = read_splits(run)
    dev, test = run.score(splits["dev"]), run.score(splits["test"])
    numbers = result_numbers(dev, test, run.emotions, **run.config.diagnostics)
    if is_main_process() and finished is not None:
        write_predictions(workdir, dev, test, numbers["threshold"], run.emotions)
        numbers = finished | numbers
        write_json(path, numbers)
    return numbers
