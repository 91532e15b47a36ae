"""The paper's setting; its fields and their comments are in rpcl_jax/run/base_config.py."""

from rpcl_jax.run.base_config import base_config as get_config

__all__ = ["get_config"]
