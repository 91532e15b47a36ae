"""The 1-D device mesh: parameters are replicated, dialogues are split over the axis `data`.

A single device is a mesh of size 1.
"""

import os

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rpcl_jax.batching.batch import Batch
from rpcl_jax.errors import InputError

AXIS = "data"


def device_count() -> int:
    """Returns the number of visible devices.

    Raises:
      InputError: there is none of the platform that was asked for.
    """
    try:
        return jax.device_count()
    except (RuntimeError, AssertionError) as error:  # JAX raises either
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX finds no device (JAX_PLATFORMS={platforms}; {error or 'no reason given'}); "
            "correct or unset JAX_PLATFORMS, or install JAX for your accelerator"
        ) from error


def make_mesh(devices: int | None = None) -> Mesh:
    """Returns a mesh of the first `devices` devices, or of all devices if None."""
    return jax.make_mesh(
        (devices or device_count(),),
        (AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),  # XLA chooses the sharding of unannotated arrays
        devices=jax.devices()[:devices],
    )


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Sends each device its share of every array, split along axis 0."""
    return jax.device_put(batch, NamedSharding(mesh, P(AXIS)))


def replicate(tree, mesh: Mesh):
    """Copies the whole `tree` to every device."""
    return jax.device_put(tree, NamedSharding(mesh, P()))
