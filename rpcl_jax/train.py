"""Training: a run from its config to its result."""

import contextlib
import importlib.metadata
import itertools
import logging
import platform
import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.errors import InputError
from rpcl_jax.evaluate import write_predictions
from rpcl_jax.evaluation.inference import make_score, score_split
from rpcl_jax.evaluation.metrics import best_emotion_threshold, evaluate_split
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.evaluation.split_numbers import result_numbers
from rpcl_jax.files import write_json
from rpcl_jax.models.adapters import combine, separate_frozen
from rpcl_jax.models.ecpe import BACKBONE, PairExtractor
from rpcl_jax.models.pretrained import WEIGHTS
from rpcl_jax.models.text_encoder import ENCODER
from rpcl_jax.readers.corpus import Corpus, load_corpus
from rpcl_jax.run.compilation import Compiled
from rpcl_jax.run.config import build_model, check_config, objective_of, to_json
from rpcl_jax.run.hosts import agree
from rpcl_jax.run.model_folder import (
    TrainedRun,
    by_name,
    config_digest,
    read_parameters,
    save_parameters,
)
from rpcl_jax.run.text_encoder import (
    LoadedEncoder,
    corpus_batches,
    describe_data,
    load_text_encoder,
)
from rpcl_jax.run.warm_start import check_start, load_start, read_words, start_parameters
from rpcl_jax.run.workdir import (
    begin_run,
    check_data,
    check_owner,
    data_digests,
    locked_run,
    read_result,
)
from rpcl_jax.training.checkpoint import Checkpoints, has_checkpoint
from rpcl_jax.training.logger import RunLogger, SilentLogger
from rpcl_jax.training.mesh import (
    barrier,
    device_count,
    from_main_process,
    is_main_process,
    make_mesh,
    put_batch,
    replicate,
    replicate_key,
)
from rpcl_jax.training.optimizer import make_optimizer
from rpcl_jax.training.step import TrainState, initial_state, make_train_step

_LOG = logging.getLogger(__name__)


@dataclass
class Progress:
    """What the loop needs to continue after an epoch; saved with every checkpoint."""

    epoch: int = 0  # epochs done
    step: int = 0  # steps done of the epoch after these
    best_epoch: int = 0
    best_pair_f1: float = -1.0  # on validation
    threshold: float = 0.0  # of the best epoch
    emotion_threshold: float = 0.0  # the same of naming emotions
    seconds: float = 0.0  # of all processes that trained the run
    devices: int = 0  # on which the last epoch was trained
    config: str = ""  # digest of the config and the emotions
    start_pair_f1: float = -1.0  # on validation, of the model that the run goes on from
    # What the log says of the last epoch; it is written after the checkpoint.
    logged: dict[str, float] = field(default_factory=dict)

    def is_over(self, config: ConfigDict) -> bool:
        """Returns whether all epochs are done, or `patience` epochs brought nothing better."""
        stopped_early = config.patience and self.epoch - self.best_epoch >= config.patience
        return bool(self.epoch >= config.epochs or stopped_early)


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict:
    """Trains a run, or continues it, and evaluates its best epoch; a finished run is not repeated.

    Returns the contents of `result.json`; in other processes than the first, nothing.

    Raises:
      InputError: the data, the encoder or the config is wrong, `workdir` belongs to another run,
        another process is training in it, or the processes of a distributed run disagree.
    """
    started = time.perf_counter()
    check_config(config)
    _check_numerics()
    check_owner(workdir, config)
    finished = (workdir / "result.json").exists()
    begun = has_checkpoint(workdir)
    seen = [finished, begun]
    agree("the config or the folder of the run", lambda: [to_json(config), seen, _versions()])
    if finished:
        if not (workdir / WEIGHTS).exists():
            raise InputError(
                f"{workdir}: finished, but without its {WEIGHTS}; copy that again, or delete the "
                "folder to train anew"
            )
        _check_same_data(config, workdir)
        _LOG.info(f"{workdir}: finished before; to train anew, delete it")
        return read_result(workdir, config) if is_main_process() else {}
    mesh = _make_mesh(config)
    start = load_start(config, mesh) if config.init and not begun else None
    corpus = load_corpus(config, check_values=is_main_process())
    _check_gold_pairs(corpus)
    words = read_words(start.folder if start else workdir) if config.init else None
    encoder = load_text_encoder(config, corpus.splits["train"], words)
    if start:
        check_start(start, encoder, corpus, config)
    agree("the data, the features or the encoder", lambda: describe_data(corpus, encoder, config))
    with locked_run(workdir) if is_main_process() else contextlib.nullcontext():
        _train_and_evaluate(config, workdir, mesh, corpus, encoder, start, started)
    barrier()  # the first process writes
    # A network file system may still hide the file from processes that looked for it before.
    return read_result(workdir, config) if is_main_process() else {}


