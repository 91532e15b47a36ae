"""The shapes of the arguments of `losses`, `corruption` and `torch_losses`."""

from typing import Any

from rpcl_jax.errors import InputError

# Those of one letter are of one size.
_AXES = {
    "emotion_logits": "bne",
    "cause_logits": "bn2",
    "pair_logits": "bnn2",
    "corrupted_pair_logits": "bnn2",
    "clean_pair_logits": "bnn2",
    "emotion_labels": "bn",
    "cause_labels": "bn",
    "pair_labels": "bnn",
    "utterance_mask": "bn",
    "candidate_mask": "bnn",
    "utterances": "bnd",
    "protected": "bn",
}


def check_shapes(**arrays: Any) -> None:
    """Refuses arguments, by name, whose shapes do not fit each other.

    Otherwise a mask [n, n] shared by all dialogues would be broadcast: the sum of a mean would be
    over b dialogues and its count over one.

    Raises:
      InputError: naming the argument, its shape or type and what was expected.
    """
    sizes = {"2": 2}
    for name, x in arrays.items():
        axes = _AXES[name]
        if not hasattr(x, "shape"):
            raise InputError(f"{name}: is {type(x).__name__}, expected an array")
        if len(x.shape) == len(axes) and all(
            sizes.setdefault(axis, size) == size for axis, size in zip(axes, x.shape, strict=True)
        ):
            continue
        known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items() if axis != "2")
        hint = ""
        if axes == "bnn2" and (len(x.shape) == 3 or x.shape[3:] == (1,)):
            hint = "; a single logit x per pair becomes stack((zeros_like(x), x), -1)"
        raise InputError(
            f"{name}: has shape {list(x.shape)}, expected [{', '.join(axes)}]"
            + (f" with {known}" if known else "")
            + hint
        )
