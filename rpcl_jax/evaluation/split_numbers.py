"""The numbers of a split and of a run, as `result.json` holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rpcl_jax.evaluation.entailment import entailment
from rpcl_jax.evaluation.metrics import confidence_diagnostics, evaluate_split, reliability
from rpcl_jax.evaluation.scores_file import ScoredDialogue


def result_numbers(
    dev: list[ScoredDialogue],
    test: list[ScoredDialogue],
    emotions: Sequence[str],
    **diagnostics: Any,
) -> dict[str, Any]:
    """Returns the threshold and the `split_numbers` of both; thresholds are chosen on `dev`."""
    of_dev = split_numbers(dev, None, emotions, **diagnostics)
    threshold, cee_threshold = of_dev["threshold"], of_dev["cee_threshold"]
    of_test = split_numbers(test, threshold, emotions, cee_threshold, **diagnostics)
    return {"threshold": threshold, "dev": of_dev, "test": of_test}


def split_numbers(
    scored: list[ScoredDialogue],
    threshold: float | None,
    emotions: Sequence[str],
    cee_threshold: float | None = None,
    **diagnostics: Any,
) -> dict[str, float | int]:
    """Returns metrics, diagnostics and calibration of a split; see `rpcl_jax.evaluation`.

    A threshold that is None, `τ` or that of Causal Emotion Entailment, is the best one for these
    dialogues. `diagnostics` are `top_k` and `base_margin` of `confidence_diagnostics`.
    """
    *_, ece, brier = reliability(scored)
    return {
        **evaluate_split(scored, threshold, emotions),
        **confidence_diagnostics(scored, **diagnostics),
        "ece": ece,
        "brier": brier,
        **entailment(scored, cee_threshold),
    }


def outcome(result: Mapping[str, Any]) -> str:
    """Returns the scores of a run in one line."""
    test, dev = result["test"], result["dev"]
    return (
        f"test Pair F1 {100 * test['pair_f1']:.2f}  "
        f"(precision {100 * test['pair_precision']:.2f}, recall {100 * test['pair_recall']:.2f})  "
        f"AUPRC {100 * test['pair_auprc']:.2f}  |  "
        f"validation Pair F1 {100 * dev['pair_f1']:.2f}  threshold {result['threshold']:.3f}"
    )