def _check_numerics() -> None:
    """Raises InputError where JAX is set to compute other numbers than by default."""
    for setting, usual in (
        ("jax_enable_x64", False),
        ("jax_threefry_partitionable", True),
        ("jax_default_prng_impl", "threefry2x32"),
        ("jax_default_matmul_precision", None),
    ):
        if (value := getattr(jax.config, setting)) != usual:
            raise InputError(
                f"{setting} is {value!r}, with which the same seed gives other numbers; set it to "
                f"{usual!r}"
            )


def _check_gold_pairs(corpus: Corpus) -> None:
    for split, use in (("train", "learned"), ("dev", "chosen by its Pair F1")):
        if not any(dialogue.pairs for dialogue in corpus.splits[split]):
            raise InputError(
                f"{split}: has no gold pair, so nothing can be {use}; `rpcl convert --cut` cuts "
                "other splits"
            )


def _check_same_data(config: ConfigDict, workdir: Path) -> None:
    try:
        digests = data_digests(load_corpus(config, check_values=False), is_main_process())
    except InputError as error:
        _LOG.warning(f"{workdir}: whether its data have changed is unknown ({error.args[0]})")
    else:
        check_data(workdir, digests)


def _train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    mesh: Mesh,
    corpus: Corpus,
    encoder: LoadedEncoder,
    start: TrainedRun | None,
    started: float,
) -> None:
    checkpoints = Checkpoints(workdir)  # makes a folder, so only when the input has been accepted
    agree("the checkpoints in the folder of the run", checkpoints.numbers)  # or it is not shared
    if config.init and start is None and not checkpoints.numbers():
        raise InputError(f"{workdir}: its checkpoints are not whole; delete the folder")
    begin_run(workdir, config, encoder, corpus, begun=bool(checkpoints.numbers()))
    batches = corpus_batches(encoder, corpus, config, mesh)
    train, steps = batches["train"], len(batches["train"])

    model = build_model(config, encoder.config, corpus.emotions)
    optimizer = make_optimizer(config.optimizer, config.epochs * steps)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    params, frozen = _draw_parameters(model, init_key, train, encoder, corpus, start)
    frozen = replicate(frozen, mesh)
    shapes = {name: leaf.shape for name, leaf in by_name(params).items()}
    digest = config_digest(to_json(config), corpus.emotions)
    state = initial_state(params, optimizer, mesh)
    state, progress = _resume(checkpoints, state, config, digest, mesh)
    del params
    if progress.best_epoch == progress.epoch > 0 and not progress.step:
        _save_best(workdir, state, progress)  # which may have been killed after the checkpoint
    elif progress.epoch:
        _read_best(workdir, shapes, progress, later=True)  # fail early
    started -= progress.seconds
    root_key = replicate_key(run_key, mesh)
    _LOG.info(f"training on {_name(mesh)}")
    jitted = make_train_step(
        model, objective_of(config), optimizer, mesh, config.data.modality_dropout
    )
    train_step = Compiled(jitted, "the training step")
    score = Compiled(make_score(model, mesh), "the scoring function")

    def validate(params: dict[str, Any]) -> tuple[list[ScoredDialogue], dict[str, Any]]:
        dev = score_split(score, combine(params, frozen), batches["dev"], mesh)
        return dev, evaluate_split(dev, None, corpus.emotions)

    if start:
        progress.start_pair_f1 = validate(state.params)[1]["pair_f1"]
        _LOG.info(f"before training: validation Pair F1 {100 * progress.start_pair_f1:.2f}")

    logger = (RunLogger if is_main_process() else SilentLogger)(
        workdir,
        config.epochs,
        progress.epoch,
        progress.step,
        train,
        lambda: train_step.seconds + score.seconds,
    )

    def save(state: TrainState) -> None:
        progress.seconds = time.perf_counter() - started
        # One number more in an epoch than it has steps, for the one at its end.
        number = progress.epoch * (steps + 1) + progress.step
        checkpoints.save(number, state, asdict(progress))

    with contextlib.closing(logger), _Interruptions(config.checkpoint_minutes) as interruptions:
        logger.epoch(progress.logged)
        while not progress.is_over(config):
            epoch = progress.epoch + 1
            rest = itertools.islice(train.epoch(config.seed, epoch), progress.step, None)
            for step, (_, batch) in enumerate(rest, progress.step + 1):
                state, terms = train_step(state, root_key, put_batch(batch, mesh), frozen)
                logger.step(progress.epoch * steps + step, terms)
                if interruptions.due(progress.epoch * steps + step):
                    progress.step = step
                    logger.flush()
                    save(state)
                    interruptions.saved(f"step {step} of {steps} of epoch {epoch}")
            dev, numbers = validate(state.params)
            if numbers["pair_f1"] > progress.best_pair_f1:
                progress.best_epoch, progress.best_pair_f1 = epoch, numbers["pair_f1"]
                progress.threshold = numbers["threshold"]
                progress.emotion_threshold = best_emotion_threshold(
                    dev, numbers["threshold"], corpus.emotions
                )
            progress.epoch, progress.step = epoch, 0
            progress.logged = logger.measure(epoch, numbers)
            # First: what a kill leaves out after it, the model and the log, is made up for from it.
            save(state)
            if progress.best_epoch == epoch:
                _save_best(workdir, state, progress)
            logger.epoch(progress.logged)

    if progress.best_pair_f1 < progress.start_pair_f1:
        _LOG.warning(
            f"no epoch is as good on validation as {config.init} was before training: its Pair F1 "
            f"was {100 * progress.start_pair_f1:.2f}; train with a lower rate, or keep that model"
        )
    del state
    barrier()  # the first process writes the model
    best = combine(replicate(_read_best(workdir, shapes, progress), mesh), frozen)
    dev, test = (score_split(score, best, batches[split], mesh) for split in ("dev", "test"))
    if is_main_process():
        result = result_numbers(dev, test, corpus.emotions, corpus.names, **config.diagnostics)
        write_predictions(workdir, dev, test, result["threshold"], corpus.emotions)
        progress.seconds = time.perf_counter() - started
        write_json(workdir / "result.json", result | _facts(config, progress, mesh))


