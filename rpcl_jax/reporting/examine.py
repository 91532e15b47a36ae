"""How often RPCL's two constraints are active in trained runs, split by split."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.corruption import corrupt_context, gold_utterances
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.split_numbers import split_numbers
from rpcl_jax.losses import pair_confidence
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.readers.corpus import SPLITS
from rpcl_jax.reporting.experiments import read_run
from rpcl_jax.run.base_config import base_config
from rpcl_jax.run.model_folder import load_model
from rpcl_jax.run.workdir import read_splits

COLUMNS = (
    *("pair_f1", "pair_precision", "pair_recall"),
    *("pair_f1_at_half", "pair_precision_at_half", "pair_recall_at_half"),
    *("pair_auprc", "gold_confidence", "gap_hard"),
    *("violation_rate_hard", "severity_hard", "violation_depth_hard", "inversion_rate_hard"),
    *("bystanders", "shift_gold", "shift_other", "gold_flipped"),
)


def examine(folder: Path, without: Sequence[str] = ()) -> list[dict[str, str | float]]:
    """Returns a row for each split of a run: `run`, `split` and COLUMNS in points.

    The modalities `without`, "audio" or "vision", are taken away from every utterance.
    """
    threshold = read_run(folder).result["threshold"]
    trained = load_model(folder, devices=1)
    for modality in without:
        if modality not in trained.feature_tables:
            raise InputError(f"{folder}: does not read {modality}; leave out --without={modality}")
    splits = read_splits(trained, without)
    name = f"{folder.absolute().parent.name}/{folder.name}"  # grids have cells of the same names
    name = " ".join([name, *(f"without {modality}" for modality in without)])
    rows = []
    for split in SPLITS:
        scored = trained.score(splits[split])
        numbers = split_numbers(scored, threshold, trained.emotions, **trained.config.diagnostics)
        violations = numbers["violation_rate_hard"]
        numbers["violation_depth_hard"] = numbers["severity_hard"] / max(violations, 1e-9)
        numbers |= corruption_effects(
            trained.model,
            trained.params,
            splits[split],
            # A run trained without corruption is measured as one of RPCL's would be.
            rate=trained.config.rpcl.corruption_rate or base_config().rpcl.corruption_rate,
            threshold=threshold,
        )
        rows.append({"run": name, "split": split} | {c: 100 * numbers[c] for c in COLUMNS})
    return rows


def corruption_effects(
    model: PairExtractor, params: dict, batches: Batches, *, rate: float, threshold: float
) -> dict[str, float]:
    """Measures how one corrupted view of every dialogue changes its candidates' confidences.

    Returns:
      `bystanders`, the share of utterances outside gold pairs; `shift_gold` and `shift_other`, the
      mean of |p̃ − p| over gold and other candidates; `gold_flipped`, the share of gold candidates
      that p and p̃ have on different sides of the threshold.
    """

    @jax.jit
    def views(params, batch, key):
        outputs = model.apply({"params": params}, batch)
        protected = gold_utterances(batch.pair_labels)
        corrupted = corrupt_context(key, outputs.h, protected, rate=rate)
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
