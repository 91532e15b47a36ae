"""Compares two settings, seed by seed, on the same test dialogues.

rpcl compare runs/one_grid:rpcl runs/other_grid:rpcl
rpcl compare runs/ecf_frozen/base-t-seed42 runs/ecf_frozen/rpcl-t-seed42

Each setting is a grid and one of its objectives, or a run. For every metric, prints how much the
second is above the first, in points, with the 95 % interval of the paired bootstrap
(rpcl_jax/evaluation/bootstrap.py) and the p-value of the paired t test over seeds, which has no
correction for other comparisons (rpcl_jax/evaluation/significance.py).
"""

from rpcl_jax.errors import InputError
from rpcl_jax.run.command_line import run_command


def _compare(first: str, second: str) -> None:
    from rpcl_jax.evaluation.significance import paired_t
    from rpcl_jax.reporting.experiments import (
        METRICS,
        check_same_data,
        interval_text,
        p_text,
        paired_delta,
        read_setting,
    )

    other, base = read_setting(first)
    system, objective = read_setting(second)
    one, two = (next(iter(e.runs[o].values())) for e, o in ((other, base), (system, objective)))
    if one.config.data == two.config.data:  # or they were trained on different corpora on purpose
        check_same_data(two, one)
    if other.splits["test"] != system.splits["test"]:
        raise InputError(f"{second}: evaluated on other test dialogues than {first}")
    seeds = [seed for seed in other.runs[base] if seed in system.runs[objective]]
    if not seeds:
        raise InputError(f"{second}: no seed in common with {first}")
    print("seeds", *seeds)
    print(
        "low and high: 95 %, paired bootstrap over dialogues and seeds; p: paired t test over seeds"
    )
    names = (first, second, "difference", "low", "high")
    widths = [max(12, len(name)) for name in names]
    print(f"{'test, in points':24s}", *map(str.rjust, names, widths), f"{'p':>6s}")
    for metric in METRICS:
        delta = paired_delta(system, objective, other, base, metric, seeds)
        values, others = (
            experiment.values(name, metric, seeds)
            for experiment, name in ((system, objective), (other, base))
        )
        numbers = (
            f"{100 * value:{width}.2f}"
            for value, width in zip((others.mean(), values.mean(), *delta[:3]), widths, strict=True)
        )
        p = p_text(paired_t(values, others)[1]) if len(seeds) > 1 else ""
        _, caveats = interval_text(delta)
        print(f"{metric:24s}", *numbers, f"{p:>6s}", "", caveats)


if __name__ == "__main__":
    run_command("compare", _compare, takes="GRID:OBJECTIVE GRID:OBJECTIVE")
