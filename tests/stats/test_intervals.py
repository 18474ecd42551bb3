"""Points of a curve carry the intervals that their numbers of pairs allow."""

from rlhf_hw.stats import intervals
from rlhf_hw.stats.intervals import wilson_interval


def test_points_of_a_curve_get_wilsons_interval():
    low, high = wilson_interval(75, 100)[1:]
    found = intervals.with_intervals([{"step": 8, "value": 0.75}], 100)
    assert found == [{"step": 8, "value": 0.75, "low": low, "high": high}]
