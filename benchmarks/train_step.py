"""How fast a config trains: `python -m benchmarks.train_step --config=configs/ecf_minilm.py`.

Steps of `base` and `rpcl`, inference, and large matrix products are interleaved, so that background
load affects all of them equally. Prints medians over the rounds.
"""

import sys
import time
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from rpcl_jax.errors import InputError
from rpcl_jax.run.allocator import restart_keeping_memory

_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the run is; see configs/.")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "How many times each is timed.", lower_bound=1)
_OBJECTIVES = ("base", "rpcl")
_MATRIX = 2048  # side of the matrices whose product measures the speed of the machine


def main(argv: list[str]) -> None:
    del argv
    if _CONFIG.value is None:
        sys.exit("train_step: --config is required, for example --config=configs/ecf_minilm.py")
    try:
        _measure()
    except InputError as error:
        sys.exit(f"train_step: {error}")


def encoder_operations(encoder, segment_lengths) -> float:
    """Returns the floating-point operations of training the text encoder on these segments.

    Counts two operations for each multiply-add in the matrix products and in the attention within
    a segment, once for the forward and twice for the backward pass. Leaves out padding and
    everything but products.
    """
    width = encoder.hidden_size
    weights = 4 * width**2 + 2 * width * encoder.intermediate_size
    pieces = sum(segment_lengths)
    attention = 2 * width * sum(length**2 for length in segment_lengths)
    return 3 * 2 * encoder.num_layers * (weights * pieces + attention)


def _measure() -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from rpcl_jax.batching.pipeline import make_batches
    from rpcl_jax.evaluation.scoring import make_score
    from rpcl_jax.readers.corpus import load_corpus
    from rpcl_jax.run.config import build_model, check_config, objective_of
    from rpcl_jax.run.grid import config_with
    from rpcl_jax.run.text_vectors import load_text_encoder
    from rpcl_jax.training.mesh import make_mesh, put_batch, replicate
    from rpcl_jax.training.optimizer import make_optimizer
    from rpcl_jax.training.step import initial_state, make_train_step

    logging.set_verbosity(logging.WARNING)
    config = _CONFIG.value
    check_config(config)
    if not config.text.finetune:
        raise InputError(
            "config.text.finetune: False; this measures steps that train the text encoder, "
            "so pass a config that does, such as configs/ecf_minilm.py"
        )
    corpus = load_corpus(config)
    encoder = load_text_encoder(config, corpus.splits["train"])
    mesh = make_mesh()
    train = corpus.splits["train"]
    batches = make_batches(
        train, encoder.tokenizer, corpus.tables, config, mesh.size, corpus.emotions
    )
    model = build_model(config, encoder.config, corpus.emotions)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    root = replicate(run_key, mesh)

    # One batch of the commonest shape throughout, so that nothing compiles while it is timed.
    shapes: dict[tuple, list] = {}
    for places, batch in batches.epoch(config.seed, 1):
        shapes.setdefault(tuple(x.shape for x in jax.tree.leaves(batch)), []).append(
            (places, batch)
        )
    places, batch = max(shapes.values(), key=len)[0]
    examples = [batches.examples[index] for index in places if index >= 0]
    lengths = [len(segment.token_ids) for example in examples for segment in example.segments]
    on_device = put_batch(batch, mesh)

    flag = flags.FLAGS["config"]
    file = config_flags.get_config_filename(flag).partition(":")[0]
    overrides = config_flags.get_override_values(flag)
    steps: dict[str, Callable] = {}
    states, compile_seconds = {}, {}
    for name in _OBJECTIVES:
        objective = objective_of(config_with(file, name, overrides))
        optimizer = make_optimizer(config.optimizer, config.epochs * len(batches))
        # Random parameters will do: a step takes as long whatever their values.
        params = jax.jit(model.init)(init_key, batches.make(np.arange(1))[1])["params"]
        state = initial_state(params, optimizer, mesh)
        step = make_train_step(model, objective, optimizer, mesh)
        started = time.perf_counter()
        steps[name] = step.lower(state, root, on_device).compile()
        compile_seconds[name] = time.perf_counter() - started
        states[name], _ = steps[name](state, root, on_device)

    score = make_score(model, mesh)
    dtype = model.dtype
    matrix = jnp.ones((_MATRIX, _MATRIX), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready((product(matrix), score(states["rpcl"].params, on_device)))
    seconds: dict[str, list[float]] = {name: [] for name in (*_OBJECTIVES, "inference", "product")}
    for _ in range(_ROUNDS.value):
        for name in _OBJECTIVES:
            started = time.perf_counter()
            states[name], terms = steps[name](states[name], root, on_device)
            jax.block_until_ready((states[name], terms))
            seconds[name].append(time.perf_counter() - started)
            started = time.perf_counter()
            jax.block_until_ready([product(matrix) for _ in range(3)])
            seconds["product"].append((time.perf_counter() - started) / 3)

        started = time.perf_counter()
        jax.block_until_ready(score(states["rpcl"].params, on_device))
        seconds["inference"].append(time.perf_counter() - started)

    machine = mesh.size * 2 * _MATRIX**3 / np.median(seconds["product"])
    operations = encoder_operations(encoder.config, lengths)
    computed = batch.text.segment_ids.size
    print(
        f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {dtype}, "
        f"medians of {_ROUNDS.value} rounds"
    )
    print(
        f"batch: {len(examples)} dialogues, {sum(e.length for e in examples)} utterances, "
        f"{sum(lengths)} word pieces, {1 - sum(lengths) / computed:.1%} padding among {computed}"
    )
    print(f"matrix product of {_MATRIX}: {machine / 1e9:.0f} GFLOP/s")
    for name in _OBJECTIVES:
        median = np.median(seconds[name])
        rate = operations / median
        print(
            f"{name}: {median:.3f} s a step, {len(examples) / median:.1f} dialogues/s; "
            f"text encoder {rate / 1e9:.0f} GFLOP/s, {rate / machine:.2f} of the matrix product; "
            f"compiled in {compile_seconds[name]:.1f} s"
        )
    median = np.median(seconds["inference"])
    print(f"inference: {median:.3f} s a batch, {len(examples) / median:.1f} dialogues/s")
    ratio = np.median(np.divide(seconds["rpcl"], seconds["base"]))
    print(f"rpcl / base: {ratio:.3f}")


if __name__ == "__main__":
    restart_keeping_memory()
    app.run(main)
