"""How fast a config trains, and where the time of a step goes.

    python -m benchmarks.train_step --config=configs/ecf_minilm.py

Each part is measured in processes of its own, beside a large matrix product. `--parts=base,rpcl`
measures fewer of them. `--trace=FOLDER` measures nothing and writes a profile of three steps of
`rpcl`, for TensorBoard or https://ui.perfetto.dev.
"""

import collections
import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from benchmarks import measure
from benchmarks.figures import PARTS, peak_of, step_figures
from benchmarks.measure import Laps
from rpcl_jax.errors import InputError

if TYPE_CHECKING:
    from benchmarks.workload import Workload

_OF_ENCODER = ("forward", "encoder")
# How many times the operations of the encoder's forward pass a part does.
_PASSES = {"base": 3, "rpcl": 3, "forward": 1, "encoder": 3, "inference": 1}
_TRACED, _STEPS = "trace", 3

_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the run is; see configs/.")
_CHOSEN = flags.DEFINE_list("parts", list(PARTS), "Which parts to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 8, "How often a process repeats a part.", lower_bound=1)
_PEAK = flags.DEFINE_float(
    "peak", None, "TFLOP/s of a device, for its utilisation; known of H100, H200 and A100."
)
_PROCESSES, _TABLE = measure.define_flags()
_TRACE = flags.DEFINE_string("trace", "", "Folder for a profile, which is written instead.")


def main() -> None:
    parts: dict[str, Callable[[], dict]] = {part: partial(_time, part) for part in PARTS}
    measure.run_benchmark("train_step", _measure, parts | {_TRACED: _trace}, _check_flags)


def _check_flags() -> None:
    measure.require_config(_CONFIG)
    for part in _CHOSEN.value:
        if part not in PARTS:
            raise flags.Error(f"--parts: {part!r} is none; they are {', '.join(PARTS)}")
    if _PEAK.value is not None and not _PEAK.value > 0:
        raise flags.Error(f"--peak: is {_PEAK.value}; give TFLOP/s, such as 989")


def _measure() -> None:
    if _TRACE.value:
        Path(_TRACE.value).mkdir(parents=True, exist_ok=True)  # or it fails after the compilation
        written = measure.run_part("train_step", _TRACED).printed
        print(f"{written['file']}: {_STEPS} steps, of {written['operations']} operations each")
        slowest = ", ".join(f"{name} {ms:.1f}" for name, ms in written["slowest"])
        print(f"the slowest, in ms: {slowest}")
        print(f"open it in https://ui.perfetto.dev, or {_TRACE.value} in TensorBoard")
        return
    # Whether it is frozen; a config that lacks the field is refused by the processes.
    frozen = not _CONFIG.value.get("text", {}).get("finetune", True)
    parts = [p for p in PARTS if p in _CHOSEN.value and not (frozen and p in _OF_ENCODER)]
    if not parts:
        raise InputError("--parts: a frozen encoder is no part of a step; choose other parts")
    starts = {part: partial(measure.run_part, "train_step", part) for part in parts}
    ended = measure.alternated(starts, _PROCESSES.value)
    first = ended[parts[0]][0].printed
    inside = [part for part in ("encoder", "rest", "optimizer") if not frozen or part != "encoder"]
    measure.say(
        "train_step",
        measure.config_name(_CONFIG),
        first["device"],
        step_figures(ended, inside),
        first["batch"],
        _TABLE.value,
    )


def _time(part: str) -> dict[str, Any]:
    """Times a part in this process; see `Ended.printed`."""
    import jax

    from benchmarks.workload import (
        device_name,
        encoder_operations,
        load_workload,
        timed_beside_product,
    )

    work = load_workload(_CONFIG.value, Laps())
    run, program = _make(part, work)
    jax.block_until_ready(run())
    device = work.mesh.devices.flat[0]
    on_device = device.memory_stats() or {}  # before the product takes its share
    told: dict[str, Any] = timed_beside_product(run, _ROUNDS.value, work.model.dtype, work.mesh)
    dialogues, lengths = len(work.members), work.lengths
    told |= {"device": device_name(work.mesh, work.model.dtype), "batch": _described(work)}
    told["products"] = told["seconds"] * told["product"]
    if part in ("base", "rpcl", "host", "inference"):
        told["rate"] = dialogues / told["seconds"]
    if part in _PASSES and lengths:
        # Backward, an encoder with adapters has no gradients of its weights.
        passes = min(_PASSES[part], 2 if work.frozen else 3)
        operations = passes * encoder_operations(work.encoder.config, lengths)
        told["encoder's rate / product's"] = operations / told["products"]
        if "product by CPU" in told:
            by_cpu = operations / told["cpu"] / told["product by CPU"]
            told["encoder's rate / product's, by CPU"] = by_cpu
        if peak := _PEAK.value or peak_of(device.device_kind):
            told["utilisation"] = operations / told["seconds"] / (peak * 1e12 * work.mesh.size)
    if part in ("base", "rpcl"):
        used = program.memory_analysis()
        told["memory of the program"] = used.temp_size_in_bytes + used.argument_size_in_bytes
        if "peak_bytes_in_use" in on_device:
            told["memory of a device"] = on_device["peak_bytes_in_use"]
    return told


def _described(work: "Workload") -> str:
    from rpcl_jax.batching.packing import PackedText

    utterances = sum(work.batches.examples[index].length for index in work.members)
    described = f"a batch: {len(work.members)} dialogues, {utterances} utterances"
    if isinstance(work.batch.text, PackedText):
        pieces, places = sum(work.lengths), work.batch.text.segment_ids.size
        described += f", {pieces} word pieces, {1 - pieces / places:.1%} padding among {places}"
    return described


def _make(part: str, work: "Workload") -> tuple[Callable[[], Any], Any]:
    """Returns a function that starts a part once, and its compiled program if it has one."""
    import jax

    from rpcl_jax.evaluation.inference import make_score
    from rpcl_jax.models.adapters import combine
    from rpcl_jax.models.text_encoder import ENCODER
    from rpcl_jax.training.mesh import replicate_key
    from rpcl_jax.training.optimizer import make_optimizer
    from rpcl_jax.training.step import initial_state, make_train_step

    config, model, mesh = work.config, work.model, work.mesh
    key = replicate_key(jax.random.key(0), mesh)
    optimizer = make_optimizer(config.optimizer, config.epochs * len(work.batches))
    if part == "host":
        return lambda: work.batches.make(work.members), None
    if part in ("base", "rpcl"):
        jitted = make_train_step(
            model, _objective(part), optimizer, mesh, config.data.modality_dropout
        )
        state = initial_state(work.params, optimizer, mesh)
        step = jitted.lower(state, key, work.batch, work.frozen).compile()

        def run_step():
            nonlocal state  # which the step donates
            state, terms = step(state, key, work.batch, work.frozen)
            return state, terms

        return run_step, step
    if part == "optimizer":
        return _optimizer_alone(work, optimizer)
    arguments: tuple[Any, ...]
    if part == "inference":
        function = make_score(model, mesh)
        arguments = combine(work.params, work.frozen), work.batch
    elif part == "rest":
        function, arguments = _rest_alone(work, key)
    else:
        function = _encoder_alone(work, backward=part == "encoder")
        arguments = work.params[ENCODER], work.batch, key, work.frozen.get(ENCODER, {})
    program = function.lower(*arguments).compile()
    return lambda: program(*arguments), program


def _objective(name: str):
    """The objective `name` with the overrides of --config."""
    from rpcl_jax.run.config import objective_of
    from rpcl_jax.run.grid import config_with

    flag = flags.FLAGS["config"]
    file = config_flags.get_config_filename(flag).partition(":")[0]
    return objective_of(config_with(file, name, config_flags.get_override_values(flag)))


def _optimizer_alone(work: "Workload", optimizer) -> tuple[Callable[[], Any], Any]:
    """The update of the parameters by gradients that are there, and the gradients' norm."""
    import jax
    import jax.numpy as jnp
    import optax

    from rpcl_jax.training.mesh import replicate
    from rpcl_jax.training.step import initial_state

    def update(state, gradients):
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, optimizer_state=optimizer_state), optax.tree.norm(
            gradients
        )

    gradients = replicate(jax.tree.map(jnp.ones_like, work.params), work.mesh)
    state = initial_state(work.params, optimizer, work.mesh)
    program = jax.jit(update, donate_argnums=0).lower(state, gradients).compile()

    def run():
        nonlocal state
        state, norm = program(state, gradients)
        return state, norm

    return run, program


