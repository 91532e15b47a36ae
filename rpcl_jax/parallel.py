"""The training step and the scoring function, over a 1-D mesh of devices.

Parameters are replicated, dialogues are split over the axis `data`. One device is a mesh of one.
"""

from typing import NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rpcl_jax.data.batch import Batch
from rpcl_jax.losses import pair_confidence
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.objective import Objective, objective_loss

AXIS = "data"


class TrainState(NamedTuple):
    """What a step changes."""

    step: jax.Array  # int32, steps done
    params: dict
    optimizer_state: optax.OptState


class Scores(NamedTuple):
    """What inference says: probabilities, never a training-time term."""

    pair_confidence: jax.Array  # p, [b, n, n]
    emotion_probabilities: jax.Array  # [b, n, emotions]
    cause_confidence: jax.Array  # q, [b, n]


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh of the first `devices` local devices; None: all there are."""
    return jax.make_mesh(
        (devices or jax.device_count(),),
        (AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),  # arrays that say nothing are split as asked for
        devices=jax.devices()[:devices],
    )


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Sends each device its share of axis 0 of every array."""
    return jax.device_put(batch, NamedSharding(mesh, P(AXIS)))


def replicate(tree, mesh: Mesh):
    """Sends every device all of `tree`."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def make_train_step(
    model: PairExtractor,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> jax.stages.Wrapped:
    """The jitted step (state, root key, batch) -> (state, terms of the loss).

    The state is donated. The key of a step is `fold_in(root, step)`; from it come a corruption
    key, the same on every device, and a dropout key, another on each.
    """

    def step(state: TrainState, root: jax.Array, batch: Batch):
        dropout_key, corruption_key = jax.random.split(jax.random.fold_in(root, state.step))
        dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(AXIS))

        def loss(params):
            return objective_loss(
                objective, model, params, batch, dropout_key, corruption_key, AXIS
            )

        # The loss is a psum and the parameters are the same on every device, so shard_map sums
        # the devices' shares of the gradient by itself.
        gradients, terms = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
        terms["gradient_norm"] = optax.tree.norm(gradients)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, optimizer_state), terms

    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=(P(), P()))
    return jax.jit(sharded, donate_argnums=0)


def make_score(model: PairExtractor, mesh: Mesh) -> jax.stages.Wrapped:
    """The jitted inference function (params, batch) -> scores: the clean view and nothing else."""

    def score(params, batch: Batch) -> Scores:
        outputs = model.apply({"params": params}, batch)
        return Scores(
            pair_confidence=pair_confidence(outputs.pair_logits),
            emotion_probabilities=jax.nn.softmax(outputs.emotion_logits),
            cause_confidence=jax.nn.softmax(outputs.cause_logits)[..., 1],
        )

    return jax.jit(jax.shard_map(score, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS)))
