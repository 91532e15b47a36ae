"""Logs a run: progress bar or plain lines, metrics.jsonl and TensorBoard events."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.errors import InputError
from rpcl_jax.files import atomic_write, parse_object

_LOG = logging.getLogger(__name__)
# Called in the first process with every line of metrics.jsonl: its step, and its numbers by name.
hooks: list[Callable[[int, Mapping[str, float]], object]] = []

# tensorboardX would import PyTorch, which takes seconds, for a type hint.
_HIDDEN = "torch" not in sys.modules
if _HIDDEN:
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar
finally:
    if _HIDDEN:
        del sys.modules["torch"]


class RunLogger:
    """Logs a run's progress.

    The metrics of a step are fetched only after the next step has been dispatched, so that the
    device never waits for the host.
    """

    def __init__(
        self,
        workdir: Path,
        epochs: int,
        epoch: int,
        step: int,
        train: Batches,
        compile_seconds: Callable[[], float],
    ):
        """Continues after `step` steps beyond `epoch`, and deletes what was logged after these.

        `compile_seconds` returns the time spent on compilation so far, which rate and time left
        leave out.
        """
        begun = epoch * len(train)
        step += begun
        path = workdir / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        lines = [line for line in lines if _step_of(line) <= step]
        with atomic_write(path) as file:
            file.writelines(line + b"\n" for line in lines)
        logged = [json.loads(line) for line in lines]
        self._losses = [e["train/loss"] for e in logged if "train/loss" in e and e["step"] > begun]
        self._last_epoch = max((e["epoch"] for e in logged if "epoch" in e), default=0)
        self._file = path.open("a", buffering=1, encoding="utf-8")
        # SummaryWriter would hang on a full disk: its thread dies and its queue then blocks.
        self._events = EventsWriter(str(workdir / "events"))
        start = SessionLog(status=SessionLog.START)  # makes TensorBoard discard later events
        self._events.write_event(Event(step=step + 1, session_log=start))
        self._epochs = epochs
        self._steps, self._dialogues = len(train), len(train.examples)
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._shown: dict[str, str] = {}
        terminal = sys.stderr.isatty() and _LOG.isEnabledFor(logging.INFO)
        self._bar = tqdm(
            total=epochs * len(train),
            initial=step,
            unit="step",
            disable=not terminal,
            leave=False,
        )
        self._compile_seconds = compile_seconds
        self._since = self._clock()

    def _clock(self) -> float:
        """Returns the elapsed seconds without compilation."""
        return time.perf_counter() - self._compile_seconds()

    def step(self, step: int, terms: dict[str, jax.Array]) -> None:
        """Takes the metrics of the step just dispatched and writes those of the previous step."""
        self._write_pending((step, terms))
        self._bar.update()

    def _write_pending(self, then: tuple[int, dict[str, jax.Array]] | None = None) -> None:
        pending, self._pending = self._pending, then
        if pending is not None:
            step, terms = pending
            values = {name: float(value) for name, value in jax.device_get(terms).items()}
            self._write(step, {f"train/{name}": value for name, value in values.items()})
            self._losses.append(values["loss"])
            self._show(loss=f"{values['loss']:.3f}")

    def flush(self) -> None:
        """Writes what is known of the steps so far."""
        self._write_pending()

    def measure(self, epoch: int, metrics: dict[str, float]) -> dict[str, float]:
        """Returns what the log says of an epoch that has just ended, with validation metrics."""
        self._write_pending()
        now = self._clock()
        seconds, self._since = now - self._since, now
        rate, loss = self._dialogues / seconds, sum(self._losses) / self._steps
        self._losses = []
        values = {f"dev/{name}": value for name, value in metrics.items()}
        values |= {"epoch": epoch, "mean_loss": loss, "seconds": seconds}
        return values | {"dialogues_per_second": rate}

    def epoch(self, values: Mapping[str, float]) -> None:
        """Writes what `measure` returned, also as a line, unless it is there before a kill."""
        if not values or values["epoch"] <= self._last_epoch:
            return
        self._last_epoch = int(values["epoch"])
        self._write(self._last_epoch * self._steps, values)
        self._events.flush()
        rate = f"{values['dialogues_per_second']:.1f}/s"
        self._show(F1=f"{100 * values['dev/pair_f1']:.2f}", dialogues=rate)
        _LOG.info(epoch_line(values, self._epochs))

    def close(self) -> None:
        """Closes the progress bar and the files."""
        self._bar.close()
        self._file.close()
        self._events.close()

    def _show(self, **values: str) -> None:
        self._shown |= values
        self._bar.set_postfix(self._shown, refresh=False)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
            self._events.write_event(event)
        for hook in hooks:
            hook(step, values)


class SilentLogger:
    """The logger of every process but the first."""

    def __init__(self, *_: Any):
        pass

    def step(self, *_: Any) -> None:
        """Does nothing."""

    epoch = flush = close = step

    def measure(self, *_: Any) -> dict[str, float]:
        """Returns nothing."""
        return {}


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Returns what a `metrics.jsonl`, which may still grow, says of each epoch."""
    epochs = []
    for line in path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []:
        if '"epoch"' in line:
            with contextlib.suppress(InputError):  # half written
                epochs.append(parse_object(line, path.name, {"epoch": int}))
    return epochs


def epoch_line(epoch: Mapping[str, Any], epochs: int) -> str:
    """Returns one of `read_epochs`, of a run of so many `epochs`, as a line."""
    return (
        f"epoch {epoch['epoch']}/{epochs}  loss {epoch['mean_loss']:.3f}  "
        f"validation Pair F1 {100 * epoch['dev/pair_f1']:.2f}  "
        f"AUPRC {100 * epoch['dev/pair_auprc']:.2f}  "
        f"{epoch['dialogues_per_second']:.1f} dialogues/s  "
        f"at most {(epochs - epoch['epoch']) * epoch['seconds'] / 60:.1f} min left"
    )


def _step_of(line: bytes) -> float:
    """Returns the step of a line of metrics.jsonl, or infinity if the line is damaged."""
    try:
        return parse_object(line.decode(), "metrics.jsonl", {"step": int})["step"]
    except ValueError:  # InputError or UnicodeDecodeError
        return float("inf")
