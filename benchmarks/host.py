"""How many batches the host makes, and how many GPUs would take.

    python -m benchmarks.host --config=configs/ecf_minilm.py

A host that feeds 8 GPUs makes batches of 8 x 32 dialogues. What an H100 takes is worked out: at
half of its peak, training RoBERTa-base on the word pieces of the same dialogues. The host makes
batches with one thread.
"""

import time
from functools import partial
from typing import Any

from ml_collections import config_flags

from benchmarks import measure
from benchmarks.figures import peak_of
from benchmarks.measure import Figure

_PROCESSES, _TABLE = measure.define_flags()
_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the run is; see configs/.")
_DEVICES = (1, 8)
_SHARE = 32  # dialogues on a device
_USED = 0.5  # of the peak of an H100
_SECONDS = 2.0  # for which batches are made


def main() -> None:
    parts = {str(devices): partial(_make_batches, devices) for devices in _DEVICES}
    measure.run_benchmark("host", _measure, parts, lambda: measure.require_config(_CONFIG))


def _measure() -> None:
    starts = {str(n): partial(measure.run_part, "host", str(n)) for n in _DEVICES}
    ended = measure.alternated(starts, _PROCESSES.value)
    figures = []
    for devices in _DEVICES:
        told = [one.printed for one in ended[str(devices)]]
        size, label = devices * _SHARE, f"{devices} x {_SHARE} dialogues"
        needed = [devices * one["needed"] for one in told]
        figures += [
            Figure(f"{label}: a batch", "ms", [1e3 * size * one["seconds"] for one in told]),
            Figure(f"{label}: made", "batches/s", [1 / size / one["seconds"] for one in told]),
            Figure(f"{label}: made", "dialogues/s", [1 / one["seconds"] for one in told]),
            Figure(f"{label}: an H100 each would take", "dialogues/s", needed),
        ]
        for name, by in (("seconds", "by clock"), ("cpu", "by CPU")):
            made = [1 / one[name] / need for one, need in zip(told, needed, strict=True)]
            figures.append(Figure(f"{label}: made / taken", by, made))
    measure.say("host", measure.config_name(_CONFIG), "", figures, "", _TABLE.value)


def _make_batches(devices: int) -> dict[str, Any]:
    """Makes batches for `devices` devices, as the background thread of `Batches.epoch` does."""
    import numpy as np

    from benchmarks.workload import ROBERTA_BASE, encoder_operations, segment_lengths
    from rpcl_jax.batching.pipeline import Batches, make_examples
    from rpcl_jax.readers.corpus import load_corpus
    from rpcl_jax.run.config import check_config
    from rpcl_jax.run.text_encoder import load_text_encoder, text_input
    from rpcl_jax.training.mesh import make_mesh

    config = _CONFIG.value
    config.batch_size = devices * _SHARE
    check_config(config)
    corpus = load_corpus(config)
    train = corpus.splits["train"]
    encoder = load_text_encoder(config, train)
    text = text_input(encoder, corpus.splits, config, make_mesh())
    batches = Batches(train, text, corpus.tables, config, devices, corpus.emotions)
    plan = [places[places >= 0] for places, _ in batches.epoch(config.seed, 1)]
    taken: list[tuple[float, float]] = []  # seconds for a dialogue
    ends = time.perf_counter() + _SECONDS
    while time.perf_counter() < ends or len(taken) < len(plan):
        members = plan[len(taken) % len(plan)]
        clock, cpu = time.perf_counter(), time.thread_time()
        batches.make(members)
        clock, cpu = time.perf_counter() - clock, time.thread_time() - cpu
        taken.append((clock / len(members), cpu / len(members)))
    seconds, cpu = np.median(taken, axis=0)

    examples = make_examples(train, encoder.tokenizer, {}, config, corpus.emotions)
    lengths = segment_lengths(examples)
    peak = peak_of("H100")
    assert peak is not None
    rate = _USED * peak * 1e12
    return {
        "seconds": seconds,
        "cpu": cpu,
        "needed": rate * len(train) / (3 * encoder_operations(ROBERTA_BASE, lengths)),
    }


if __name__ == "__main__":
    main()
