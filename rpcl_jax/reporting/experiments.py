"""Finished runs as tables, figures and reports read them. Not run by hand itself."""

import csv
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.bootstrap import (
    Interval,
    draw_weights,
    paired_interval,
    resampled_average_precision,
    resampled_diagnostics,
    resampled_f1,
)
from rpcl_jax.evaluation.metrics import ScoredDialogue
from rpcl_jax.evaluation.scores import load_scores
from rpcl_jax.readers.corpus import load_splits
from rpcl_jax.run.workdir import read_json

BENCHMARKS = {"ecf": "ECF", "mecad": "MECAD", "mec4": "MEC4"}
METRICS = (
    *("pair_f1", "pair_auprc"),
    *("gold_confidence", "gap_hard", "gap_all", "severity_hard", "severity_all"),
)


def benchmark_name(config: ConfigDict) -> str:
    """The name of a config's benchmark as one writes it."""
    return BENCHMARKS.get(config.data.name, config.data.name)


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    config: ConfigDict
    result: dict  # result.json

    def scores(self, dialogues: Sequence[Dialogue], split: str) -> list[ScoredDialogue]:
        """Every confidence of a split, whose dialogues are given."""
        return load_scores(self.folder / "predictions" / f"{split}.npz", dialogues)


class Experiment:
    """Runs that differ in objective and seed alone.

    runs: {objective: {seed: run}}, seeds ascending. Everything that is computed is computed once.
    """

    def __init__(self, runs: dict[str, dict[int, Run]]):
        self.runs = {objective: dict(sorted(of.items())) for objective, of in runs.items()}
        self._all = [run for of in self.runs.values() for run in of.values()]
        self.config = self._all[0].config

    @property
    def benchmark(self) -> str:
        """The name of its benchmark."""
        return benchmark_name(self.config)

    @property
    def modalities(self) -> str:
        """T, T+A, T+V or T+A+V."""
        return "+".join(self.config.modalities.upper())

    @property
    def encoder(self) -> str:
        """The text encoder, and whether it was frozen."""
        name = Path(self.config.text.pretrained).name or "an encoder of its own"
        return name if self.config.text.finetune else f"{name}, frozen"

    @property
    def grid(self) -> str:
        """The folders its runs lie in, which tell settings apart that the rest does not."""
        return " + ".join(dict.fromkeys(run.folder.absolute().parent.name for run in self._all))

    @property
    def setup(self) -> str:
        """All that distinguishes it but its modalities."""
        return f"{self.benchmark} ({self.encoder}; {self.grid})"

    @property
    def title(self) -> str:
        """What distinguishes it, in a line."""
        return f"{self.benchmark} {self.modalities} ({self.encoder}; {self.grid})"

    @cached_property
    def splits(self) -> dict[str, list[Dialogue]]:
        """Its dialogues."""
        return load_splits(self.config)

    def common_seeds(self, *objectives: str) -> list[int]:
        """The seeds that all of `objectives` were run with: what they are compared over."""
        first, *others = (self.runs.get(objective, {}) for objective in objectives)
        return [seed for seed in first if all(seed in runs for runs in others)]

    def values(self, objective: str, metric: str, seeds: Sequence[int]) -> np.ndarray:
        """A test metric of an objective's runs with `seeds`."""
        return np.array([self.runs[objective][seed].result["test"][metric] for seed in seeds])

    def delta(
        self, objective: str, metric: str, seeds: Sequence[int], base: str = "base"
    ) -> Interval:
        """How much better the test metric is than that of `base`, over `seeds`, at least one."""
        return paired_delta(self, objective, self, base, metric, seeds)

    @cached_property
    def resampled(self) -> dict[tuple[str, int], dict[str, np.ndarray]]:
        """Every metric in every resample [R], by objective and seed of the run."""
        weights = draw_weights(len(self.splits["test"]))
        return {
            (run.config.objective, run.config.seed): resampled_metrics(
                run, run.scores(self.splits["test"], "test"), weights
            )
            for run in self._all
        }


