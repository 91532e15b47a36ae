"""The paired t test over seeds, and Holm's correction for many comparisons.

The test asks how much of a difference between two systems is due to their seeds, on the one test
split there is; `rpcl_jax.evaluation.bootstrap` resamples the dialogues as well.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from rpcl_jax.evaluation.bootstrap import Interval


def paired_t(system: np.ndarray, base: np.ndarray) -> tuple[Interval, float]:
    """Returns the mean difference with its 95 % interval, and the p-value of no difference.

    Both hold a metric of the runs of the same S ≥ 2 seeds, [S]. The interval is that of Student's t
    with S - 1 degrees of freedom, and the p-value is two-sided: 1 if all runs are equal, 0 if all
    differ by the same amount.

    >>> interval, p = paired_t(np.array([0.52, 0.55, 0.56]), np.array([0.50, 0.51, 0.53]))
    >>> print(f"{interval.difference:.2f} [{interval.low:.3f}, {interval.high:.3f}], p = {p:.3f}")
    0.03 [0.005, 0.055], p = 0.035
    """
    differences = np.asarray(system) - base
    seeds, mean = len(differences), float(differences.mean())
    if seeds < 2:
        raise ValueError("the paired t test needs two seeds or more")
    if not np.ptp(differences):  # SciPy's t is infinite, or 0 / 0
        return Interval(mean, mean, mean, seeds), float(mean == 0)
    test = stats.ttest_rel(system, base)
    low, high = test.confidence_interval()
    return Interval(mean, float(low), float(high), seeds), float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected for the size of their family, by Holm's step-down method.

    The i-th smallest of m p-values is multiplied by m - i + 1; a corrected value is at least
    that of a smaller p-value and at most 1 (Holm 1979).

    >>> [f"{p:.2f}" for p in holm([0.01, 0.04, 0.03])]
    ['0.03', '0.06', '0.06']
    """
    if np.isnan(p_values).any():
        raise ValueError("a p-value is NaN")
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        corrected[number] = largest
    return corrected
