"""What the benchmarks conclude from what their processes told."""

import collections
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.measure import Ended, Figure

# Of a training step, and what goes with it.
PARTS = {
    "base": "a step of base",
    "rpcl": "a step of rpcl",
    "forward": "encoder, forward",
    "encoder": "encoder, forward and backward",
    "rest": "fusion, scorer and losses",
    "optimizer": "optimizer",
    "host": "making a batch",
    "inference": "inference",
}
# What a process may tell besides seconds, with its unit and what to divide it by.
_FURTHER = (
    ("encoder's rate / product's", "", 1),
    ("encoder's rate / product's, by CPU", "", 1),
    ("utilisation", "of the peak, by the text encoder", 1),
    ("rate", "dialogues/s", 1),
    ("memory of the program", "MiB", 2**20),
    ("memory of a device", "MiB", 2**20),
)
# Dense bfloat16 TFLOP/s by what is in the name of a device; the first that fits.
_PEAKS = {"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0, "A100": 312.0}
FIRST = "compiling or loading the program"


def step_figures(ended: Mapping[str, Sequence[Ended]], inside: Sequence[str]) -> list[Figure]:
    """Returns what the processes of each part of a training step say.

    Args:
      ended: the processes, by part.
      inside: the parts that a step consists of.
    """
    told = {part: [one.printed for one in processes] for part, processes in ended.items()}

    def of(part: str, name: str) -> list[float]:
        return [one[name] for one in told[part]]

    rates = [one["product"] / 1e9 for part in told.values() for one in part]
    figures = [Figure("matrix product", "GFLOP/s", rates)]
    for part, processes in ended.items():
        label = PARTS[part]
        figures.append(Figure(label, "s", of(part, "seconds")))
        figures.append(Figure(f"{label}: CPU", "CPU s", of(part, "cpu")))
        for name, unit, scale in _FURTHER:
            if name in told[part][0]:
                values = [value / scale for value in of(part, name)]
                figures.append(Figure(f"{label}: {name}", unit, values))
        if "memory of the program" in told[part][0]:
            peaks = [one.peak / 2**20 for one in processes]
            figures.append(Figure(f"{label}: memory of the process", "MiB", peaks))

    def combined(what: str, unit: str, name: str, combine: Callable, *parts: str) -> None:
        """Adds what `combine` makes of the parts' medians, and of processes that took turns."""
        if told.keys() >= set(parts):
            columns = [of(part, name) for part in parts]
            turns = [combine(*row) for row in zip(*columns, strict=True)]
            figures.append(Figure(what, unit, turns, combine(*map(median, columns))))

    combined("rpcl / base", "by clock", "seconds", operator.truediv, "rpcl", "base")
    if "product by CPU" in next(iter(told.values()))[0]:  # elsewhere, a CPU only starts the work
        combined("rpcl / base", "by CPU", "cpu", operator.truediv, "rpcl", "base")
    combined("rpcl / base", "by products", "products", operator.truediv, "rpcl", "base")
    for name, unit in (("seconds", "s"), ("cpu", "CPU s")):
        combined("encoder, backward", unit, name, operator.sub, "encoder", "forward")
        combined("what remains of rpcl", unit, name, _remainder, "rpcl", *inside)
    return figures


def _remainder(whole: float, *parts: float) -> float:
    return whole - sum(parts)


def peak_of(device_kind: str) -> float | None:
    """Returns the dense bfloat16 TFLOP/s of a device, or None if they are not known."""
    return next((tera for name, tera in _PEAKS.items() if name in device_kind), None)


def prediction_figures(parts: Sequence[Ended], whole: Sequence[Ended]) -> list[Figure]:
    """Returns what the processes say: of the parts one after the other, and of the command."""
    told = [one.printed for one in parts]
    count = told[0]["conversations"]
    figures = [
        Figure("matrix product", "GFLOP/s", [one["product"] / 1e9 for one in told]),
        Figure("whole process", "s", [one.seconds for one in whole]),
        Figure("whole process: CPU", "CPU s", [one.cpu for one in whole]),
        Figure("whole process: rate", "conversations/s", [count / one.seconds for one in whole]),
        Figure("whole process: memory", "MiB", [one.peak / 2**20 for one in whole]),
        Figure("steady state", "s", [one["seconds"] for one in told]),
        Figure("steady state: CPU", "CPU s", [one["cpu"] for one in told]),
        Figure("steady state: rate", "conversations/s", [count / one["seconds"] for one in told]),
        Figure(
            "steady state: encoder's rate / product's",
            "by clock",
            [one["operations"] / one["seconds"] / one["product"] for one in told],
        ),
    ]
    if "product by CPU" in told[0]:
        shares = [one["operations"] / one["cpu"] / one["product by CPU"] for one in told]
        figures.append(Figure("steady state: encoder's rate / product's", "by CPU", shares))
    laps = {lap: [one["laps"][lap] for one in told] for lap in told[0]["laps"]}
    laps[FIRST] = [first - one["seconds"] for first, one in zip(laps[FIRST], told, strict=True)]
    laps["computing"] = [one["seconds"] for one in told]
    figures += [Figure(f"of it: {lap}", "s", seconds) for lap, seconds in laps.items()]
    remaining = [
        one.seconds - sum(seconds[turn] for seconds in laps.values())
        for turn, one in enumerate(whole)
    ]
    figures.append(Figure("of it: Python's start and end, and the rest", "s", remaining))
    return figures


def package_seconds(importtime: str) -> list[tuple[str, float]]:
    """Returns the seconds in each package's own modules, the slowest first.

    Args:
      importtime: what Python with -X importtime writes.
    """
    microseconds = collections.Counter[str]()
    for line in importtime.splitlines():
        found = re.fullmatch(r"import time: +(\d+) \| +\d+ \| +(\S+)", line)
        if found:
            microseconds[found[2].partition(".")[0]] += int(found[1])
    return [(package, each / 1e6) for package, each in microseconds.most_common()]
