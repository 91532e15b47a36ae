"""What all backbones share: projected and fused modalities, and stacked layers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpcl_jax.data.features import MODALITIES, Features

FURTHEST = 10.0  # features are clipped this many standard deviations from their mean


class FeatureProjection(nn.Module):
    """Projects a modality's features to the model's width; absent ones become a learned vector.

    `mean` and `scale` standardise the features. They are set before the first step and not trained;
    being parameters, they are part of every checkpoint. The learned vector `absent` starts at 0,
    which adds nothing to the text, and stays 0 if every training utterance has the modality.
    """

    width: int

    @nn.compact
    def __call__(self, features: Features):
        """Maps values [rows, n, d] and bool present [rows, n] to [rows, n, width]."""
        values, present = features
        mean = self.param("mean", nn.initializers.zeros, values.shape[-1:])
        scale = self.param("scale", nn.initializers.ones, values.shape[-1:])
        values = (values - jax.lax.stop_gradient(mean)) / jax.lax.stop_gradient(scale)
        # openSMILE's functionals occasionally are thousands of deviations from their mean. Absent
        # features must contribute neither to the value nor to the gradient.
        values = jnp.clip(jnp.where(present[..., None], values, 0.0), -FURTHEST, FURTHEST)
        y = nn.LayerNorm(name="norm")(nn.Dense(self.width, name="dense")(values))
        absent = self.param("absent", nn.initializers.zeros, (self.width,))
        return jnp.where(present[..., None], y, absent)


def project_modalities(
    modalities: str, width: int, text: jax.Array, features: dict[str, Features | None]
) -> dict[str, jax.Array]:
    """Returns the vectors of "text" and then of "audio" and "vision", each [rows, n, width].

    The compact module that calls this function gets the parameters; its arguments are those of
    `TransformerBackbone`.
    """
    vectors = {"text": nn.LayerNorm(name="text_norm")(nn.Dense(width, name="text")(text))}
    for modality in (MODALITIES[letter] for letter in "av" if letter in modalities):
        vectors[modality] = FeatureProjection(width, name=modality)(features[modality])
    return vectors


def fuse(vectors: dict[str, jax.Array]) -> jax.Array:
    """Adds the vectors of the other modalities to the first, each through its own gate.

    The compact module that calls this function gets the parameters.
    """
    (_, x), *others = vectors.items()
    for modality, y in others:
        gate = nn.Dense(x.shape[-1], name=f"{modality}_gate")(jnp.concatenate([x, y], -1))
        x = x + nn.sigmoid(gate) * y
    return x


def apply_layers(
    module: nn.Module, layer: type[nn.Module], x: jax.Array, *context: Any, deterministic: bool
) -> jax.Array:
    """Passes x through `module.layers` layers of a kind, each of which also reads `context`.

    `module`, the compact module that calls this function, gets the parameters.
    """
    for number in range(module.layers):
        x = layer(module.width, module.heads, module.dropout, name=f"layer_{number}")(
            x, *context, deterministic=deterministic
        )
    return x
