"""Means over trainings against scipy, by worked examples and by simulation."""

import numpy as np
import pytest
from scipy import stats

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.stats import intervals
from rlhf_hw.stats.replicates import (
    Replicated,
    beyond,
    independent_difference,
    replicated_lead,
    replicated_mean,
    replicated_rate,
    trainings_interval,
)


def test_the_interval_over_trainings_is_students():
    values = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 5.0], [0.0, 1.0, 4.0]])
    found = replicated_mean(values)
    means = values.mean(axis=1)
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(values.mean())
    assert found.trainings[1:] == pytest.approx((expected.low, expected.high))


def test_the_interval_over_prompts_is_that_of_the_rows_means():
    values = np.random.default_rng(0).normal(size=(3, 40))
    prompts = [row // 2 for row in range(40)]
    assert replicated_mean(values, prompts).prompts == intervals.mean_interval(values.mean(axis=0), prompts)


def test_keys_are_plain_numbers_and_one_training_has_no_interval_over_trainings():
    found = replicated_mean(np.eye(3)).named("gain")
    assert set(found) == {"gain", "gain_low", "gain_high", "gain_trainings_low", "gain_trainings_high"}
    assert all(type(number) is float for number in found.values())
    single = replicated_mean([1.0, 2.0, 4.0])
    assert single.trainings is None and set(single.named("gain")) == {"gain", "gain_low", "gain_high"}
    assert trainings_interval([3.0]) is None


def test_named_and_of_are_inverse():
    for values in (np.eye(3), np.eye(3)[:1]):
        found = replicated_rate(values)
        assert Replicated.of({"other": 0.0} | found.named("rate"), "rate") == found


def test_a_rate_never_leaves_its_range():
    found = replicated_rate([[1.0] * 20, [1.0] * 20, [1.0] * 19 + [0.0]])
    assert found.trainings.high == 1.0 and found.trainings.low < found.value < 1


def test_beyond_needs_both_intervals():
    numbers = {"gain": 1.0, "gain_low": 0.5, "gain_high": 1.5}
    assert (
        beyond(numbers, "gain") == 1
        and beyond(numbers, "gain", 0.6) == 0
        and beyond(numbers, "gain", 2) == -1
    )
    numbers |= {"gain_trainings_low": -0.5, "gain_trainings_high": 2.5}
    assert beyond(numbers, "gain") == 0 and beyond(numbers, "gain", 2) == 0
    assert beyond(numbers, "gain", -1) == 1 and beyond(numbers, "gain", 3) == -1
    with pytest.raises(UnknownName, match="no interval loss_low, loss_high"):
        beyond(numbers, "loss")


def test_three_trainings_cover_where_an_interval_over_prompts_alone_does_not():
    """600 times three trainings whose level differs more than 200 prompts would tell."""
    generator = np.random.default_rng(0)
    trainings = prompts = 0
    for _ in range(600):
        found = replicated_mean(generator.normal(0, 0.3, (3, 1)) + generator.normal(size=(3, 200)))
        trainings += found.trainings.low <= 0 <= found.trainings.high
        prompts += found.prompts.low <= 0 <= found.prompts.high
    assert 0.93 <= trainings / 600 <= 0.97
    assert prompts / 600 < 0.6


@pytest.mark.parametrize("values", [np.zeros((2, 2, 2)), [], [[1.0, np.nan]]])
def test_other_shapes_are_refused(values):
    with pytest.raises(InputError, match="values"):
        replicated_mean(values)


def test_a_difference_of_independent_rates_is_newcombes():
    """Newcombe (1998), table II, method 10: 56/70 - 48/80 has the interval 0.0524 to 0.3339."""
    found = independent_difference(intervals.wilson_interval(56, 70), intervals.wilson_interval(48, 80))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_lead_is_taken_on_the_same_rows_and_over_trainings():
    first = np.array([[1, 1, 1, 0] * 25, [1, 1, 0, 0] * 25])
    found = replicated_lead(first, np.array([0, 1, 0, 0] * 25))  # the other is not trained anew
    assert found.value == pytest.approx(0.375)
    assert found.trainings == pytest.approx(trainings_interval([0.5, 0.25]))
    assert found.prompts.low > 0
    assert replicated_lead(first, first).value == 0
    same = replicated_lead(first[:1], first[:1])
    assert same.prompts.low < 0 < same.prompts.high and same.trainings is None  # no run of zeros is certain
