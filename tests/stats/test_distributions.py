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
