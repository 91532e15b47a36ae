"""The 1-D device mesh: parameters are replicated, dialogues are split over the axis `data`.

A single device is a mesh of size 1. With several processes (rpcl_jax/run/hosts.py), the mesh has
the devices of all, and each process prepares only what its own devices read.
"""

import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rpcl_jax.errors import InputError

AXIS = "data"


def device_count() -> int:
    """Returns the number of visible devices; InputError if the platform asked for has none."""
    try:
        return jax.device_count()
    except (RuntimeError, AssertionError) as error:  # JAX raises either
        raise no_device(str(error)) from error


def no_device(reason: str) -> InputError:
    """Returns the error for a JAX without a device; it may give no reason."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return InputError(
        f"JAX finds no device (JAX_PLATFORMS={platforms}; {reason or 'no reason given'}); correct "
        "or unset JAX_PLATFORMS, or install JAX for your accelerator"
    )


def make_mesh(devices: int | None = None) -> Mesh:
    """Returns a mesh of the first `devices` devices, or of all devices if None."""
    visible = device_count()
    return jax.make_mesh(
        (devices or visible,),
        (AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),  # XLA chooses the sharding of unannotated arrays
        devices=jax.devices()[:devices],
    )


def local_device_indices(mesh: Mesh) -> list[int]:
    """Returns the places in the mesh of this process's devices."""
    process = jax.process_index()
    return [i for i, device in enumerate(mesh.devices.flat) if device.process_index == process]


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Sends each device its share of every array, split along axis 0; returns the whole batch.

    `batch` is a tree of the shares of this process's devices, in the order of
    `local_device_indices`.
    """
    sharding, own = NamedSharding(mesh, P(AXIS)), len(local_device_indices(mesh))

    def put(share):
        shape = (len(share) // own * mesh.size, *share.shape[1:])
        return jax.make_array_from_process_local_data(sharding, share, shape)

    return jax.tree.map(put, batch)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies the whole `tree`, which is the same in every process, to every device."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def replicate_key(key: jax.Array, mesh: Mesh) -> jax.Array:
    """Copies a PRNG key to every device; `jax.device_put` knows no keys on several hosts."""
    return jax.random.wrap_key_data(replicate(jax.random.key_data(key), mesh))


def all_gather(tree: Any) -> Any:
    """Returns arrays that are split over the devices as whole NumPy arrays, in every process."""
    return multihost_utils.process_allgather(tree, tiled=True)


def all_processes(condition: bool) -> bool:
    """Returns whether a condition holds in every process."""
    return bool(multihost_utils.process_allgather(condition).all())


def barrier() -> None:
    """Returns once all processes have called this."""
    all_processes(True)


def from_main_process(array: np.ndarray) -> np.ndarray:
    """Returns the array of the first process; the others pass one of the same shape."""
    return multihost_utils.broadcast_one_to_all(array)


def is_main_process() -> bool:
    """Returns whether this process is the one that writes logs, predictions and results."""
    device_count()  # which explains why there are none
    return jax.process_index() == 0
