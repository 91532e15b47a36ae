"""How many batches the host makes, and how many a GPU would take: `python -m benchmarks.host`.

A host that feeds 8 GPUs makes batches of 8 x 32 dialogues. What an H100 takes is worked out: at half
of its peak, training RoBERTa-base on the word pieces of the same dialogues.
"""

import time
from functools import partial
from typing import Any

from absl import flags
from ml_collections import config_flags

from benchmarks import measure
from benchmarks.measure import Figure, Laps

_CONFIG = config_flags.DEFINE_config_file("config", help_string="What the run is; see configs/.")
_DEVICES = (1, 8)
_SHARE = 32  # dialogues on a device
_H100 = 989e12  # operations per second, dense bfloat16
_USED = 0.5  # of it
_SECONDS = 2.0  # for which batches are made


def main() -> None:
    parts = {str(devices): partial(_make_batches, devices) for devices in _DEVICES}
    measure.run_benchmark("host", _measure, parts, lambda: measure.require_config(_CONFIG))


def _measure() -> None:
    starts = {f"{n} devices": partial(measure.run_part, "host", str(n)) for n in _DEVICES}
    ended = measure.alternated(starts)
    figures = []
    for (name, processes), devices in zip(ended.items(), _DEVICES, strict=True):
        told = [one.printed for one in processes]
        for unit, suffix in (("seconds", ""), ("cpu", ", by CPU")):
            rates = [devices * _SHARE / one[unit] for one in told]
            needed = [devices * one["needed"] for one in told]
            if unit == "seconds":
                figures += [
                    Figure(f"{name}: a batch", "ms", [1e3 * one["seconds"] for one in told]),
                    Figure(f"{name}: batches", "/s", [1 / one["seconds"] for one in told]),
                    Figure(f"{name}: needed for H100s", "dialogues/s", needed),
                ]
            made = [rate / need for rate, need in zip(rates, needed, strict=True)]
            figures.append(Figure(f"{name}: made{suffix}", "dialogues/s", rates))
            figures.append(Figure(f"{name}: made / needed{suffix}", "", made))
    measure.say("host", measure.config_name(_CONFIG), "", figures)


def _make_batches(devices: int) -> dict[str, Any]:
    """Makes batches for `devices` devices, as the background thread of `Batches.epoch` does."""
    import numpy as np

    from benchmarks.workload import ROBERTA_BASE, encoder_operations, load_batches

    config = _CONFIG.value
    config.batch_size = devices * _SHARE
    batches = load_batches(config, Laps(), devices)
    lengths = [len(s.token_ids) for example in batches.examples for s in example.segments]
