"""The last checkpoint is kept, and what is restored is what was saved."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from shared import IMPORTABLE, run_python

from rpcl_jax.errors import InputError
from rpcl_jax.training.checkpoint import Checkpoints
from rpcl_jax.training.mesh import make_mesh, replicate

# A limit for the size of files fails as a full disk does, while other arrays are being written.
FULL = """
import logging, resource, sys, time
from pathlib import Path
import numpy as np
from rpcl_jax.training.checkpoint import Checkpoints
logging.disable()  # Orbax logs the error itself; commands do not show it
checkpoints = Checkpoints(Path(sys.argv[1]))
random = np.random.default_rng(0)
state = {str(k): random.random(20_000) for k in range(200)}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(1, state, {})
except OSError as error:
    print(error.filename)
    time.sleep(2)  # while the threads that write the others end
"""


def state_of(epoch):
    return {"step": jnp.int32(epoch), "w": jnp.full(4, epoch / 3, jnp.float32)}


def save(checkpoints, epoch):
    checkpoints.save(epoch, state_of(epoch), {"epoch": epoch, "seconds": 0.1 * epoch})


def kept(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def check_whole(checkpoints, epoch):
    restored = checkpoints.restore(epoch, jax.tree.map(jnp.zeros_like, state_of(epoch)))
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(epoch))
    assert checkpoints.progress(epoch) == {"epoch": epoch, "seconds": 0.1 * epoch}


def test_the_last_is_kept(tmp_path):
    assert Checkpoints(tmp_path).numbers() == []
    checkpoints = Checkpoints(tmp_path)
    for epoch in (1, 2, 3, 4):
        if epoch == 3:
            checkpoints = Checkpoints(tmp_path)  # as of a run that continues
            assert checkpoints.numbers() == [2]
        save(checkpoints, epoch)
        assert checkpoints.numbers() == [epoch]
        assert kept(tmp_path) == [epoch]
    check_whole(Checkpoints(tmp_path), 4)


def test_a_state_is_restored_to_the_devices_of_another_mesh(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    saved = replicate(state_of(1), make_mesh(8))
    checkpoints.save(1, saved, {})
    like = replicate(jax.tree.map(jnp.zeros_like, state_of(1)), make_mesh(2))
    restored = Checkpoints(tmp_path).restore(1, like)
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(1))
    for name, array in restored.items():
        assert array.sharding == like[name].sharding


def test_the_folder_of_a_run_may_be_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Checkpoints(Path("run")), 1)
    check_whole(Checkpoints(tmp_path / "run"), 1)


def test_a_checkpoint_that_cannot_be_written_names_the_folder(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def full_disk(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: [os_error_code='28']")  # as TensorStore does

    monkeypatch.setattr(ocp.CheckpointManager, "save", full_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        save(checkpoints, 1)
    assert raised.value.filename == str(tmp_path / "checkpoints")


def test_a_saved_state_may_be_donated_at_once(tmp_path):
    """Saving is over when `save` returns: nothing reads the state afterwards."""
    checkpoints = Checkpoints(tmp_path)
    state = state_of(1)
    checkpoints.save(1, state, {})
    for array in state.values():
        array.delete()
    restored = checkpoints.restore(1, jax.tree.map(jnp.zeros_like, state_of(1)))
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(1))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    """As of a run that was copied in part; which of Orbax's files matter is Orbax's business."""
    save(Checkpoints(tmp_path), 1)
    refused = []
    for path in sorted(p for p in (tmp_path / "checkpoints/1").rglob("*") if p.is_file()):
        whole = path.read_bytes()
        path.write_bytes(b"")
        try:
            check_whole(Checkpoints(tmp_path), 1)
        except InputError as error:
            refused.append((path.name, str(error)))
        path.write_bytes(whole)
    assert {"metadata", "manifest.ocdbt"} <= {name for name, _ in refused}
    for _, message in refused:
        assert message.startswith(f"{tmp_path / 'checkpoints'}: a checkpoint cannot be read")
        assert "\n" not in message
    check_whole(Checkpoints(tmp_path), 1)


@pytest.mark.slow
def test_a_full_disk_is_one_error_without_tracebacks(tmp_path):
    done = run_python("-c", FULL, tmp_path, environment=IMPORTABLE)  # refuses a traceback
    assert done.stdout == f"{tmp_path / 'checkpoints'}\n"
