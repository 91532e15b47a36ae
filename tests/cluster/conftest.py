"""One embedded Ray for the tests of a file."""

import pytest


@pytest.fixture(scope="module")
def ray():
    """The module ray, started as the commands start it."""
    from rpcl_jax.cluster.start import start_ray

    ray = start_ray(None)
    yield ray
    ray.shutdown()