def resampled_metrics(
    run: Run, scored: Sequence[ScoredDialogue], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """METRICS of a run in every resample, [R] each; `weights` is from `draw_weights`."""
    diagnostics = resampled_diagnostics(
        scored, weights, top_k=run.config.rpcl.top_k, base_margin=run.config.rpcl.base_margin
    )
    return {
        "pair_f1": resampled_f1(scored, run.result["threshold"], weights),
        "pair_auprc": resampled_average_precision(scored, weights),
    } | diagnostics


def paired_delta(
    system: Experiment,
    objective: str,
    other: Experiment,
    base: str,
    metric: str,
    seeds: Sequence[int],
) -> Interval:
    """How much better a test metric of `system` is than that of `other`, with its interval.

    Args:
      system: an experiment.
      objective: which of its objectives.
      other: the same or another one, on the same test dialogues.
      base: which of its objectives.
      metric: one of METRICS.
      seeds: that both were run with, at least one.
    """
    observed = (
        system.values(objective, metric, seeds).mean() - other.values(base, metric, seeds).mean()
    )
    values, others = (
        np.stack([experiment.resampled[name, seed][metric] for seed in seeds])
        for experiment, name in ((system, objective), (other, base))
    )
    return paired_interval(values, others, float(observed))


def read_run(folder: Path) -> Run:
    """A finished run.

    Raises:
      InputError: there is none.
    """
    config = ConfigDict(read_json(folder / "config.json"))
    if not (folder / "result.json").is_file():
        raise InputError(f"{folder}: not finished; the same command again goes on with it")
    result = read_json(folder / "result.json")
    if not set(METRICS) <= result["test"].keys():
        raise InputError(
            f"{folder}: an older version finished it; --mode=evaluate --workdir={folder} adds what "
            "is missing"
        )
    return Run(folder, config, result)


def training_curves(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Mean training loss and validation Pair F1 of every epoch, [epochs] each.

    Raises:
      InputError: the run's log is gone.
    """
    path = run.folder / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"{path}: not there; it holds the curves of the run")
    losses: list[float] = []
    means, scores = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if "train/loss" in values:
            losses.append(values["train/loss"])
        elif "dev/pair_f1" in values:
            scores.append(values["dev/pair_f1"])
            means.append(np.mean(losses))
            losses.clear()
    return np.array(means), np.array(scores)


def read_experiments(paths: Sequence[Path]) -> list[Experiment]:
    """The experiments in grids and runs.

    Args:
      paths: folders of grids (tools/run_grid.py), their results.csv, or folders of runs.

    Raises:
      InputError: something is not there, or two runs are of one config.
    """
    runs = [read_run(folder) for path in paths for folder in _run_folders(path)]
    experiments: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        rest = ConfigDict(run.config)
        rest.update({"objective": "", "seed": 0})
        key = rest.to_json_best_effort(sort_keys=True)
        of_objective = experiments.setdefault(key, {}).setdefault(run.config.objective, {})
        if run.config.seed in of_objective:
            raise InputError(
                f"{run.folder}: the same run as {of_objective[run.config.seed].folder}; "
                "give one of them"
            )
        of_objective[run.config.seed] = run
    return [Experiment(by_objective) for by_objective in experiments.values()]


def _run_folders(path: Path) -> list[Path]:
    """The run folders that one of RESULTS names."""
    if (path / "config.json").is_file():
        return [path]
    table = path if path.name == "results.csv" else path / "results.csv"
    if not table.is_file():
        raise InputError(
            f"{path}: neither a run nor a grid; a grid's folder has a results.csv, "
            "which tools/run_grid.py writes"
        )
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "run" not in rows[0]:
        raise InputError(f"{table}: names no run; tools/run_grid.py writes it")
    return [table.parent / row["run"] for row in rows]
