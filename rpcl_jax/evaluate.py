"""The predictions, and the evaluation of a trained run."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpcl_jax.data.dialogue import BINARY, Dialogue, with_unique_ids
from rpcl_jax.data.features import FeatureTable
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.bootstrap import (
    draw_weights,
    resampled_average_precision,
    resampled_scores,
)
from rpcl_jax.evaluation.decode import decode_pairs, predict
from rpcl_jax.evaluation.metrics import evaluate_split
from rpcl_jax.evaluation.scores_file import ScoredDialogue, save_scores
from rpcl_jax.evaluation.split_numbers import result_numbers, split_numbers
from rpcl_jax.files import write_json
from rpcl_jax.models.pretrained import WEIGHTS
from rpcl_jax.predict import Predictor
from rpcl_jax.readers.corpus import corpus_names
from rpcl_jax.readers.semeval import conversation_object
from rpcl_jax.reporting.predictions import with_prediction
from rpcl_jax.run.model_folder import load_model
from rpcl_jax.run.workdir import read_result, read_run_config, read_splits
from rpcl_jax.training.mesh import is_main_process

_LOG = logging.getLogger(__name__)
_SCORES = ("pair_f1", "pair_precision", "pair_recall")


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
      InputError: the run is not trained, or its data are missing.
    """
    config = read_run_config(workdir)  # fail early, as on an exported folder
    if not (workdir / WEIGHTS).exists():
        raise InputError(f"{workdir}: no {WEIGHTS} yet; train the run first")
    path = workdir / "result.json"
    finished = read_result(workdir, config) if path.exists() else None
    run = load_model(workdir)
    splits = read_splits(run)
    dev, test = run.score(splits["dev"]), run.score(splits["test"])
    names = corpus_names(run.config)
    numbers = result_numbers(dev, test, run.emotions, names, **run.config.diagnostics)
    if is_main_process() and finished is not None:
        write_predictions(workdir, dev, test, numbers["threshold"], run.emotions)
        numbers = finished | numbers
        write_json(path, numbers)
    return numbers


def evaluate_on(
    predictor: Predictor,
    dialogues: Sequence[Dialogue],
    tables: Mapping[str, FeatureTable] | None = None,
) -> dict[str, Any]:
    """Scores a model on other labelled dialogues, at its own threshold.

    Longer dialogues are scored in windows, as in prediction. An emotion that the model does not
    know is a category that it never finds, and is logged.

    Args:
      tables: their features, as for `Predictor`.

    Returns:
      `split_numbers`, of Causal Emotion Entailment at its best threshold here; "best", the
      threshold with the best Pair F1 here, with its scores; "intervals", the 95 % intervals of Pair
      F1 and AUPRC from resampled dialogues; and "unknown_emotions", the number of utterances with
      each emotion that the model does not know.
    """
    used = Counter[str]()
    dialogues = [with_unique_ids(dialogue, used) for dialogue in dialogues]
    emotions = predictor.emotions
    found = Counter(str(u.emotion) for dialogue in dialogues for u in dialogue.utterances)
    unknown = {} if emotions == BINARY else {e: n for e, n in found.items() if e not in emotions}
    if unknown:
        listed = ", ".join(f"{emotion} {count}" for emotion, count in sorted(unknown.items()))
        _LOG.warning(f"emotions that the model does not know, and so never finds: {listed}")
    scored = predictor.score(dialogues, tables)
    classes, threshold = (*emotions, *unknown), predictor.threshold
    best = evaluate_split(scored, None, classes)
    weights = draw_weights(len(scored))
    resampled = {
        "pair_f1": resampled_scores(scored, threshold, weights)["f1"],
        "pair_auprc": resampled_average_precision(scored, weights),
    }
    return {
        **split_numbers(scored, threshold, classes, **predictor.diagnostics),
        "best": {name: best[name] for name in ("threshold", *_SCORES)},
        "intervals": {n: np.quantile(v, [0.025, 0.975]).tolist() for n, v in resampled.items()},
        "unknown_emotions": unknown,
    }


def report(numbers: Mapping[str, Any]) -> str:
    """Returns what `evaluate_on` found, in lines for reading."""

    def line(of: Mapping[str, Any]) -> str:
        scores = (f"{name.removeprefix('pair_')} {100 * of[name]:.2f}" for name in _SCORES[1:])
        return f"Pair F1 {100 * of['pair_f1']:.2f} ({', '.join(scores)})"

    f1, auprc = (
        "[{:.2f}, {:.2f}]".format(*(100 * end for end in numbers["intervals"][name]))
        for name in ("pair_f1", "pair_auprc")
    )
    return (
        f"{numbers['dialogues']} conversations, {numbers['utterances']} utterances, "
        f"{numbers['gold_pairs']} pairs; with 95 % intervals\n"
        f"at the model's threshold, {numbers['threshold']:.3f}: {line(numbers)} {f1}\n"
        f"at the best one here, {numbers['best']['threshold']:.3f}: {line(numbers['best'])}\n"
        f"AUPRC {100 * numbers['pair_auprc']:.2f} {auprc}, expected calibration error "
        f"{100 * numbers['ece']:.2f}\n"
        f"emotional or not: F1 {100 * numbers['emotion_f1']:.2f}; weighted F1 of all emotions "
        f"{100 * numbers['emotion_weighted_f1']:.2f}, of pairs with their emotions "
        f"{100 * numbers['weighted_f1']:.2f}"
    )
