"""AdamW with two learning rates: one for the text encoder, one for everything else."""

import jax
import optax
from ml_collections import ConfigDict

from rpcl_jax.models.text_encoder import ENCODER


def learning_rate_schedule(peak: float, steps: int, config: ConfigDict) -> optax.Schedule:
    """Returns a linear warm-up to `peak`, then a constant rate or linear decay to 0 at `steps`.

    `config.warmup` is a fraction of `steps`; `config.schedule` is "constant" or "linear".
    """
    warmup = round(config.warmup * steps)
    end = peak if config.schedule == "constant" else 0.0
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, warmup),
            optax.linear_schedule(peak, end, max(steps - warmup, 1)),
        ],
        [warmup],
    )


def decayed(params) -> dict:
    """Returns a pytree of bools: which parameters are subject to weight decay.

    Matrices and tables decay. One-dimensional parameters do not: biases, layer norms, and `absent`,
    `mean` and `scale` of the feature projections. A parameter named "bias…" never decays.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim > 1 and not path[-1].key.startswith("bias"), params
    )


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Returns AdamW after gradient clipping at a global norm, with two learning rates.

    The schedules are as long as the whole run, which has `steps` steps.
    """
    rates = {
        "encoder": learning_rate_schedule(config.encoder_learning_rate, steps, config),
        "rest": learning_rate_schedule(config.learning_rate, steps, config),
    }
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.partition(
            {group: optax.scale_by_learning_rate(rate) for group, rate in rates.items()},
            lambda params: {name: "encoder" if name == ENCODER else "rest" for name in params},
        ),
    )
