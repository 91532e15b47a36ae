"""The paper's setting without data; the configs of the benchmarks start from it.

All fields are defined and explained in rpcl_jax/run/base_config.py, of which this is an alias.
"""

from rpcl_jax.run.base_config import base_config as get_config

__all__ = ["get_config"]
