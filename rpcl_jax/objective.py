"""The training objective, equation 17 of the paper. Every named objective is a setting of it."""

from typing import NamedTuple

import jax

from rpcl_jax import corruption, losses
from rpcl_jax.batching.batch import Batch
from rpcl_jax.models.ecpe import PairExtractor


class Objective(NamedTuple):
    """The weights and switches of L = L_sup + λ_row · CDMR + CCPS, set by `config.rpcl`."""

    row_weight: float  # λ_row; 0: no ranking
    base_margin: float  # m0
    adaptive_margin: bool  # eq. 9; False: every margin is m0
    top_k: int | None  # hard negatives per row; None: all negatives
    corruption_rate: float  # ρ
    protect_gold: bool  # eq. 12; False: any utterance may be zeroed
    corruption_weight: float  # λ_cor
    alignment_weight: float  # λ_ali


def objective_loss(
    objective: Objective,
    model: PairExtractor,
    params,
    batch: Batch,
    dropout_key: jax.Array | None,
    corruption_key: jax.Array,
    axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the training loss of a batch (eq. 17) and its terms.

    Args:
      batch: the dialogues; with `axis_name`, those of this device.
      dropout_key: None disables dropout. The clean and the corrupted pass of the scorer share the
        key, so that the corruption is their only difference.
      axis_name: mesh axis that dialogues are split over; the loss is that of all dialogues.

    Returns:
      The scalar loss, and its terms as scalars by name: "supervised" (L_sup); "ranking" (CDMR,
      without λ_row); "stability" (CCPS, which already includes λ_cor and λ_ali); and "loss", their
      weighted sum. "ranking" and "stability" are present only if their weights are not 0.
    """
    deterministic = dropout_key is None
    rngs = None if deterministic else {"dropout": dropout_key}
    clean = model.apply({"params": params}, batch, deterministic=deterministic, rngs=rngs)
    terms = {
        "supervised": losses.supervised_loss(
            clean.emotion_logits,
            clean.cause_logits,
            clean.pair_logits,
            batch.emotion_labels,
            batch.cause_labels,
            batch.pair_labels,
            batch.utterance_mask,
            batch.candidate_mask,
            axis_name=axis_name,
        )
    }
    loss = terms["supervised"]
    if objective.row_weight:
        terms["ranking"] = losses.cdmr_loss(
            clean.pair_logits,
            clean.cause_logits,
            batch.pair_labels,
            batch.candidate_mask,
            top_k=objective.top_k,
            base_margin=objective.base_margin,
            adaptive_margin=objective.adaptive_margin,
            axis_name=axis_name,
        )
        loss += objective.row_weight * terms["ranking"]
    if objective.corruption_weight or objective.alignment_weight:
        protected = corruption.gold_utterances(batch.pair_labels)
        if not objective.protect_gold:
            protected = protected & False
        corrupted = corruption.corrupt_context(
            corruption_key,
            clean.h,
            protected,
            rate=objective.corruption_rate,
            axis_name=axis_name,
        )
        corrupted_logits = model.apply(
            {"params": params},
            corrupted,
            batch,
            deterministic=deterministic,
            method="score_pairs",
            rngs=rngs,
        )
        terms["stability"] = losses.ccps_loss(
            corrupted_logits,
            clean.pair_logits,
            batch.pair_labels,
            batch.candidate_mask,
            corruption_weight=objective.corruption_weight,
            alignment_weight=objective.alignment_weight,
            axis_name=axis_name,
        )
        loss += terms["stability"]
    return loss, terms | {"loss": loss}
