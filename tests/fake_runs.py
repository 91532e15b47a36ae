"""Finished runs without training: confidences drawn at random, better or worse by design."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
from shared import tiny_config

from rpcl_jax.batching.batch import candidate_mask
from rpcl_jax.data.dialogue import emotion_class
from rpcl_jax.evaluate import write_predictions
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.evaluation.split_numbers import result_numbers
from rpcl_jax.files import write_json
from rpcl_jax.models.text_encoder import TextEncoderConfig
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.run.base_config import OBJECTIVES
from rpcl_jax.run.config import to_json
from rpcl_jax.run.model_folder import LAYOUT, LIBRARY


def write_run(folder, objective="rpcl", seed=42, signal=2.0, config=None, negatives=-2.0):
    """Writes a run whose gold pairs have logits `signal` standard deviations above the others.

    `negatives` is the mean logit of the others; far below 0 their confidences are nearly 0.
    """
    config = (config or tiny_config()).copy_and_resolve_references()
    config.objective, config.seed = objective, seed
    config.rpcl.update(OBJECTIVES[objective])
    splits, _, classes, _ = load_corpus(config)
    rng = np.random.default_rng(seed)  # runs of one seed share their noise, as real runs do
    scored = {
        split: [
            score(dialogue, rng, signal, negatives, config.data, classes)
            for dialogue in splits[split]
        ]
        for split in ("dev", "test")
    }
    write_description(folder, config, classes)
    numbers = result_numbers(scored["dev"], scored["test"], classes, **config.diagnostics)
    write_predictions(folder, scored["dev"], scored["test"], numbers["threshold"], classes)
    write_json(
        folder / "result.json",
        numbers | {"objective": objective, "modalities": config.modalities, "seed": seed},
    )
    lines = []
    for epoch in (1, 2, 3):
        lines.append({"step": 2 * epoch - 1, "train/loss": 3 / epoch, "train/supervised": 1.0})
        lines.append({"step": 2 * epoch, "train/loss": 2 / epoch, "train/supervised": 0.5})
        dev = {"dev/pair_f1": 0.1 * epoch, "dev/pair_auprc": 0.2}
        lines.append({"step": 2 * epoch, **dev, "epoch": epoch, "mean_loss": 2.5 / epoch})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_description(folder, config, emotions):
    """Writes the `config.json` of a run that reads text alone."""
    encoder = TextEncoderConfig(
        vocab_size=1, hidden_size=1, num_layers=1, num_heads=1, intermediate_size=1, max_positions=1
    )
    described = {"library_name": LIBRARY, "layout": LAYOUT, "folder": str(Path.cwd())}
    described |= {"emotions": emotions, "feature_tables": {}}
    described |= {"encoder": dataclasses.asdict(encoder), "run": to_json(config)}
    write_json(folder / "config.json", described)


def score(dialogue, rng, signal, negatives, data, classes):
    n = len(dialogue.utterances)
    logits = rng.normal(negatives, 1, size=(n, n))
    causes = rng.normal(0, 1, size=n)
    for i, j in dialogue.pairs:
        logits[i, j] += signal
        causes[j] += signal
    emotions = rng.random((n, len(classes)))
    for t, utterance in enumerate(dialogue.utterances):
        emotions[t, emotion_class(utterance.emotion, classes)] += 0.5
    n = min(n, data.max_utterances)
    logits, causes, emotions = logits[:n, :n], causes[:n], emotions[:n]
    return ScoredDialogue(
        dialogue,
        (1 / (1 + np.exp(-logits))).astype(np.float32),
        candidate_mask(np.ones(n, bool), data.candidates),
        (emotions / emotions.sum(1, keepdims=True)).astype(np.float32),
        (1 / (1 + np.exp(-causes))).astype(np.float32),
    )


def write_grid(folder, signals, seeds=(1, 2, 3), config=None):
    """Writes a grid with `signals` by objective, as `rpcl grid` leaves it."""
    names = []
    for objective, signal in signals.items():
        for seed in seeds:
            names.append(f"{objective}-tav-seed{seed}")
            write_run(folder / names[-1], objective, seed, signal, config)
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["run"], *([name] for name in names)])
    return folder
