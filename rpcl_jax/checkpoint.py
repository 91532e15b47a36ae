"""Checkpoints of a run: the last and the best epoch, written so that a kill loses neither."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rpcl_jax.errors import file_errors


class Checkpoints:
    """The folder `workdir/checkpoints`, one numbered checkpoint per kept epoch.

    Orbax writes to a temporary folder and renames it, so what is seen is whole. Saving is
    synchronous: the training step donates its state, which a background copy would still read.
    """

    def __init__(self, workdir: Path):
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False),
        )

    def last(self) -> int | None:
        """The newest whole checkpoint's epoch, None if there is none."""
        return self._manager.latest_step()

    def save(self, epoch: int, state: Any, progress: dict, keep: int) -> None:
        """Writes a checkpoint, then deletes all others but that of epoch `keep`.

        Args:
          epoch: epochs done, the checkpoint's number.
          state: pytree of arrays.
          progress: what the loop must know to go on; JSON.
          keep: epoch of the best checkpoint, which may be this one.

        Raises:
          OSError: the checkpoint cannot be written, as on a full disk.
        """
        with file_errors(self._manager.directory):
            self._manager.save(
                epoch,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
                ),
                force=True,
            )
        for other in self._manager.all_steps():
            if other not in (epoch, keep):
                self._manager.delete(other)

    def progress(self, epoch: int) -> dict:
        """What `save` was given as `progress`."""
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        return self._manager.restore(epoch, args=args)["progress"]

    def restore(self, epoch: int, like: Any) -> Any:
        """The state of an epoch; `like` is a pytree of arrays or shapes with their shardings."""
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        return self._manager.restore(epoch, args=args)["state"]

    def restore_state(self, epoch: int) -> dict:
        """An epoch's TrainState as nested dicts of arrays, whatever devices wrote it."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        return self._manager.restore(epoch, args=args)["state"]
