"""Inference: from batches to scored dialogues."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError
from jax import export
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rpcl_jax.batching.batch import Batch, candidate_mask
from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.errors import InputError
from rpcl_jax.evaluation.scores_file import ScoredDialogue
from rpcl_jax.losses import pair_confidence
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.training.mesh import AXIS, all_gather, put_batch


class Scores(NamedTuple):
    """The probabilities of a batch, independent of the training objective."""

    pair_confidence: jax.Array  # p, [b, n, n]
    emotion_probabilities: jax.Array  # [b, n, emotions]
    cause_confidence: jax.Array  # q, [b, n]


export.register_namedtuple_serialization(Scores, serialized_name="rpcl_jax.Scores")
Score = Callable[[dict, Batch], Scores]


def make_score(model: PairExtractor, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the jitted inference function (params, batch) -> Scores, on the clean view.

    It raises InputError if the parameters are of a model with other code.
    """

    def score(params, batch: Batch) -> Scores:
        try:
            outputs = model.apply({"params": params}, batch)
        except (ScopeParamNotFoundError, ScopeParamShapeError) as error:
            raise InputError(
                f"the run's parameters do not fit the model ({str(error).partition(' (http')[0]}): "
                "it was trained by other code; use that, or train it again in another folder"
            ) from error
        return Scores(
            pair_confidence=pair_confidence(outputs.pair_logits),
            emotion_probabilities=jax.nn.softmax(outputs.emotion_logits),
            cause_confidence=jax.nn.softmax(outputs.cause_logits)[..., 1],
        )

    return jax.jit(jax.shard_map(score, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS)))


def score_split(score: Score, params: dict, batches: Batches, mesh: Mesh) -> list[ScoredDialogue]:
    """Returns the scores of every dialogue, in the order of the split."""
    scored: dict[int, ScoredDialogue] = {}

    def read(places: np.ndarray, scores: Scores) -> None:
        confidence, emotions, causes = all_gather(scores)
        for place, index in enumerate(places):
            if index >= 0:
                example = batches.examples[index]
                n = example.length
                scored[index] = ScoredDialogue(
                    dialogue=example.dialogue,
                    pair_confidence=confidence[place, :n, :n],
                    candidate_mask=candidate_mask(np.ones(n, bool), batches.candidates),
                    emotion_probabilities=emotions[place, :n],
                    cause_confidence=causes[place, :n],
                )

    running: deque[tuple[np.ndarray, Scores]] = deque()
    for places, batch in batches.epoch(seed=0, epoch=0):
        running.append((places, score(params, put_batch(batch, mesh))))
        if len(running) == 2:  # the devices work on the second while the first is read
            read(*running.popleft())
    for item in running:
        read(*item)
    return [scored[index] for index in range(len(batches.examples))]
