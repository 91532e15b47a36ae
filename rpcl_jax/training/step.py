"""The training state and the training step, over the devices of a mesh."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rpcl_jax.batching.batch import Batch
from rpcl_jax.data.features import Features
from rpcl_jax.models.adapters import combine
from rpcl_jax.models.dropout import drop_modality
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.objective import Objective, objective_loss
from rpcl_jax.training.mesh import AXIS, replicate


class TrainState(NamedTuple):
    """The arrays that a training step updates."""

    step: jax.Array  # int32, number of steps done
    params: dict
    optimizer_state: optax.OptState


def initial_state(params: dict, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Returns the state before the first step, on the devices of `mesh`."""
    return replicate(TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)), mesh)


def make_train_step(
    model: PairExtractor,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    modality_dropout: float = 0.0,
) -> jax.stages.Wrapped:
    """Returns the jitted step (state, root key, batch, frozen) -> (state, terms).

    `frozen` are the parameters that are not trained, if any. The state is donated. The key of a
    step is `fold_in(root, step)`. It is split into keys of the dropout, which differs between
    devices, of the corruption, and of the modality dropout. The terms are those of
    `rpcl_jax.objective.objective_loss` and "gradient_norm", before clipping.

    `modality_dropout` is the share of the dialogues that are trained on without their audio, and of
    those without their vision, drawn independently.
    """

    def step(state: TrainState, root: jax.Array, batch: Batch, frozen: dict):
        step_key = jax.random.fold_in(root, state.step)
        dropout_key, corruption_key, *modality_keys = jax.random.split(step_key, 4)
        dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(AXIS))

        if modality_dropout:
            audio_key, vision_key = modality_keys
            batch = batch._replace(
                audio=_drop(audio_key, batch.audio, modality_dropout),
                vision=_drop(vision_key, batch.vision, modality_dropout),
            )

        def loss(params):
            params = combine(params, frozen)
            return objective_loss(
                objective, model, params, batch, dropout_key, corruption_key, AXIS
            )

        # No psum of the gradients: the loss is a psum and the parameters are replicated, so
        # shard_map already sums the gradients over devices.
        gradients, terms = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
        terms["gradient_norm"] = optax.tree.norm(gradients)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, optimizer_state), terms

    sharded = jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P(), P(AXIS), P()), out_specs=(P(), P())
    )
    return jax.jit(sharded, donate_argnums=0)


def _drop(key: jax.Array, features: Features | None, rate: float) -> Features | None:
    return None if features is None else drop_modality(key, features, rate, AXIS)
