"""Low-rank adapters of a text encoder: which of its parameters they are, and merging them.

`rpcl_jax.models.text_encoder.Dense` computes with them; Hu et al. 2022, LoRA.
"""

from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from rpcl_jax.models.text_encoder import ENCODER, merged_kernel

_NAMES = ("lora_a", "lora_b")


def separate_adapters(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns an encoder's adapters, and its other parameters."""
    leaves = flatten_dict(params)
    adapters = {path: leaf for path, leaf in leaves.items() if path[-1] in _NAMES}
    others = {path: leaf for path, leaf in leaves.items() if path[-1] not in _NAMES}
    return unflatten_dict(adapters), unflatten_dict(others)


def separate_frozen(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a model's parameters that are trained, and those of an encoder with adapters."""
    adapters, others = separate_adapters(params.get(ENCODER, {}))
    if not adapters:
        return params, {}
    return params | {ENCODER: adapters}, {ENCODER: others}


def combine(params: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of two trees as one; those of `others` count where both have one."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(others)) if others else params


def merge_adapters(params: dict[str, Any]) -> dict[str, Any]:
    """Returns an encoder's parameters with every W + A B in place of W, A and B."""
    adapters, others = separate_adapters(params)
    leaves, merged = flatten_dict(adapters), flatten_dict(others)
    for *module, name in leaves:
        if name == "lora_a":
            a, b = (leaves[(*module, name)] for name in _NAMES)
            kernel = (*module, "kernel")
            merged[kernel] = merged_kernel(merged[kernel], a, b)
    return unflatten_dict(merged)
