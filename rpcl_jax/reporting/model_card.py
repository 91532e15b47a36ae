"""The model card of a run: what it is, how good it is, and what it is not for."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from huggingface_hub import EvalResult, ModelCardData

from rpcl_jax.data.corpus_statistics import split_statistics
from rpcl_jax.evaluation.bootstrap import draw_weights, resampled_weighted_f1
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.evaluation.split_numbers import scored_of
from rpcl_jax.models.pretrained import hub_name
from rpcl_jax.reporting.experiments import (
    BENCHMARKS,
    Run,
    benchmark_name,
    read_run,
    resampled_metrics,
)
from rpcl_jax.run.export import public_name
from rpcl_jax.run.model_folder import read_description
from rpcl_jax.run.workdir import check_data

_PAPER = "https://arxiv.org/abs/2606.18893"
_TASK = "multimodal emotion-cause pair extraction"
_RESAMPLES = 10_000
_ABSENT = (
    " Tables of these features are given by `--features=FOLDER`, in Python by `tables`; what is "
    "not given counts as absent, which the run {was} trained for."
)
_WORDS = ", but the tokenizer is a list of the words of its training split"
_WITHSTANDS = (
    "It is trained to withstand the loss of utterances' representations, which covers none of the "
    "following. "
)
# Under what terms the benchmarks are to be had.
_TERMS = {
    "ecf": "ECF (NUSTM/MECPE, from the series Friends) is under GPL-3.0, for research only.",
    "reccon": "RECCON is for research; its conversations are DailyDialog's, CC BY-NC-SA 4.0.",
    "mecad": "MECAD is for research only.",
}
_CARD = Path(__file__).with_suffix(".md")  # filled in by str.format


class _Part(NamedTuple):
    """The test split of one corpus."""

    name: str
    scored: list[ScoredDialogue]
    numbers: dict[str, Any]


def model_card(folder: Path, name: str, with_encoder: bool = True) -> str:
    """Returns the model card of a finished run, in Markdown with the hub's metadata.

    The intervals need the run's data: without them there is an InputError.
    """
    run = read_run(folder)
    config, splits = run.config, run.splits(check_data)  # which are counted
    features = read_description(folder)["feature_tables"]
    scored, threshold = run.scores(splits["test"], "test"), run.result["threshold"]
    parts = [_Part(config.data.name, scored, run.result["test"])]
    if corpora := run.result.get("corpora"):
        parts = [
            _Part(name, scored_of(scored, name), numbers["test"])
            for name, numbers in corpora.items()
        ]
    terms = [_TERMS[name] for name in config.data.name.split(",") if name in _TERMS]
    encoder = public_name(config.text.pretrained) or "trained from scratch"
    corrupted = config.rpcl.corruption_rate and (
        config.rpcl.corruption_weight or config.rpcl.alignment_weight
    )
    rank = config.text.lora_rank
    how = f", with adapters of rank {rank}" if rank else ""
    if not config.text.finetune:
        how = ", frozen"
    if not with_encoder:
        how += (
            ". Its own parameters are not in this folder: they come from the folder or hub name\n"
            "  at `encoder_elsewhere` in `config.json`, or from `--encoder=FOLDER`"
        )
    return _CARD.read_text(encoding="utf-8").format(
        metadata=_metadata(run, name, parts).to_yaml(),
        name=name,
        quoted=shlex.quote(name),
        objective=config.objective,
        start=f", beginning with {public_name(config.init)}" if config.init else "",
        paper=_PAPER,
        modalities=" and ".join(["text", *features]),
        features="".join(f" {_described(m, features[m])}" for m in features)
        + (
            _ABSENT.format(was="was" if config.data.modality_dropout else "was not")
            if features
            else ""
        ),
        encoder=encoder + how,
        backbone=config.model.backbone,
        emotions=", ".join(run.emotions),
        threshold=threshold,
        longest=config.data.max_utterances,
        tokens=config.text.max_tokens,
        benchmark=benchmark_name(config) or "A corpus without a name",
        words="" if config.text.pretrained else _WORDS,
        trained=_WITHSTANDS if corrupted else "",
        terms="".join(f"\n\n{term}" for term in terms),
        statistics="\n".join(
            f"| {split} | {counts.conversations} | {counts.utterances} | {counts.pairs} |"
            for split, counts in zip(splits, map(split_statistics, splits.values()), strict=True)
        ),
        seed=config.seed,
        resamples=_RESAMPLES,
        results="\n".join(row for part in parts for row in _results(run, part, len(parts) > 1)),
    )


def _metadata(run: Run, name: str, parts: list[_Part]) -> ModelCardData:
    pretrained = run.config.text.pretrained
    results = [
        EvalResult(
            task_type="text-classification",
            task_name=_TASK,
            dataset_type=part.name or "unnamed",
            dataset_name=BENCHMARKS.get(part.name, part.name) or "unnamed",
            dataset_split="test",
            metric_type=kind,
            metric_name=f"Pair {label}",
            metric_value=round(part.numbers[metric], 4),
        )
        for part in parts
        for kind, label, metric in (
            ("f1", "F1", "pair_f1"),
            ("average_precision", "AUPRC", "pair_auprc"),
        )
    ]
    return ModelCardData(
        library_name="rpcl_jax",
        tags=["emotion-cause-pair-extraction", "emotion", "dialogue", "jax", "arxiv:2606.18893"],
        base_model=hub_name(run.config.init) or hub_name(pretrained) or None,
        metrics=["f1"],
        model_name=name,
        eval_results=results,
    )


def _described(modality: str, description: dict) -> str:
    parts = [
        f"{key} {public_name(str(description[key])) if key == 'model' else description[key]}"
        for key in ("extractor", "model", "revision", "dimension")
        if description.get(key)
    ]
    return f"{modality.capitalize()} comes as features: {', '.join(parts)}."


def _results(run: Run, part: _Part, named: bool) -> list[str]:
    scored, threshold = part.scored, run.result["threshold"]
    weights = draw_weights(len(scored), _RESAMPLES)
    resampled = resampled_metrics(run, scored, weights)
    resampled["weighted_f1"] = resampled_weighted_f1(scored, threshold, run.emotions, weights)
    corpus = f"{BENCHMARKS.get(part.name, part.name)}: " if named else ""
    rows = []
    for label, metric in (
        ("Pair F1", "pair_f1"),
        ("Pair precision", "pair_precision"),
        ("Pair recall", "pair_recall"),
        ("Pair F1 at a threshold of 0.5", "pair_f1_at_half"),
        ("Pair precision at 0.5", "pair_precision_at_half"),
        ("Pair recall at 0.5", "pair_recall_at_half"),
        ("Pair AUPRC", "pair_auprc"),
        ("F1 of pairs with their emotions, weighted over categories", "weighted_f1"),
    ):
        low, high = 100 * np.quantile(resampled[metric], [0.025, 0.975])
        value = 100 * part.numbers[metric]
        rows.append(f"| {corpus}{label} | {value:.2f} | [{low:.2f}, {high:.2f}] |")
    return rows
