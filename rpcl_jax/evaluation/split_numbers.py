"""The numbers of a split and of a run, as `result.json` holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rpcl_jax.data.dialogue import is_of
from rpcl_jax.evaluation.entailment import entailment
from rpcl_jax.evaluation.metrics import confidence_diagnostics, evaluate_split, reliability
from rpcl_jax.evaluation.scores_file import ScoredDialogue


def result_numbers(
    dev: list[ScoredDialogue],
    test: list[ScoredDialogue],
    emotions: Sequence[str],
    corpora: Sequence[str] = (),
    **diagnostics: Any,
) -> dict[str, Any]:
    """Returns the threshold and the `split_numbers` of both; thresholds are chosen on `dev`.

    Of several `corpora`, "corpora" has those of each by name, at the thresholds of all.
    """
    of_dev = split_numbers(dev, None, emotions, **diagnostics)
    thresholds = of_dev["threshold"], emotions, of_dev["cee_threshold"]
    of_test = split_numbers(test, *thresholds, **diagnostics)
    numbers: dict[str, Any] = {"threshold": of_dev["threshold"], "dev": of_dev, "test": of_test}
    if corpora:
        numbers["corpora"] = {
            name: {
                split: split_numbers(scored_of(scored, name), *thresholds, **diagnostics)
                for split, scored in (("dev", dev), ("test", test))
            }
            for name in corpora
        }
    return numbers


def scored_of(scored: Sequence[ScoredDialogue], name: str) -> list[ScoredDialogue]:
    """Returns those dialogues that are of one of several corpora."""
    return [s for s in scored if is_of(s.dialogue, name)]


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
    """Returns the scores of a run in one line, and then those of each of several corpora."""
    lines = [f"{_scores(result)}  threshold {result['threshold']:.3f}"]
    lines += [f"{name}: {_scores(of)}" for name, of in result.get("corpora", {}).items()]
    return "\n".join(lines)


def _scores(numbers: Mapping[str, Any]) -> str:
    test, dev = numbers["test"], numbers["dev"]
    return (
        f"test Pair F1 {100 * test['pair_f1']:.2f}  "
        f"(precision {100 * test['pair_precision']:.2f}, recall {100 * test['pair_recall']:.2f})  "
        f"AUPRC {100 * test['pair_auprc']:.2f}  |  "
        f"validation Pair F1 {100 * dev['pair_f1']:.2f}"
    )
