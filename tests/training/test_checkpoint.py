"""Which checkpoints are kept, and that what is restored is what was saved."""

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
    checkpoints.save(1, state, {}, 0.5)
except OSError as error:
    print(error.filename)
    time.sleep(2)  # while the threads that write the others end
"""


def state_of(epoch):
    return {"step": jnp.int32(epoch), "w": jnp.full(4, epoch / 3, jnp.float32)}


def save(checkpoints, epoch, pair_f1):
    checkpoints.save(epoch, state_of(epoch), {"epoch": epoch, "seconds": 0.1 * epoch}, pair_f1)


def kept(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def check_whole(checkpoints, epoch):
    restored = checkpoints.restore(epoch, jax.tree.map(jnp.zeros_like, state_of(epoch)))
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(epoch))
    assert checkpoints.progress(epoch) == {"epoch": epoch, "seconds": 0.1 * epoch}


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([0.2, 0.5, 0.3, 0.1], [[1], [2], [2, 3], [2, 4]]),  # best in the middle
        ([0.5, 0.2, 0.3], [[1], [1, 2], [1, 3]]),  # at the beginning
        ([0.1, 0.2, 0.3], [[1], [2], [3]]),  # at the end
        ([0.1, 0.4, 0.4, 0.3], [[1], [2], [2, 3], [2, 4]]),  # of equals, the earlier
        ([0.0, 0.0, 0.0], [[1], [1, 2], [1, 3]]),
        ([0.1, 0.4, 0.2, 0.5, 0.3], [[1], [2], [2, 3], [4], [4, 5]]),  # a second best goes
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, scores, wanted):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.last() is None
    for epoch, (pair_f1, there) in enumerate(zip(scores, wanted, strict=True), 1):
        save(checkpoints, epoch, pair_f1)
        assert checkpoints.last() == epoch
        assert kept(tmp_path) == there
    for epoch in wanted[-1]:
        check_whole(checkpoints, epoch)


@pytest.mark.parametrize(
    ("later", "wanted"), [((0.3, 0.4), [2, 5]), ((0.4, 0.3), [2, 5]), ((0.6, 0.1), [4, 5])]
)
def test_a_folder_that_is_opened_again_keeps_the_right_ones(tmp_path, later, wanted):
    checkpoints = Checkpoints(tmp_path)
    for epoch, pair_f1 in enumerate((0.2, 0.4, 0.1), 1):
        save(checkpoints, epoch, pair_f1)
    for epoch, pair_f1 in enumerate(later, 4):
        checkpoints = Checkpoints(tmp_path)  # each epoch by a process of its own
        assert checkpoints.last() == epoch - 1
        save(checkpoints, epoch, pair_f1)
    assert kept(tmp_path) == wanted
    for epoch in wanted:
        check_whole(Checkpoints(tmp_path), epoch)


def test_checkpoints_without_metrics_can_be_continued(tmp_path):
    """Version 0.1 stored no metrics; the best epoch of its runs must survive."""
    old = ocp.CheckpointManager(
        (tmp_path / "checkpoints").absolute(),
        options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False),
    )
    for epoch in (2, 5):
        progress = {"epoch": epoch, "seconds": 0.1 * epoch}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state_of(epoch)), progress=ocp.args.JsonSave(progress)
        )
        old.save(epoch, args=args, force=True)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.last() == 5
    check_whole(checkpoints, 2)
    check_whole(checkpoints, 5)
    for epoch, pair_f1 in ((6, 0.3), (7, 0.2), (8, 0.1)):
        save(Checkpoints(tmp_path), epoch, pair_f1)
        assert {2, epoch} <= set(kept(tmp_path))
    assert {2, 6, 8} <= set(kept(tmp_path))
    assert 7 not in kept(tmp_path)
    for epoch in (2, 6, 8):
        check_whole(Checkpoints(tmp_path), epoch)


def test_a_state_is_restored_to_the_devices_of_another_mesh(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    saved = replicate(state_of(1), make_mesh(8))
    checkpoints.save(1, saved, {}, 0.5)
    like = replicate(jax.tree.map(jnp.zeros_like, state_of(1)), make_mesh(2))
    restored = Checkpoints(tmp_path).restore(1, like)
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(1))
    for name, array in restored.items():
        assert array.sharding == like[name].sharding


def test_parameters_are_restored_as_nested_dicts_without_the_rest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    params = {"part": {"w": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(2)}
    moments = jax.tree.map(jnp.negative, params)
    state = {"params": params, "optimizer_state": [{"mu": moments}], "step": jnp.int32(3)}
    checkpoints.save(1, replicate(state, make_mesh(8)), {}, 0.5)
    restored = Checkpoints(tmp_path).restore_params(1, make_mesh(1))
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, restored, params)
    assert {len(array.devices()) for array in jax.tree.leaves(restored)} == {1}


def test_an_epoch_is_not_silently_left_out(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 2, 0.5)
    save(checkpoints, 1, 0.6)  # Orbax would skip a step before the last one
    check_whole(checkpoints, 1)


def test_the_folder_of_a_run_may_be_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Checkpoints(Path("run")), 1, 0.5)
    check_whole(Checkpoints(tmp_path / "run"), 1)


def test_a_checkpoint_that_cannot_be_written_names_the_folder(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def full_disk(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: [os_error_code='28']")  # as TensorStore does

    monkeypatch.setattr(ocp.CheckpointManager, "save", full_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        save(checkpoints, 1, 0.5)
    assert raised.value.filename == str(tmp_path / "checkpoints")


def test_a_saved_state_may_be_donated_at_once(tmp_path):
    """Saving is over when `save` returns: nothing reads the state afterwards."""
    checkpoints = Checkpoints(tmp_path)
    state = state_of(1)
    checkpoints.save(1, state, {}, 0.5)
    for array in state.values():
        array.delete()
    restored = checkpoints.restore(1, jax.tree.map(jnp.zeros_like, state_of(1)))
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(1))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    """As of a run that was copied in part; which of Orbax's files matter is Orbax's business."""
    Checkpoints(tmp_path).save(1, {"params": state_of(1)}, {"epoch": 1}, 0.5)
    refused = []
    for path in sorted(p for p in (tmp_path / "checkpoints/1").rglob("*") if p.is_file()):
        whole = path.read_bytes()
        path.write_bytes(b"")
        try:
            checkpoints = Checkpoints(tmp_path)
            restored = checkpoints.restore_params(1, make_mesh(1))
            jax.tree.map(np.testing.assert_array_equal, restored, state_of(1))
            assert checkpoints.progress(1) == {"epoch": 1}
        except InputError as error:
            refused.append((path.name, str(error)))
        path.write_bytes(whole)
    assert {"metadata", "_METADATA", "manifest.ocdbt"} <= {name for name, _ in refused}
    for _, message in refused:
        assert message.startswith(f"{tmp_path / 'checkpoints'}: a checkpoint cannot be read")
        assert "\n" not in message
    jax.tree.map(
        np.testing.assert_array_equal,
        Checkpoints(tmp_path).restore_params(1, make_mesh(1)),
        state_of(1),
    )


@pytest.mark.slow
def test_a_full_disk_is_one_error_without_tracebacks(tmp_path):
    done = run_python("-c", FULL, tmp_path, environment=IMPORTABLE)  # refuses a traceback
    assert done.stdout == f"{tmp_path / 'checkpoints'}\n"
