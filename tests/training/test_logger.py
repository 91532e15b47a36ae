"""What a run writes while it trains, also after an interruption."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from rpcl_jax.training import logger as logger_module
from rpcl_jax.training.logger import RunLogger, read_epochs

STEPS, DIALOGUES = 4, 10


class Train:
    """In place of the batches of a training split."""

    examples = range(DIALOGUES)

    def __len__(self):
        return STEPS


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(
        logger_module,
        "time",
        SimpleNamespace(perf_counter=lambda: now.seconds, time=lambda: now.seconds),
    )
    return now


def start(workdir, epoch=0, compile_seconds=lambda: 0.0):
    return RunLogger(workdir, 3, epoch, 0, Train(), compile_seconds)


def log_step(logger, step):
    logger.step(step, {"loss": jnp.float32(step / 8), "supervised": jnp.float32(0.5)})


def log_epoch(logger, epoch):
    for step in range((epoch - 1) * STEPS + 1, epoch * STEPS + 1):
        log_step(logger, step)
    logger.epoch(logger.measure(epoch, {"pair_f1": 0.25 * epoch, "pair_auprc": 0.125}))


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_step_is_written_after_the_next_one_is_dispatched(tmp_path):
    logger = start(tmp_path)
    log_step(logger, 1)
    assert lines(tmp_path) == []
    log_step(logger, 2)
    assert lines(tmp_path) == [{"step": 1, "train/loss": 0.125, "train/supervised": 0.5}]
    logger.close()


def test_an_epoch_ends_with_its_last_step_its_metrics_and_its_rate(tmp_path, clock):
    compiled = SimpleNamespace(seconds=7.0)  # before the first epoch, as the initialisation
    logger = start(tmp_path, compile_seconds=lambda: compiled.seconds)
    clock.seconds += 24.0
    compiled.seconds += 20.0  # 4 of 24 seconds are left for 10 dialogues
    log_epoch(logger, 1)
    clock.seconds += 5.0
    log_epoch(logger, 2)
    logger.close()
    written = lines(tmp_path)
    assert [line["step"] for line in written] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert written[3]["train/loss"] == 0.5
    first = {"epoch": 1, "mean_loss": 0.3125, "seconds": 4.0, "dialogues_per_second": 2.5}
    assert written[4] == {"step": 4, "dev/pair_f1": 0.25, "dev/pair_auprc": 0.125} | first
    assert (written[9]["seconds"], written[9]["dialogues_per_second"]) == (5.0, 2.0)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 3, "mean_lo')  # it is still being written
    assert read_epochs(tmp_path / "metrics.jsonl") == [written[4], written[9]]
    assert read_epochs(tmp_path / "nosuch") == []


def test_without_a_terminal_every_epoch_is_a_line(tmp_path, clock, capsys):
    logger = start(tmp_path)
    clock.seconds += 30.0
    log_epoch(logger, 1)
    clock.seconds += 30.0
    log_epoch(logger, 2)
    logger.close()
    # The losses of the steps are 0.125 times 1 to 4, and times 5 to 8.
    assert capsys.readouterr().err == (
        "epoch 1/3  loss 0.312  validation Pair F1 25.00  AUPRC 12.50  0.3 dialogues/s  "
        "at most 1.0 min left\n"
        "epoch 2/3  loss 0.812  validation Pair F1 50.00  AUPRC 12.50  0.3 dialogues/s  "
        "at most 0.5 min left\n"
    )


def test_what_was_logged_after_the_checkpoint_is_dropped(tmp_path):
    logger = start(tmp_path)
    for epoch in (1, 2):
        log_epoch(logger, epoch)
    logger.close()
    first_epoch = lines(tmp_path)[: STEPS + 1]
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{}\n[]\n\n{"step": "1"}\n\xff\n{"step": 1, "train/lo')  # a kill cut it short

    logger = start(tmp_path, epoch=1)
    assert lines(tmp_path) == first_epoch
    log_epoch(logger, 2)
    logger.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
