"""Distances of score distributions with known answers."""

import numpy as np
import pytest
from scipy import stats

from rlhf_hw.stats import distributions


def test_effect_sizes_and_overlap_of_normal_scores():
    generator = np.random.default_rng(0)
    chosen, rejected = generator.normal(1, 2, 20000), generator.normal(0, 2, 20000)
    assert distributions.effect_size(chosen, rejected) == pytest.approx(0.5, abs=0.03)
    assert distributions.overlap_coefficient(chosen, rejected) == pytest.approx(
        2 * stats.norm.cdf(-0.25), abs=0.01
    )
    assert distributions.overlap_coefficient(chosen, chosen) == pytest.approx(1, abs=0.005)
    t_value = stats.ttest_rel(chosen, rejected).statistic
    assert distributions.paired_effect_size(chosen, rejected) == pytest.approx(t_value / np.sqrt(20000))


def test_distribution_metrics_of_a_worked_example():
    found = distributions.distribution_metrics([1.0, 3.0], [0.0, 0.0 + 1e-9])
    assert found["chosen_mean"] == 2 and found["margin_mean"] == pytest.approx(2) and found["pairs"] == 2
    assert found["margin_sd"] == pytest.approx(np.sqrt(2))


def test_interval_of_a_correlation_covers_and_does_not_collapse():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        first = generator.normal(size=40)
        second = 0.6 * first + 0.8 * generator.normal(size=40)
        found = distributions.correlation_interval(distributions.correlation(first, second), 40)
        covered += found.low <= 6 / np.pi * np.arcsin(0.3) <= found.high  # Spearman's where Pearson's is 0.6
    assert 930 <= covered <= 975
    same = distributions.correlation_interval(1.0, 10)
    assert same.value == pytest.approx(1) and same.high >= same.value and same.low < 0.95
    assert distributions.correlation_interval(0.5, 3)[1:] == (-1, 1)