def _make_mesh(config: ConfigDict) -> Mesh:
    visible = device_count()
    if config.devices > visible:
        raise InputError(
            f"config.devices: {config.devices} devices requested, but only {visible} visible; "
            "lower it"
        )
    if jax.process_count() > 1 and config.devices not in (0, visible):
        raise InputError(
            f"config.devices: with --distributed, all {visible} devices of all hosts train; leave "
            "it out"
        )
    mesh = make_mesh(config.devices or visible)
    if config.batch_size % mesh.size:
        raise InputError(
            f"config.batch_size: {config.batch_size} dialogues cannot be divided evenly among "
            f"{mesh.size} devices; take a multiple, such as "
            f"{mesh.size * -(-config.batch_size // mesh.size)}, or fewer devices (--config.devices)"
        )
    return mesh


def _draw_parameters(
    model: PairExtractor,
    key: jax.Array,
    train: Batches,
    encoder: LoadedEncoder,
    corpus: Corpus,
    start: TrainedRun | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the initial parameters: random, pretrained, and the features' normalisation.

    Those of `start`, the model to go on from, replace them. First come those that are trained, and
    then those of an encoder that has adapters. Those of `encoder` and `start` are moved, which
    leaves them empty.
    """
    _, batch = train.make(np.arange(1))
    params = dict(Compiled(jax.jit(model.init), "the initialisation")(key, batch)["params"])
    if encoder.params is not None and ENCODER in params:
        params[ENCODER] = combine(params[ENCODER], encoder.params)
        encoder.params.clear()  # or they would be in memory twice
    if start:
        return separate_frozen(start_parameters(start, params, corpus.emotions))
    for modality, table in corpus.tables.items():
        # Computed once; the other processes use only the rows of their batches.
        normalisation = np.zeros((2, table.dimension), np.float32)
        if is_main_process():
            normalisation = np.stack(table.normalisation(corpus.splits["train"]))
        mean, scale = from_main_process(normalisation)
        params[BACKBONE][modality] |= {"mean": mean, "scale": scale}
    return separate_frozen(params)


def _resume(
    checkpoints: Checkpoints, state: TrainState, config: ConfigDict, digest: str, mesh: Mesh
) -> tuple[TrainState, Progress]:
    """Returns state and progress of the last checkpoint; without one, `state` and no progress."""
    found = checkpoints.numbers()
    if not found:
        return state, Progress(devices=mesh.size, config=digest)
    for number in found:
        try:
            progress = Progress(**checkpoints.progress(number))
            state = checkpoints.restore(number, state)
            break
        except InputError as error:
            if number == found[-1]:
                raise
            _LOG.warning(f"{error}; going on from the checkpoint before it")
            checkpoints.delete(number)
    if progress.config != digest:
        raise InputError(
            f"{checkpoints.folder}: of a run with another config or other emotions; restore the "
            "folder, or delete the whole run to train anew"
        )
    step = f", step {progress.step}" if progress.step else ""
    _LOG.info(f"continuing after epoch {progress.epoch} of {config.epochs}{step}")
    if progress.devices != mesh.size:
        _LOG.warning(
            f"the number of devices changed from {progress.devices} to {mesh.size}: from here on, "
            "other elements are dropped out and other utterances corrupted than in a run that was "
            "not interrupted"
        )
    progress.devices = mesh.size
    return state, progress


class _Interruptions:
    """When to save a checkpoint within an epoch: every so many minutes, and after a SIGTERM.

    While it is entered, a SIGTERM does not end the process at once.
    """

    def __init__(self, minutes: float):
        self._seconds, self._saved = 60 * minutes, time.perf_counter()
        self._terminated = False
        # The others of a distributed run must stop after the same step; JAX's service, which
        # catches the signal in all of them, tells which.
        self._distributed = jax.distributed.is_initialized()
        self._catches = (
            not self._distributed and threading.current_thread() is threading.main_thread()
        )

    def __enter__(self) -> Self:
        if self._catches:
            self._before = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        if self._catches:
            signal.signal(signal.SIGTERM, self._before)

    def _terminate(self, *_: object) -> None:
        self._terminated = True

    def due(self, step: int) -> bool:
        """Returns whether to save after this step, counted over all epochs; `saved` must follow."""
        due = bool(self._seconds) and time.perf_counter() - self._saved >= self._seconds
        if self._distributed:
            self._terminated |= multihost_utils.reached_preemption_sync_point(step)
            # Not each time: the first process tells the others, for which the devices wait.
            due = bool(self._seconds and step % 10 == 0 and from_main_process(np.array(due)))
        return due or self._terminated

    def saved(self, where: str) -> None:
        """Ends the process after a SIGTERM, with the status that shells report for one."""
        self._saved = time.perf_counter()
        if self._terminated:
            _LOG.warning(f"ended by SIGTERM after {where}; the same command continues there")
            raise SystemExit(128 + signal.SIGTERM)


def _save_best(workdir: Path, state: TrainState, progress: Progress) -> None:
    if not is_main_process():
        return
    for left in workdir.glob(f"{WEIGHTS}.*.tmp"):  # by a process that was killed here
        left.unlink()
    save_parameters(
        workdir,
        state.params,
        epoch=progress.best_epoch,
        threshold=progress.threshold,
        emotion_threshold=progress.emotion_threshold,
    )


def _read_best(
    workdir: Path, shapes: dict[str, tuple[int, ...]], progress: Progress, later: bool = False
) -> dict[str, Any]:
    """Returns the parameters of the best epoch.

    With `later`, they may be of an epoch that is still to come: where a checkpoint could not be
    read, that epoch is trained again.
    """
    params, facts = read_parameters(workdir / WEIGHTS, shapes)
    epoch = facts.get("epoch")
    if epoch != progress.best_epoch and not (later and epoch and epoch > progress.epoch):
        raise InputError(
            f"{workdir / WEIGHTS}: not of the run's best epoch, {progress.best_epoch}; was the "
            "folder copied in part? Copy it again or train the run again"
        )
    return params


def _facts(config: ConfigDict, progress: Progress, mesh: Mesh) -> dict[str, Any]:
    """Returns what `result.json` holds besides the metrics."""
    return {
        "objective": config.objective,
        "modalities": config.modalities,
        "seed": config.seed,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "seconds": progress.seconds,
        "device": _name(mesh),
        "versions": _versions(),
    }


def _name(mesh: Mesh) -> str:
    return f"{mesh.size} x {mesh.devices.flat[0].device_kind}"


def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }
