"""The last checkpoint of a run, which survives a kill at any time."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rpcl_jax.errors import InputError, file_errors


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turns the many exceptions that a damaged checkpoint causes in Orbax into an InputError."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"{folder}: a checkpoint cannot be read ({type(error).__name__}: {reason}); was the "
            "folder copied in part? Copy it again or train the run again"
        ) from error


@contextlib.contextmanager
def _one_failure() -> Iterator[None]:
    """Keeps TensorStore from printing a traceback for each array that it still writes.

    If one cannot be written, Orbax closes the event loop to which the threads that write the others
    report, and each of them then prints that it is closed.
    """
    shown = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = show
    yield
    sys.unraisablehook = shown  # not after a failure, which the threads outlive


def has_checkpoint(workdir: Path) -> bool:
    """Returns whether a run has a checkpoint, without making the folder as `Checkpoints` does."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


class Checkpoints:
    """The folder `workdir/checkpoints`, with the last checkpoint.

    Orbax writes to a temporary folder and renames it, so every visible checkpoint is complete.
    Saving is synchronous, because the training step donates the state that a background copy would
    still be reading. Reading a damaged checkpoint raises InputError.
    """

    def __init__(self, workdir: Path):
        self.folder = (workdir / "checkpoints").absolute()
        with _reading(self.folder):
            self._manager = ocp.CheckpointManager(
                self.folder,
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "progress": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=1, enable_async_checkpointing=False
                ),
            )

    def numbers(self) -> list[int]:
        """Returns the numbers of the checkpoints, the newest first; more than one after a kill."""
        return sorted(self._manager.all_steps(), reverse=True)

    def delete(self, number: int) -> None:
        """Deletes a checkpoint, if it cannot be read."""
        self._manager.delete(number)

    def save(self, number: int, state: Any, progress: dict) -> None:
        """Writes a checkpoint, with a number higher than before, then deletes the one before.

        `progress` is JSON-serialisable data that the training loop needs to resume.
        """
        with file_errors(self.folder), _one_failure():
            self._manager.save(
                number,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
                ),
                force=True,
            )

    def progress(self, number: int) -> dict:
        """Returns the `progress` that was passed to `save`."""
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        with _reading(self.folder):
            return self._manager.restore(number, args=args)["progress"]

    def restore(self, number: int, like: Any) -> Any:
        """Returns a checkpoint's state with the structure, shapes and shardings of `like`."""
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        with _reading(self.folder):
            return self._manager.restore(number, args=args)["state"]
