"""What length is worth at equal quality, and curves over length: against worlds where the answer is known."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from rlhf_hw.stats.equal_quality import length_at_equal_quality, local_means, spread_within

PROMPTS = np.repeat(np.arange(50), 20)


def world(paid: float, seed: int = 0):
    """Quality that rises with length, levels of each prompt, and a score that pays `paid` for length."""
    rng = np.random.default_rng(seed)
    length = rng.normal(size=PROMPTS.size) + rng.normal(size=50)[PROMPTS]
    quality = 0.5 * length + rng.normal(size=PROMPTS.size)
    score = quality + paid * length + 9 * rng.normal(size=50)[PROMPTS] + 0.5 * rng.normal(size=PROMPTS.size)
    return score, quality, length


def test_the_coefficients_are_those_of_a_regression_within_prompts() -> None:
    score, quality, length = world(paid=0.7)
    by_length, by_quality = length_at_equal_quality(spread_within(score, PROMPTS), quality, length, PROMPTS)
    known = np.stack([spread_within(length, PROMPTS), spread_within(quality, PROMPTS)], axis=1)
    expected = LinearRegression().fit(known, spread_within(score, PROMPTS)).coef_
    assert [by_length.value, by_quality.value] == pytest.approx(list(expected), abs=1e-6)
    assert by_length.prompts.low > 0.2 and by_length.trainings is None


def test_a_score_that_pays_for_quality_alone_has_no_coefficient_of_length() -> None:
    score, quality, length = world(paid=0.0)
    found = length_at_equal_quality(spread_within(score, PROMPTS), quality, length, PROMPTS)[0]
    assert found.prompts.low < 0 < found.prompts.high and abs(found.value) < 0.05
    alone = np.polyfit(spread_within(length, PROMPTS), spread_within(score, PROMPTS), 1)[0]
    assert alone > 0.3  # without quality held, length looks well paid


def test_trainings_are_averaged_and_have_an_interval_of_their_own() -> None:
    _, quality, length = world(paid=0.0)
    table = [spread_within(world(paid)[0], PROMPTS) for paid in (0.5, 0.9)]
    found = length_at_equal_quality(table, quality, length, PROMPTS)[0]
    each = [length_at_equal_quality(one, quality, length, PROMPTS)[0].value for one in table]
    assert found.value == pytest.approx(np.mean(each)) and each[0] < each[1]
    assert found.trainings.low < each[0] and found.trainings.high > each[1]


def test_local_means_follow_a_line_and_a_bend() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 2000)
    at = np.array([0.0, 2.0, 8.0, 10.0])
    assert local_means(x, 3 * x + 1, at) == pytest.approx(3 * at + 1)
    bent = local_means(x, np.minimum(x, 5) + 0.1 * rng.normal(size=x.size), at)
    assert bent == pytest.approx([0, 2, 5, 5], abs=0.1)


def test_local_means_of_equal_places_are_their_mean() -> None:
    assert local_means(np.ones(4), np.arange(4.0), np.array([1.0, 3.0])) == pytest.approx([1.5, 1.5])


def test_what_never_varies_is_worth_nothing() -> None:
    assert not spread_within(np.ones(PROMPTS.size), PROMPTS).any()
