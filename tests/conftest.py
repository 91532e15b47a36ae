"""Eight CPU devices throughout the suite, and the same examples in every run of it."""

import os
from pathlib import Path

# Before the first import of JAX, which reads all of these.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

from hypothesis import settings

from rpcl_jax.run.compilation import use_compilation_cache

# The commands that tests run compile the same few programs again and again, each for seconds.
use_compilation_cache(Path(__file__).resolve().parents[1] / ".pytest_cache" / "compiled")

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
