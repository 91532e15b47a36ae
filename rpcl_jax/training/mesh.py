"""The 1-D device mesh: parameters are replicated, dialogues are split over the axis `data`.

A single device is a mesh of size 1.
"""

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rpcl_jax.batching.batch import Batch

AXIS = "data"


def make_mesh(devices: int | None = None) -> Mesh:
    """Returns a mesh of the first `devices` devices, or of all devices if None."""
    return jax.make_mesh(
        (devices or jax.device_count(),),
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
