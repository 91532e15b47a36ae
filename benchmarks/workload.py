"""What the processes that measure have in common: a run up to its first step, and its operations.

Importing this imports JAX.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks.measure import CHOOSING, Laps
from rpcl_jax.batching.batch import Batch, Example
from rpcl_jax.batching.pipeline import Batches
from rpcl_jax.models.adapters import separate_frozen
from rpcl_jax.models.ecpe import PairExtractor
from rpcl_jax.models.text_encoder import TextEncoderConfig
from rpcl_jax.readers.corpus import load_corpus
from rpcl_jax.run.config import build_model, check_config
from rpcl_jax.run.text_encoder import LoadedEncoder, corpus_batches, load_text_encoder
from rpcl_jax.training.mesh import make_mesh, put_batch, replicate

# Seconds that a round takes: less is uncertain, and on a GPU the launch of the first step, which
# nothing hides, would count.
_LEAST_ON_CPU, _LEAST = 0.1, 1.0
ROBERTA_BASE = TextEncoderConfig(
    vocab_size=50265,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    max_positions=512,
    position_offset=2,
)


class Workload(NamedTuple):
    """A run of `config` that is about to train on one batch of the commonest shape.

    Attributes:
      config, encoder, mesh, model: of the run.
      batches: of its training split.
      members: indices of the examples in the batch.
      batch: on the devices.
      params: random, because a step takes as long whatever their values.
      frozen: those of them that are not trained, of an encoder with adapters.
    """

    config: ConfigDict
    encoder: LoadedEncoder
    mesh: Mesh
    model: PairExtractor
    batches: Batches
    members: np.ndarray
    batch: Batch
    params: dict[str, Any]
    frozen: dict[str, Any]

    @property
    def lengths(self) -> list[int]:
        """The numbers of word pieces of the segments in the batch."""
        return segment_lengths(self.batches.examples[index] for index in self.members)


def load_workload(config: ConfigDict, laps: Laps) -> Workload:
    """Returns a run's workload, and tells `laps` how long each part of it took.

    Raises:
      InputError: the config, the data or the encoder cannot be used.
    """
    check_config(config)
    mesh = make_mesh()
    laps("devices")
    corpus = load_corpus(config)
    laps("reading the data")
    encoder = load_text_encoder(config, corpus.splits["train"])
    laps("loading the encoder")
    batches = corpus_batches(encoder, corpus, config, mesh)["train"]
    laps("tokenizing" if config.text.finetune else "vectors of the frozen encoder")
    # One shape throughout, so that nothing compiles while it is timed.
    shapes: dict[tuple, list] = {}
    for places, batch in batches.epoch(config.seed, 1):
        shapes.setdefault(tuple(x.shape for x in jax.tree.leaves(batch)), []).append(
            (places, batch)
        )
    places, batch = max(shapes.values(), key=len)[0]
    laps(CHOOSING)
    model = build_model(config, encoder.config, corpus.emotions)
    first = jax.random.key(config.seed), batches.make(np.arange(1))[1]
    traced = jax.jit(model.init).lower(*first)
    laps("tracing the initialisation")
    params, frozen = separate_frozen(traced.compile()(*first)["params"])
    laps("compiling the initialisation")
    return Workload(
        config=config,
        encoder=encoder,
        mesh=mesh,
        model=model,
        batches=batches,
        members=places[places >= 0],
        batch=put_batch(batch, mesh),
        params=replicate(params, mesh),
        frozen=replicate(frozen, mesh),
    )


def segment_lengths(examples: Iterable[Example]) -> list[int]:
    """Returns the numbers of word pieces of the segments of these examples."""
    return [int(length) for example in examples for length in example.segments]


def encoder_operations(encoder: TextEncoderConfig, segment_lengths: Sequence[int]) -> float:
    """Returns the floating-point operations of a text encoder's forward pass over these segments.

    Counts two operations for each multiply-add in the matrix products and in the attention within
    a segment. Leaves out padding, distances, adapters and everything but products. The backward
    pass has twice as many.
    """
    width = encoder.hidden_size
    feed_forward = 3 if encoder.pre_norm else 2  # with its gate
    weights = 4 * width**2 + feed_forward * width * encoder.intermediate_size
    pieces = sum(segment_lengths)
    attention = 2 * width * sum(length**2 for length in segment_lengths)
    return 2 * encoder.num_layers * (weights * pieces + attention)


def timed_beside_product(
    run: Callable[[], Any], rounds: int, dtype: jax.typing.DTypeLike, mesh: Mesh
) -> dict[str, float]:
    """Times a function and a large matrix product in turns, so that both meet the same noise.

    Args:
      run: starts a computation, and returns its result.
      rounds: how many times each is timed.
      dtype: of the matrices.
      mesh: the devices, one of which computes the product.

    Returns:
      Medians over the rounds: "seconds" and "cpu" of a call, by the clock and of all threads;
      "product", the product's operations in a second, on all devices; on a CPU also "product by
      CPU", in a second of all threads.
    """
    on_cpu = jax.default_backend() == "cpu"
    side = 2048 if on_cpu else 8192
    least = _LEAST_ON_CPU if on_cpu else _LEAST
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(lambda a: a @ a)
    timed: dict[str, tuple[Callable, int]] = {}
    for name, function in (("run", run), ("product", lambda: product(matrix))):
        jax.block_until_ready(function())  # compiles
        started = time.perf_counter()
        jax.block_until_ready(function())
        once = time.perf_counter() - started
        timed[name] = function, max(1, int(np.ceil(least / once)))
    taken: Mapping[str, list[tuple[float, float]]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, (function, repeats) in timed.items():
            clock, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                result = function()
                if on_cpu:  # which would otherwise compute several at once
                    jax.block_until_ready(result)
            jax.block_until_ready(result)
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            taken[name].append((clock / repeats, cpu / repeats))
    seconds, cpu = np.median(taken["run"], axis=0)
    product_seconds, product_cpu = np.median(taken["product"], axis=0)
    operations = 2 * side**3
    told = {"seconds": float(seconds), "cpu": float(cpu)}
    if on_cpu:  # one product has all cores, whatever the number of devices
        return told | {
            "product": operations / product_seconds,
            "product by CPU": operations / product_cpu,
        }
    return told | {"product": mesh.size * operations / product_seconds}


def device_name(mesh: Mesh, dtype: jax.typing.DTypeLike) -> str:
    """Returns the number and the kind of the devices, and the type of activations on them."""
    return f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {np.dtype(dtype).name}"
