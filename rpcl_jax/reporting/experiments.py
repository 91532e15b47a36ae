"""Finished runs, grouped into experiments, as tables, figures and reports read them."""

import csv
from collections.abc import Callable, Sequence
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
    resampled_scores,
)
from rpcl_jax.evaluation.metrics import FIXED_THRESHOLD, pair_counts, precision_recall_f1
from rpcl_jax.evaluation.scores_file import ScoredDialogue, load_scores
from rpcl_jax.files import parse_object
from rpcl_jax.readers.corpus import Corpus, corpus_names, load_splits, with_classes
from rpcl_jax.run.base_config import OBJECTIVES, base_config
from rpcl_jax.run.model_folder import read_description
from rpcl_jax.run.workdir import (
    changed_data,
    check_but_train,
    data_digests,
    read_result,
    read_run_config,
    with_data,
)

BENCHMARKS = {"ecf": "ECF", "mecad": "MECAD", "mec4": "MEC4", "reccon": "RECCON"}
METRICS = (
    *("pair_f1", "pair_precision", "pair_recall"),
    *("pair_f1_at_half", "pair_precision_at_half", "pair_recall_at_half", "pair_auprc"),
    *("gold_confidence", "gap_hard", "gap_all", "severity_hard", "severity_all"),
)


def benchmark_name(config: ConfigDict) -> str:
    """Returns the name of a config's benchmark, or benchmarks, capitalised as in the literature."""
    names = corpus_names(config) or [config.data.name]
    return " + ".join(BENCHMARKS.get(name, name) for name in names)


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    config: ConfigDict
    result: dict  # result.json

    @property
    def emotions(self) -> tuple[str, ...]:
        """The names of the emotion classes."""
        return tuple(read_description(self.folder)["emotions"])

    def splits(self, check: Callable = check_but_train) -> dict[str, list[Dialogue]]:
        """Reads the run's dialogues; `check` raises InputError if they are no longer the same."""
        config = with_data(self.folder, self.config)
        splits = with_classes(load_splits(config), self.emotions, config)
        corpus = Corpus(splits, {}, self.emotions, corpus_names(config))
        check(self.folder, data_digests(corpus))
        return splits

    def scores(self, dialogues: Sequence[Dialogue], split: str) -> list[ScoredDialogue]:
        """Reads every confidence of a split; raises InputError, see `load_scores`.

        They must have the Pair F1 that `result.json` has.
        """
        path = self.folder / "predictions" / f"{split}.npz"
        scored = load_scores(path, dialogues)
        counts = np.sum([pair_counts(s, self.result["threshold"]) for s in scored], axis=0)
        f1, written = precision_recall_f1(*counts)["f1"], self.result[split]["pair_f1"]
        if abs(f1 - written) > 1e-9:
            raise InputError(
                f"{path}: has a Pair F1 of {100 * f1:.2f}, and result.json {100 * written:.2f}; "
                f"compute both again with --mode=evaluate --workdir={self.folder}"
            )
        return scored