def _rest_alone(work: "Workload", key) -> tuple[Any, tuple]:
    """The gradient of rpcl's loss of text vectors that are there, as of a frozen encoder."""
    import jax
    import numpy as np
    from jax.sharding import PartitionSpec as P

    from rpcl_jax.batching.batch import TextVectors
    from rpcl_jax.models.text_encoder import ENCODER
    from rpcl_jax.objective import objective_loss
    from rpcl_jax.training.mesh import AXIS, put_batch

    objective, batch = _objective("rpcl"), work.batch
    trained = work.config.text.finetune
    if trained:
        shape = (*batch.utterance_mask.shape, work.encoder.config.hidden_size)
        vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        batch = batch._replace(text=put_batch(TextVectors(vectors), work.mesh))
    params = {name: value for name, value in work.params.items() if name != ENCODER}

    def gradient(params, batch, key):
        dropout_key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))

        def loss(params, vectors):
            given = batch._replace(text=TextVectors(vectors))
            return objective_loss(objective, work.model, params, given, dropout_key, key, AXIS)

        # The vectors of a frozen encoder need none.
        wanted = (0, 1) if trained else (0,)
        return jax.grad(loss, wanted, has_aux=True)(params, batch.text.vectors)

    specs = ((P(), P(AXIS)) if trained else (P(),)), P()
    sharded = jax.shard_map(gradient, mesh=work.mesh, in_specs=(P(), P(AXIS), P()), out_specs=specs)
    return jax.jit(sharded), (params, batch, key)


