"""The jackknife against textbook formulas, and ratios by simulated coverage."""

import numpy as np
import pytest

from rlhf_hw.stats import intervals, jackknife


def weighted_mean(values):
    return lambda weights: (weights @ values / weights.sum(axis=1))[:, None]


def test_of_a_mean_it_is_students_interval():
    values = np.random.default_rng(0).normal(size=15)
    (found,) = jackknife.jackknife_intervals(weighted_mean(values), np.arange(15))
    assert found == pytest.approx(intervals.mean_interval(values))
    codes = np.repeat(np.arange(5), 3)
    (clustered,) = jackknife.jackknife_intervals(weighted_mean(values), codes)
    assert clustered == pytest.approx(intervals.mean_interval(values, codes))


def test_a_cluster_that_cannot_be_left_out_leaves_no_bounds():
    (alone,) = jackknife.jackknife_intervals(weighted_mean(np.ones(4)), np.zeros(4, int))
    assert alone == (1.0, -np.inf, np.inf)
    needed = np.array([1.0, 0.0, 0.0])
    (found,) = jackknife.jackknife_intervals(lambda w: (w @ needed / (w @ needed))[:, None], np.arange(3))
    assert found[1:] == (-np.inf, np.inf)


def test_chunks_make_no_difference(monkeypatch):
    values, codes = np.random.default_rng(0).normal(size=30), np.arange(30) // 2
    whole = jackknife.jackknife_intervals(weighted_mean(values), codes)
    monkeypatch.setattr(jackknife, "CHUNK", 60)
    assert jackknife.jackknife_intervals(weighted_mean(values), codes) == whole


def test_fieller_covers_a_ratio_and_has_no_bounds_where_the_denominator_may_be_zero():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        x = generator.normal(2, 2, 30)
        y = 0.5 * x + generator.normal(size=30)
        spread = np.cov(y, x) / 30
        found = jackknife.ratio_interval(y.mean(), x.mean(), spread, intervals.quantile(29))
        covered += found is None or found.low <= 0.5 <= found.high
    assert 930 <= covered <= 970
    assert jackknife.ratio_interval(1.0, 0.1, np.eye(2), 2.0) is None
    assert jackknife.ratio_interval(1.0, 2.0, np.full((2, 2), np.inf), 2.0) is None
    exact = jackknife.ratio_interval(1.0, 2.0, np.diag([0.01, 0.0]), 2.0)
    assert exact == pytest.approx((0.5, 0.4, 0.6))
