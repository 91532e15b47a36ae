"""Flax's layers in float64, as formulas, and random parameters for modules that have them."""

from functools import partial

import jax
import numpy as np

from rpcl_jax.models.fusion import FURTHEST


def norm(p, x):
    deviation = x - x.mean(-1, keepdims=True)
    scaled = deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * p["scale"] + p["bias"]


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def project(p, text, audio):
    """The vectors of text and audio, all present, before they are fused."""
    standard = np.clip((audio - p["audio"]["mean"]) / p["audio"]["scale"], -FURTHEST, FURTHEST)
    return (
        norm(p["text_norm"], dense(p["text"], text.astype(np.float64))),
        norm(p["audio"]["norm"], dense(p["audio"]["dense"], standard)),
    )


def gated(p, x, y):
    """Text x with audio y, which is added through its gate."""
    return x + y / (1 + np.exp(-dense(p["audio_gate"], np.concatenate([x, y], -1))))


def random_params(module, *inputs):
    """Parameters of the shapes that a module wants, none of them at its initial 0 or 1."""
    init = partial(module.init, deterministic=True)
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)