def _encoder_alone(work: "Workload", backward: bool):
    """The text encoder with dropout: its vectors, or the gradient of the sum of their squares."""
    import jax
    from jax.sharding import PartitionSpec as P

    from rpcl_jax.models.adapters import combine
    from rpcl_jax.models.packed import encode_utterances
    from rpcl_jax.models.text_encoder import TextEncoder
    from rpcl_jax.training.mesh import AXIS

    module = TextEncoder(work.encoder.config, dtype=work.model.dtype)

    def encode(params, batch, key, frozen):
        params = combine(params, frozen)
        rngs = {"dropout": jax.random.fold_in(key, jax.lax.axis_index(AXIS))}
        return encode_utterances(
            lambda *ids: module.apply({"params": params}, *ids, deterministic=False, rngs=rngs),
            batch,
        )

    def gradient(params, batch, key, frozen):
        def loss(params):
            return jax.lax.psum((encode(params, batch, key, frozen) ** 2).sum(), AXIS)

        return jax.grad(loss)(params)

    function, out = (gradient, P()) if backward else (encode, P(AXIS))
    return jax.jit(
        jax.shard_map(function, mesh=work.mesh, in_specs=(P(), P(AXIS), P(), P()), out_specs=out)
    )


def _trace() -> dict[str, Any]:
    """Writes a profile of steps of rpcl, and reads it again."""
    import jax

    from benchmarks.workload import load_workload

    work = load_workload(_CONFIG.value, Laps())
    run, _ = _make("rpcl", work)
    jax.block_until_ready(run())
    with jax.profiler.trace(_TRACE.value, create_perfetto_trace=True):
        for number in range(_STEPS):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                jax.block_until_ready(run())
    file = max(Path(_TRACE.value).rglob("perfetto_trace.json.gz"), key=lambda f: f.stat().st_mtime)
    with gzip.open(file) as opened:
        events = json.load(opened)["traceEvents"]
    # The others are of Python and of the runtime.
    operations = [event for event in events if "hlo_op" in event.get("args", {})]
    milliseconds = collections.Counter[str]()
    for event in operations:
        milliseconds[event["name"]] += event["dur"] / 1e3 / _STEPS
    return {
        "file": str(file),
        "operations": len(operations) // _STEPS,
        "slowest": milliseconds.most_common(5),
    }


if __name__ == "__main__":
    main()
