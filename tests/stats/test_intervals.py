"""Intervals against scipy's, simulation and the plain bootstrap."""

import numpy as np
import pytest
from scipy import stats

from rlhf_hw.stats import intervals


def test_wilson_interval_is_scipys():
    for successes, trials in ((0, 10), (7, 10), (10, 10), (745, 999)):
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert intervals.wilson_interval(successes, trials)[1:] == pytest.approx(
            (expected.low, expected.high)
        )


def test_intervals_cover_the_truth_also_when_pairs_share_prompts():
    """200 samples of 60 prompts with 4 pairs each; 95% intervals should hold the truth about 190 times."""
    generator = np.random.default_rng(0)
    clustered = alone = 0
    for _ in range(200):
        chance = generator.beta(3, 2, size=60)  # accuracy differs from prompt to prompt; mean 0.6
        right = (generator.random((60, 4)) < chance[:, None]).astype(float).ravel()
        prompts = np.repeat(np.arange(60), 4)
        estimate = intervals.rate_interval(right, prompts, draws=400)
        clustered += estimate.low <= 0.6 <= estimate.high
        estimate = intervals.rate_interval(right)
        alone += estimate.low <= 0.6 <= estimate.high
    assert 178 <= clustered <= 199
    assert alone < clustered  # ignoring the prompts makes intervals too short


def test_bootstrap_is_the_plain_bootstrap_where_rows_are_independent():
    values = np.random.default_rng(1).normal(size=300)
    ours = intervals.mean_interval(values, draws=4000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    assert ours[1:] == pytest.approx(tuple(expected), abs=0.015)
    assert ours == intervals.mean_interval(values, draws=4000)  # the same seed, the same interval


def test_an_estimate_is_written_with_its_interval_and_read_back():
    estimate = intervals.Estimate(0.5, 0.25, 0.75)
    assert intervals.Estimate.of({"other": 1.0} | estimate.named("rate"), "rate") == estimate
    assert f"{intervals.Estimate(0.574, 0.5, 0.6499):+.2f}" == "+0.57 [+0.50, +0.65]"


def test_points_of_a_curve_get_wilsons_interval():
    low, high = intervals.wilson_interval(75, 100)[1:]
    found = intervals.with_intervals([{"step": 8, "value": 0.75}], 100)
    assert found == [{"step": 8, "value": 0.75, "low": low, "high": high}]