class Experiment:
    """Runs that differ only in objective and seed, {objective: {seed: run}}.

    Objectives are in the order of OBJECTIVES, seeds ascending; `config` is that of one of the runs.
    """

    def __init__(self, runs: dict[str, dict[int, Run]]):
        self.runs = {name: dict(sorted(runs[name].items())) for name in OBJECTIVES if name in runs}
        self._all = [run for of in self.runs.values() for run in of.values()]
        self.config = self._all[0].config

    @property
    def benchmark(self) -> str:
        """The name of the benchmark."""
        return benchmark_name(self.config)

    @property
    def modalities(self) -> str:
        """T, T+A, T+V or T+A+V."""
        return "+".join(self.config.modalities.upper())

    @property
    def encoder(self) -> str:
        """The name of the text encoder, whether it was frozen, and a backbone that is not ours."""
        name = Path(self.config.text.pretrained).name or "an encoder trained from scratch"
        backbone = self.config.model.backbone
        text = self.config.text
        adapted = f"LoRA {text.lora_rank}" if text.lora_rank else ""
        parts = [name, adapted if text.finetune else "frozen"]
        return ", ".join(filter(None, [*parts, "" if backbone == "transformer" else backbone]))

    @property
    def grid(self) -> str:
        """The names of the folders that contain the runs; they distinguish similar settings."""
        return " + ".join(dict.fromkeys(run.folder.absolute().parent.name for run in self._all))

    @property
    def setup(self) -> str:
        """A title without the modalities."""
        return f"{self.benchmark} ({self.encoder}; {self.grid})"

    @property
    def title(self) -> str:
        """What distinguishes the experiment from others, in one line."""
        return f"{self.benchmark} {self.modalities} ({self.encoder}; {self.grid})"

    @cached_property
    def splits(self) -> dict[str, list[Dialogue]]:
        """The dialogues of each split."""
        return self._all[0].splits()

    def common_seeds(self, *objectives: str) -> list[int]:
        """Returns the seeds that all of `objectives` were run with; comparisons use these."""
        first, *others = (self.runs.get(objective, {}) for objective in objectives)
        return [seed for seed in first if all(seed in runs for runs in others)]

    def values(self, objective: str, metric: str, seeds: Sequence[int]) -> np.ndarray:
        """Returns a test metric of an objective's runs with `seeds`."""
        return np.array([self.runs[objective][seed].result["test"][metric] for seed in seeds])

    def delta(
        self, objective: str, metric: str, seeds: Sequence[int], base: str = "base"
    ) -> Interval:
        """Returns how much better a test metric is than that of `base`, over at least one seed."""
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
    """Returns METRICS of a run in every resample, [R] each; `weights` is from `draw_weights`."""
    chosen = resampled_scores(scored, run.result["threshold"], weights)
    at_half = resampled_scores(scored, FIXED_THRESHOLD, weights)
    return {
        **{f"pair_{kind}": values for kind, values in chosen.items()},
        **{f"pair_{kind}_at_half": values for kind, values in at_half.items()},
        "pair_auprc": resampled_average_precision(scored, weights),
        **resampled_diagnostics(scored, weights, **run.config.diagnostics),
    }


def paired_delta(
    system: Experiment,
    objective: str,
    other: Experiment,
    base: str,
    metric: str,
    seeds: Sequence[int],
) -> Interval:
    """Returns how much better a test metric of `system` is than that of `other`.

    Both have the same test dialogues, and were run with all of `seeds`, of which there is one.
    """
    observed = (
        system.values(objective, metric, seeds).mean() - other.values(base, metric, seeds).mean()
    )
    values, others = (
        np.stack([experiment.resampled[name, seed][metric] for seed in seeds])
        for experiment, name in ((system, objective), (other, base))
    )
    return paired_interval(values, others, float(observed))


class MeanOverSettings(NamedTuple):
    """A test metric of an objective and of base, in the mean of several settings."""

    settings: int  # how many; they count alike
    seeds: list[int]  # that all settings were run with
    values: np.ndarray  # of the objective, a mean for each seed
    of_base: np.ndarray
    delta: Interval  # dialogues are resampled alike in all settings of a benchmark


def mean_over_settings(
    experiments: Sequence[Experiment], objective: str, metric: str
) -> MeanOverSettings | None:
    """Compares an objective with base over the experiments that have both with several seeds.

    Returns None if fewer than two do, or if they have fewer than two seeds in common.
    """
    compared = [e for e in experiments if len(e.common_seeds("base", objective)) > 1]
    common = [set(e.common_seeds("base", objective)) for e in compared]
    seeds = sorted(set.intersection(*common)) if len(compared) > 1 else []
    if len(seeds) < 2:
        return None
    values, of_base = (
        np.mean([e.values(o, metric, seeds) for e in compared], axis=0) for o in (objective, "base")
    )
    resampled, base_resampled = (
        np.mean([[e.resampled[o, seed][metric] for seed in seeds] for e in compared], axis=0)
        for o in (objective, "base")
    )
    delta = paired_interval(resampled, base_resampled, float((values - of_base).mean()))
    return MeanOverSettings(len(compared), seeds, values, of_base, delta)


def interval_text(interval: Interval) -> tuple[str, str]:
    """Returns a difference with its interval in points, and the caveats about it, if any.

    For example "+1.00 [−0.10, +2.00]" and "contains 0, one seed".
    """
    text = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * number for number in interval[:3]))
    caveats = ["contains 0"] * interval.contains_zero + ["one seed"] * (interval.seeds == 1)
    return text.replace("-", "−"), ", ".join(caveats)


