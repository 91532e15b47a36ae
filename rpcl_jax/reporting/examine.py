"""What RPCL's two constraints find to do in trained runs, split by split.

python tools/examine.py RUN… [--out=examined.csv]

A row for every run and split, of the run's best epoch: how well the split is known (the test
threshold's Pair F1; on the training split, what it has over the others is overfitting), how many
hard negatives stand within the margin, how deep on average, and how many above the gold pair
(equations 8 to 11), and what a corrupted view does (equations 12 to 14): the share of utterances
that may be zeroed at all, how far zeroing them moves the confidence of gold and of other pairs, and
how often it takes a gold pair across the threshold.
"""

import argparse
import csv
from pathlib import Path

import jax
import numpy as np

from rpcl_jax.batching.pipeline import Batches, make_batches
from rpcl_jax.corruption import corrupt_context, gold_utterances
from rpcl_jax.evaluate import score_split, split_numbers
from rpcl_jax.losses import pair_confidence
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.readers.corpus import SPLITS, load_corpus
from rpcl_jax.reporting.experiments import read_run
from rpcl_jax.run.command_line import one_line, prepare
from rpcl_jax.run.compilation import Compiled
from rpcl_jax.run.text_vectors import with_text_vectors
from rpcl_jax.run.workdir import load_trained
from rpcl_jax.training.step import make_mesh, make_score, replicate


def examine(folder: Path) -> list[dict[str, str | float]]:
    """The rows of a run; percentages and confidences in points.

    Raises:
      InputError: no finished run there, or its data are gone.
    """
    run = read_run(folder)
    trained = load_trained(folder)
    corpus = load_corpus(trained.config)
    mesh = make_mesh(1)
    if trained.frozen_encoder is not None:
        corpus = with_text_vectors(corpus, trained.frozen_encoder, trained.config, mesh)
    score = Compiled(make_score(trained.model, mesh), "the scoring function")
    params = replicate(trained.params, mesh)
    rows = []
    for split in SPLITS:
        batches = make_batches(
            corpus.splits[split], trained.tokenizer, corpus.tables, trained.config, 1
        )
        scored = score_split(score, params, batches, mesh)
        numbers = split_numbers(scored, run.result["threshold"], trained.config)
        violations = numbers["violation_rate_hard"]
        numbers["violation_depth_hard"] = numbers["severity_hard"] / max(violations, 1e-9)
        numbers |= corruption_effects(
            trained.model,
            params,
            batches,
            rate=trained.config.rpcl.corruption_rate,
            threshold=run.result["threshold"],
        )
        rows.append({"run": folder.name, "split": split} | {c: 100 * numbers[c] for c in COLUMNS})
    return rows


COLUMNS = (
    *("pair_f1", "pair_auprc", "gold_confidence", "gap_hard"),
    *("violation_rate_hard", "severity_hard", "violation_depth_hard", "inversion_rate_hard"),
    *("bystanders", "shift_gold", "shift_other", "gold_flipped"),
)


def corruption_effects(
    model: PairExtractor, params: dict, batches: Batches, *, rate: float, threshold: float
) -> dict[str, float]:
    """What one corrupted view of every dialogue does to the confidences of its candidates.

    Args:
      model: the trained model; no dropout is applied.
      params: its parameters.
      batches: a labelled split, for one device.
      rate: ρ.
      threshold: `τ`.

    Returns:
      `bystanders`, the share of utterances in no gold pair; `shift_gold` and `shift_other`, the
      mean of |p̃ − p| over gold and other candidates; `gold_flipped`, the share of gold candidates
      that p and p̃ have on different sides of the threshold.
    """

    @jax.jit
    def views(params, batch, key):
        outputs = model.apply({"params": params}, batch)
        protected = gold_utterances(batch.pair_labels)
        corrupted = corrupt_context(key, outputs.utterances, protected, rate=rate)
        logits = model.apply({"params": params}, corrupted, batch, method="score_pairs")
        bystander = batch.utterance_mask & ~protected
        return pair_confidence(outputs.pair_logits), pair_confidence(logits), bystander

    parts = []
    for number, (_, batch) in enumerate(batches.epoch(seed=0, epoch=0)):
        clean, corrupted, bystander = views(params, batch, jax.random.key(number))
        pairs = (np.asarray(clean), np.asarray(corrupted), batch.pair_labels)
        parts.append(
            [
                *(array[batch.candidate_mask] for array in pairs),
                np.asarray(bystander)[batch.utterance_mask],
            ]
        )
    before, after, is_gold, bystanders = map(np.concatenate, zip(*parts, strict=True))
    shift = np.abs(after - before)
    flipped = (before >= threshold) != (after >= threshold)
    return {
        "bystanders": float(bystanders.mean()),
        "shift_gold": float(shift[is_gold].mean()),
        "shift_other": float(shift[~is_gold].mean()),
        "gold_flipped": float(flipped[is_gold].mean()),
    }


def main() -> None:
    """Reads the command line and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished runs")
    parser.add_argument("--out", type=Path, help="a CSV file for the same rows")
    arguments = parser.parse_args()
    rows = []
    prepare()
    with one_line("examine"):
        print(f"{'in points':32s} split ", *(f"{name[:11]:>11s}" for name in COLUMNS))
        for folder in arguments.runs:
            for row in examine(folder):
                rows.append(row)
                texts = (f"{row[column]:.2f}" for column in COLUMNS)
                print(f"{row['run']:32s} {row['split']:6s}", *(f"{text:>11s}" for text in texts))
        if arguments.out:
            with arguments.out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["run", "split", *COLUMNS])
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
