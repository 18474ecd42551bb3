"""Intervals of means and rates against scipy's, by worked examples and by simulated coverage.

The whole table of coverages comes from `make coverage` and stands in docs/statistics.md.
"""

import numpy as np
import pytest
from scipy import stats

from rlhf_hw.errors import InputError
from rlhf_hw.stats import intervals
from rlhf_hw.stats.coverage import clustered_outcomes


def test_wilson_interval_is_scipys():
    for successes, trials in ((0, 10), (7, 10), (10, 10), (745, 999)):
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert intervals.wilson_interval(successes, trials)[1:] == pytest.approx(
            (expected.low, expected.high)
        )


def test_a_rate_of_independent_rows_is_wilsons_with_t_for_z():
    found = intervals.rate_interval([1.0] * 745 + [0.0] * 254)
    assert found[1:] == pytest.approx(intervals.wilson_interval(745, 999)[1:], abs=1e-4)
    few = intervals.rate_interval([1.0] * 9 + [0.0])
    assert few.low < intervals.wilson_interval(9, 10).low and few.high > intervals.wilson_interval(9, 10).high


def test_a_mean_of_independent_rows_is_students():
    values = np.random.default_rng(1).normal(size=12)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert intervals.mean_interval(values)[1:] == pytest.approx(tuple(expected))
    # Rows that repeat their prompt's number add nothing.
    repeated = intervals.mean_interval(np.repeat(values, 5), np.repeat(np.arange(12), 5))
    assert repeated == pytest.approx(intervals.mean_interval(values))


def test_degrees_of_freedom_fall_where_one_prompt_has_most_rows():
    values, even = np.random.default_rng(2).normal(size=40), np.repeat(np.arange(10), 4)
    assert intervals.cluster_error(values, even)[1] == pytest.approx(9)
    uneven = np.concatenate([np.zeros(31, int), np.arange(1, 10)])
    assert 1 < intervals.cluster_error(values, uneven)[1] < 3


@pytest.mark.parametrize(
    ("outcomes", "prompts"),
    [
        ([1.0] * 20, [*range(19), 18]),  # one prompt repeats
        ([0.0] * 12, [row // 2 for row in range(12)]),
        ([0.5] * 12, [row // 2 for row in range(12)]),
        ([1.0] * 20, None),
    ],
)
def test_no_interval_collapses_where_all_rows_agree(outcomes, prompts):
    found = intervals.rate_interval(outcomes, prompts)
    independent = intervals.rate_interval(outcomes)
    assert found.low <= independent.low and found.high >= independent.high
    assert found.high - found.low > 0.15
    if prompts and outcomes[0] == 1:
        assert found.low == pytest.approx(0.82, abs=0.02) and found.high == 1


def test_one_prompt_says_nothing_of_others():
    assert intervals.rate_interval([1.0] * 9, ["same"] * 9)[1:] == (0.0, 1.0)
    assert intervals.mean_interval([1.0, 2.0], ["same"] * 2)[1:] == (-np.inf, np.inf)
    assert intervals.rate_difference_interval([1.0, 1.0], ["same"] * 2)[1:] == (-1.0, 1.0)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("prompts", [10, 50])
def test_intervals_of_rates_cover_also_when_pairs_share_prompts(rate, prompts):
    """1,000 samples of prompts with 4 pairs each that agree (correlation 0.3 within a prompt)."""
    generator = np.random.default_rng(prompts)
    clustered = alone = 0
    for _ in range(1000):
        outcomes, codes = clustered_outcomes(generator, prompts, rate)
        found, blind = intervals.rate_interval(outcomes, codes), intervals.rate_interval(outcomes)
        clustered += found.low <= rate <= found.high
        alone += blind.low <= rate <= blind.high
    assert clustered >= 930 and alone < clustered
    assert clustered <= 985


@pytest.mark.parametrize("prompts", [5, 10, 50])
def test_intervals_of_means_cover_with_few_prompts(prompts):
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        values = (generator.normal(size=(prompts, 1)) + generator.normal(size=(prompts, 3))).ravel()
        found = intervals.mean_interval(values, np.repeat(np.arange(prompts), 3))
        covered += found.low <= 0 <= found.high
    assert 930 <= covered <= 970


def test_a_difference_of_two_rates_stays_open_where_none_differs():
    found = intervals.rate_difference_interval(np.zeros(12))
    # Bonett and Price (2012) by hand: z sqrt(2 / 14 / 14), here with t for z and 13 for 14.
    assert found.high == pytest.approx(stats.t.ppf(0.975, 11) * np.sqrt(2 / 14 / 13)) and found.value == 0
    all_first = intervals.rate_difference_interval(np.ones(12))
    assert all_first.value == all_first.high == 1 and all_first.low < 0.9


def test_what_is_no_rate_is_refused():
    with pytest.raises(InputError, match="a rate is of"):
        intervals.rate_interval([0.5, 1.2])


def test_an_estimate_is_written_with_its_interval_and_read_back():
    estimate = intervals.Estimate(0.5, 0.25, 0.75)
    assert intervals.Estimate.of({"other": 1.0} | estimate.named("rate"), "rate") == estimate
    assert f"{intervals.Estimate(0.574, 0.5, 0.6499):+.2f}" == "+0.57 [+0.50, +0.65]"


def test_points_of_a_curve_get_wilsons_interval():
    low, high = intervals.wilson_interval(75, 100)[1:]
    found = intervals.with_intervals([{"step": 8, "value": 0.75}], 100)
    assert found == [{"step": 8, "value": 0.75, "low": low, "high": high}]
