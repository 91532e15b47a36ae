"""Scores of a split, the threshold, and every number that is reported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rpcl_jax import workdir as run_folder
from rpcl_jax.compilation import Compiled
from rpcl_jax.data.batch import Batch
from rpcl_jax.data.corpus import load_corpus
from rpcl_jax.data.pipeline import Batches, make_batches
from rpcl_jax.data.readers.semeval import conversation_object, with_pairs
from rpcl_jax.decode import decode_pairs, pair_emotions
from rpcl_jax.encoder import with_text_vectors
from rpcl_jax.metrics import (
    ScoredDialogue,
    confidence_diagnostics,
    evaluate_split,
    reliability,
)
from rpcl_jax.parallel import Scores, make_mesh, make_score, put_batch, replicate
from rpcl_jax.scores import save_scores

Score = Callable[[dict, Batch], Scores]


def score_split(score: Score, params: dict, batches: Batches, mesh: Mesh) -> list[ScoredDialogue]:
    """What the model says of every dialogue, in their order.

    Args:
      score: from `parallel.make_score`.
      params: of the model, on the devices.
      batches: the split.
      mesh: the devices.
    """
    scored: dict[int, ScoredDialogue] = {}
    for places, batch in batches.epoch(seed=0, epoch=0):
        scores = score(params, put_batch(batch, mesh))
        confidence, emotions, causes = (np.asarray(array) for array in scores)
        for place, index in enumerate(places):
            if index >= 0:
                example = batches.examples[index]
                n = example.length
                scored[index] = ScoredDialogue(
                    dialogue=example.dialogue,
                    pair_confidence=confidence[place, :n, :n],
                    candidate_mask=batch.candidate_mask[place, :n, :n],
                    emotion_probabilities=emotions[place, :n],
                    cause_confidence=causes[place, :n],
                )
    return [scored[index] for index in range(len(batches.examples))]


def report(dev: list[ScoredDialogue], test: list[ScoredDialogue], config: ConfigDict) -> dict:
    """The threshold chosen on `dev`, frozen for `test`, and the numbers of both."""
    of_dev = split_numbers(dev, None, config)
    threshold = of_dev["threshold"]
    return {
        "threshold": threshold,
        "dev": of_dev,
        "test": split_numbers(test, threshold, config),
    }


def split_numbers(
    scored: list[ScoredDialogue], threshold: float | None, config: ConfigDict
) -> dict[str, float | int]:
    """Metrics, diagnostics and calibration of a split; see `rpcl_jax.metrics`.

    Args:
      scored: its dialogues.
      threshold: `τ`; None searches it on these dialogues.
      config: of the run.
    """
    *_, ece, brier = reliability(scored)
    diagnostics = confidence_diagnostics(
        scored, top_k=config.rpcl.top_k, base_margin=config.rpcl.base_margin
    )
    return evaluate_split(scored, threshold) | diagnostics | {"ece": ece, "brier": brier}


def pair_objects(scored: list[ScoredDialogue], threshold: float) -> list[dict[str, Any]]:
    """The decoded conversations in the form of SemEval-2024 Task 3."""
    objects = []
    for s in scored:
        pairs = decode_pairs(s.pair_confidence, s.candidate_mask, threshold)
        objects.append(
            with_pairs(
                conversation_object(s.dialogue),
                pairs,
                pair_emotions(s.emotion_probabilities, pairs),
                [float(s.pair_confidence[pair]) for pair in pairs],
            )
        )
    return objects


def write_predictions(
    workdir: Path, dev: list[ScoredDialogue], test: list[ScoredDialogue], threshold: float
) -> None:
    """Writes `predictions/{dev,test}.json`, the pairs, and `.npz`, all that they come from."""
    for split, scored in (("dev", dev), ("test", test)):
        path = workdir / "predictions" / f"{split}.json"
        run_folder.write_json(path, pair_objects(scored, threshold), indent=1)
        save_scores(path.with_suffix(".npz"), scored)


def evaluate_run(workdir: Path) -> dict:
    """Computes a run's numbers and predictions anew from its best checkpoint.

    A finished run's `result.json` and `predictions/` are written anew; an unfinished run's numbers
    are only returned.

    Raises:
      InputError: no trained run there, or its data are gone.
    """
    trained = run_folder.load_trained(workdir)
    corpus = load_corpus(trained.config)
    for modality, table in corpus.tables.items():
        table.check_same_extractor(trained.feature_tables[modality])
    mesh = make_mesh()
    if trained.frozen_encoder is not None:
        corpus = with_text_vectors(corpus, trained.frozen_encoder, trained.config, mesh)
    score = Compiled(make_score(trained.model, mesh), "the scoring function")
    params = replicate(trained.params, mesh)
    dev, test = (
        score_split(
            score,
            params,
            make_batches(
                corpus.splits[split],
                trained.tokenizer,
                corpus.tables,
                trained.config,
                mesh.size,
            ),
            mesh,
        )
        for split in ("dev", "test")
    )
    numbers = report(dev, test, trained.config)
    if (workdir / "result.json").exists():
        write_predictions(workdir, dev, test, numbers["threshold"])
        numbers = run_folder.read_json(workdir / "result.json") | numbers
        run_folder.write_json(workdir / "result.json", numbers)
    return numbers
