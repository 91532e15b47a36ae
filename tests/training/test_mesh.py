"""What lies on which device."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from rpcl_jax.training.mesh import AXIS, make_mesh, put_batch, replicate


class Arrays(NamedTuple):
    """In place of a batch."""

    text: np.ndarray
    audio: np.ndarray | None


@pytest.mark.parametrize("devices", [1, 2, 8, None])
def test_a_mesh_is_of_the_first_devices_or_all(devices):
    mesh = make_mesh(devices)
    assert list(mesh.devices.flat) == jax.devices()[:devices]
    assert mesh.axis_names == (AXIS,)


def test_every_device_gets_its_share_of_a_batch_in_order():
    batch = put_batch(Arrays(np.arange(48).reshape(16, 3), None), make_mesh(8))
    assert batch.audio is None
    shards = {shard.device: np.asarray(shard.data) for shard in batch.text.addressable_shards}
    for number, device in enumerate(jax.devices()):
        np.testing.assert_array_equal(shards[device], 6 * number + np.arange(6).reshape(2, 3))


def test_every_device_gets_all_of_a_replicated_tree():
    tree = replicate({"w": np.arange(3)}, make_mesh(2))
    shards = tree["w"].addressable_shards
    assert [shard.device for shard in shards] == jax.devices()[:2]
    for shard in shards:
        np.testing.assert_array_equal(shard.data, np.arange(3))
