"""The story of a run: data, model, loop, result."""

import contextlib
import importlib.metadata
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rpcl_jax import workdir as run_folder
from rpcl_jax.checkpoint import Checkpoints
from rpcl_jax.compilation import Compiled
from rpcl_jax.data.corpus import load_corpus
from rpcl_jax.data.dialogue import EMOTION_CLASSES
from rpcl_jax.data.pipeline import Batches, make_batches
from rpcl_jax.encoder import load_text_encoder, with_text_vectors
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import report, score_split, write_predictions
from rpcl_jax.logger import RunLogger
from rpcl_jax.metrics import evaluate_split
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.objective import VARIANTS, Objective
from rpcl_jax.optimizer import make_optimizer
from rpcl_jax.parallel import (
    TrainState,
    make_mesh,
    make_score,
    make_train_step,
    put_batch,
    replicate,
)


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict:
    """Trains, or goes on training, and evaluates the best epoch.

    Args:
      config: what the run is; see configs/base.py.
      workdir: the run's folder. A finished run is not run again.

    Returns:
      What `result.json` holds.

    Raises:
      InputError: data, encoder or config are not as they should be, `workdir` is another run's, or
        another process is training in it.
    """
    check_config(config)
    run_folder.check_owner(workdir, config)
    with run_folder.locked(workdir):
        if (workdir / "result.json").exists():
            return run_folder.read_json(workdir / "result.json")
        return _train_and_evaluate(config, workdir)


def _train_and_evaluate(config: ConfigDict, workdir: Path) -> dict:
    started = time.perf_counter()
    corpus = load_corpus(config)
    mesh = make_mesh()
    encoder = load_text_encoder(config, corpus.splits["train"])
    checkpoints = Checkpoints(workdir)
    if checkpoints.last() is not None:
        read = run_folder.read_json(workdir / "model.json")["feature_tables"]
        for modality, table in corpus.tables.items():
            table.check_same_extractor(read[modality])
    run_folder.save_description(workdir, config, encoder, corpus.tables)
    statistics = {
        modality: table.statistics(corpus.splits["train"])
        for modality, table in corpus.tables.items()
    }
    corpus = with_text_vectors(corpus, encoder, config, mesh)
    batches = {
        split: make_batches(dialogues, encoder.tokenizer, corpus.tables, config, mesh.size)
        for split, dialogues in corpus.splits.items()
    }
    model = run_folder.build_model(config, encoder.config)

    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    state, optimizer = initial_state(
        init_key, config, model, batches["train"], encoder.params, statistics, mesh
    )
    root_key = replicate(run_key, mesh)

    progress: dict[str, Any] = {"epoch": 0, "best_epoch": 0, "best_pair_f1": -1.0, "seconds": 0.0}
    last = checkpoints.last()
    if last is not None:
        progress = checkpoints.progress(last)
        state = checkpoints.restore(last, state)
        print(f"continuing after epoch {last} of {config.epochs}", file=sys.stderr)
    seconds_before = progress["seconds"]

    steps_per_epoch = len(batches["train"])
    train_step = Compiled(
        make_train_step(model, objective_of(config), optimizer, mesh), "the training step"
    )
    score = Compiled(make_score(model, mesh), "the scoring function")
    step = progress["epoch"] * steps_per_epoch
    logger = RunLogger(
        workdir,
        config.epochs * steps_per_epoch,
        step,
        len(corpus.splits["train"]) / steps_per_epoch,
        functions=(train_step, score),
    )
    with contextlib.closing(logger):
        for epoch in range(progress["epoch"] + 1, config.epochs + 1):
            if epoch - 1 - progress["best_epoch"] >= config.patience:
                break
            for _, batch in batches["train"].epoch(config.seed, epoch):
                state, terms = train_step(state, root_key, put_batch(batch, mesh))
                step += 1
                logger.step(step, terms)
            dev = evaluate_split(score_split(score, state.params, batches["dev"], mesh), None)
            if dev["pair_f1"] > progress["best_pair_f1"]:
                progress |= {"best_epoch": epoch, "best_pair_f1": dev["pair_f1"]}
            seconds = seconds_before + time.perf_counter() - started
            progress |= {"epoch": epoch, "seconds": seconds}
            logger.epoch(epoch, config.epochs, step, dev)
            checkpoints.save(epoch, state, progress, keep=progress["best_epoch"])

    best = checkpoints.restore(progress["best_epoch"], state).params
    dev_scores, test_scores = (
        score_split(score, best, batches[split], mesh) for split in ("dev", "test")
    )
    numbers = report(dev_scores, test_scores, config)
    write_predictions(workdir, dev_scores, test_scores, numbers["threshold"])
    result = numbers | {
        "objective": config.objective,
        "modalities": config.modalities,
        "seed": config.seed,
        "best_epoch": progress["best_epoch"],
        "epochs": progress["epoch"],
        "seconds": seconds_before + time.perf_counter() - started,
        "device": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")},
    }
    run_folder.write_json(workdir / "result.json", result)
    return result


def initial_state(
    key: jax.Array,
    config: ConfigDict,
    model: PairExtractor,
    batches: Batches,
    pretrained: dict | None,
    statistics: Mapping[str, tuple[np.ndarray, np.ndarray]],
    mesh: Mesh,
) -> tuple[TrainState, optax.GradientTransformation]:
    """The state before the first step, on the devices of `mesh`, and its optimizer.

    Args:
      key: decides the parameters.
      config: of the run.
      model: from `workdir.build_model`.
      batches: of the training split.
      pretrained: parameters of the text encoder, or None to draw them like the rest.
      statistics: mean and deviation of the training split's features, by modality.
      mesh: the devices.
    """
    _, batch = batches.make(np.arange(1))
    params = dict(Compiled(jax.jit(model.init), "the initialisation")(key, batch)["params"])
    if pretrained is not None and model.encoder is not None:
        params["text_encoder"] = pretrained
    for modality, (mean, scale) in statistics.items():
        params["fusion"][modality] |= {"mean": jnp.asarray(mean), "scale": jnp.asarray(scale)}
    optimizer = make_optimizer(config.optimizer, config.epochs * len(batches))
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    return replicate(state, mesh), optimizer


def check_config(config: ConfigDict) -> None:
    """Raises InputError where a field of the config has a value that cannot be."""
    choices = {
        "objective": tuple(VARIANTS),
        "modalities": ("t", "ta", "tv", "tav"),
        "data.emotions": tuple(EMOTION_CLASSES),
        "data.candidates": ("past", "all"),
        "text.context": ("utterance", "dialogue"),
        "text.dtype": ("auto", "float32", "bfloat16"),
        "optimizer.schedule": ("constant", "linear"),
    }
    for field, known in choices.items():
        value = config
        for name in field.split("."):
            value = value[name]
        if value not in known:
            raise InputError(f"config.{field}: {value!r} is unknown; known: {', '.join(known)}")
    if config.text.max_tokens > config.text.row_length:
        raise InputError("config.text.row_length: must be at least config.text.max_tokens")
    if config.model.scorer_layers < 1:
        raise InputError(
            "config.model.scorer_layers: must be at least 1, or corruption changes no gold pair"
        )
    if config.batch_size % jax.device_count():
        raise InputError(
            f"config.batch_size: {config.batch_size} does not divide over "
            f"{jax.device_count()} devices; take a multiple"
        )


def objective_of(config: ConfigDict) -> Objective:
    """The weights of `config.rpcl` with the switches of the variant `config.objective`."""
    return Objective(**(config.rpcl.to_dict() | VARIANTS[config.objective]))
