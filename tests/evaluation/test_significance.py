"""The paired t test against SciPy's, Holm's correction against its definition and by hand."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rpcl_jax.evaluation.significance import holm, paired_t


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_paired_t_test_is_scipys(seeds):
    rng = np.random.default_rng(seeds)
    base = rng.normal(0.5, 0.01, seeds)
    system = base + rng.normal(0.005, 0.01, seeds)
    interval, p = paired_t(system, base)
    expected = scipy.stats.ttest_rel(system, base)
    assert p == pytest.approx(expected.pvalue, rel=1e-9)
    assert interval[1:3] == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert interval.difference == pytest.approx((system - base).mean())
    assert interval.seeds == seeds
    opposite, same = paired_t(base, system)
    assert same == pytest.approx(p)
    assert opposite[:3] == pytest.approx([-interval.difference, -interval.high, -interval.low])


def test_without_variance():
    base = np.array([0.25, 0.5])
    assert paired_t(base, base) == ((0.0, 0.0, 0.0, 2), 1.0)
    assert paired_t(base + 0.125, base) == ((0.125, 0.125, 0.125, 2), 0.0)
    with pytest.raises(ValueError, match="two seeds"):
        paired_t(base[:1], base[1:])


def test_holm_by_hand():
    # 4 · 0.005; then 3 · 0.011; then 2 · 0.02; then 1 · 0.03, but not below those before.
    assert holm([0.03, 0.005, 0.02, 0.011]) == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="NaN"):
        holm([0.1, np.nan])


@given(st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_procedure_rejects(p_values, level):
    """Step down: while the smallest p of those left is at most level / how many are left."""
    rejected, left = set(), sorted(range(len(p_values)), key=p_values.__getitem__)
    while left and p_values[left[0]] * len(left) <= level:
        rejected.add(left.pop(0))
    assert {k for k, p in enumerate(holm(p_values)) if p <= level} == rejected