def p_text(p: float) -> str:
    """Returns a p-value with three decimals."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def read_run(folder: Path) -> Run:
    """Reads a finished run; raises InputError if the folder has none."""
    config = read_run_config(folder)
    if not (folder / "result.json").is_file():
        raise InputError(f"{folder}: not finished; run its training command again to continue it")
    result = read_result(folder, config)
    if not set(METRICS) <= result["test"].keys():
        raise InputError(
            f"{folder}: evaluated by an older version, which lacks some metrics; add them with "
            f"--mode=evaluate --workdir={folder}"
        )
    return Run(folder, config, result)


def training_curves(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean training loss and the validation Pair F1 of every epoch, [epochs] each."""
    path = run.folder / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"{path}: not found; the training curves are read from it")
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [
        parse_object(line, f"{path}:{number}", {"step": int})
        for number, line in enumerate(text.splitlines(), 1)
    ]
    epochs = [line for line in lines if "epoch" in line]
    means, scores = ([epoch[k] for epoch in epochs] for k in ("mean_loss", "dev/pair_f1"))
    return np.array(means), np.array(scores)


def read_experiments(paths: Sequence[Path]) -> list[Experiment]:
    """Reads runs and groups them into experiments.

    `paths` are folders of grids (`rpcl grid`), their results.csv, or folders of runs. InputError if
    one is neither, or if two runs have the same config.
    """
    runs = [read_run(folder) for path in paths for folder in _run_folders(path)]
    experiments: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        experiment = experiments.setdefault(_common_config(run.config), {})
        of_objective = experiment.setdefault(run.config.objective, {})
        if run.config.seed in of_objective:
            raise InputError(
                f"{run.folder}: the same run as {of_objective[run.config.seed].folder}; "
                "give one of them"
            )
        of_objective[run.config.seed] = run
        first = next(iter(experiment.values()))
        check_same_data(run, next(iter(first.values())))
    return [Experiment(by_objective) for by_objective in experiments.values()]


def check_same_data(run: Run, other: Run) -> None:
    """Raises InputError if two runs of one corpus were trained on different data."""
    data = read_description(run.folder).get("data", {})
    if changed := changed_data(other.folder, data):
        raise InputError(
            f"{run.folder}: trained on other data than {other.folder} ({', '.join(changed)}); give "
            "runs of the same data"
        )


def _common_config(config: ConfigDict) -> str:
    """Returns what the configs of an experiment's runs have in common, as JSON."""
    # If a flag overrode a field that the objective sets, the run is of an experiment of its own.
    common = config.copy_and_resolve_references()  # ConfigDict(config) would share `rpcl`
    paper, own = base_config().rpcl, OBJECTIVES[config.objective]
    if all(common.rpcl[field] == value for field, value in own.items()):
        common.rpcl.update({field: paper[field] for field in own})
        common.objective = ""
    common.seed = 0
    return common.to_json(sort_keys=True)


def _run_folders(path: Path) -> list[Path]:
    """Returns the run folders in a grid, or the folder of a run itself."""
    if (path / "config.json").is_file():
        return [path]
    table = path if path.name == "results.csv" else path / "results.csv"
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a run, a grid or its results.csv")
    if not table.is_file():
        raise InputError(
            f"{path}: neither a run nor a grid. `rpcl grid` writes the results.csv of a grid, "
            "also from finished runs that are already in its --out."
        )
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    if not rows or "run" not in rows[0]:
        raise InputError(f"{table}: lists no runs; is it the results.csv of `rpcl grid`?")
    return [table.parent / row["run"] for row in rows]


def read_setting(argument: str) -> tuple[Experiment, str]:
    """Returns the experiment and the objective that `GRID:OBJECTIVE`, or a run, names."""
    if (Path(argument) / "config.json").is_file():
        (experiment,) = read_experiments([Path(argument)])
        return experiment, next(iter(experiment.runs))
    folder, _, objective = argument.rpartition(":")
    if not folder:
        raise InputError(
            f"{argument}: must be GRID:OBJECTIVE, for example runs/grid:rpcl, or a run's folder"
        )
    experiments = read_experiments([Path(folder)])
    if len(experiments) > 1:
        titles = "; ".join(experiment.title for experiment in experiments)
        raise InputError(f"{folder}: holds several experiments ({titles}); pass one of them")
    if objective not in experiments[0].runs:
        raise InputError(f"{folder}: has no {objective!r}; it has {', '.join(experiments[0].runs)}")
    return experiments[0], objective
