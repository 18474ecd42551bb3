"""Length-controlled win rate: against another fit, near unanimity, and by simulated coverage."""

import numpy as np
import pytest
from scipy import optimize, special

from rlhf_hw.stats import length, policies
from rlhf_hw.stats.intervals import rate_interval
from rlhf_hw.stats.length_control import (
    Firth,
    length_controlled_difference,
    length_controlled_win_rate,
)

NAME = "win_rate_length_controlled"


def controlled(wins, gap, prompts=None):
    """Value and ends of the length-controlled win rate, from wins (1, 0) and differences of length."""
    found = length_controlled_win_rate(
        np.asarray(wins) - 0.5, np.zeros(len(wins)), gap, np.zeros(len(wins)), prompts
    )
    return tuple(found[f"{NAME}{end}"] for end in ("", "_low", "_high"))


def simulate(generator, rate, prompts, each=1):
    """Wins at a true rate at equal length, pulled by length; prompts with `each` rows agree."""
    gap, shift = generator.normal(size=prompts * each), special.logit(rate)
    common = np.repeat(generator.normal(size=prompts), each)
    latent = special.ndtr(np.sqrt(0.5) * common + np.sqrt(0.5) * generator.normal(size=gap.size))
    wins = (latent < special.expit(shift + np.tanh(gap / gap.std()))).astype(float)
    return wins, gap, np.repeat(np.arange(prompts), each)


def test_the_fit_maximises_firths_likelihood_and_nears_the_plain_one_with_many_rows():
    generator = np.random.default_rng(0)
    term = generator.normal(size=4000)
    wins = (generator.random(4000) < special.expit(0.4 + 0.9 * term)).astype(float)
    model = Firth(term, wins)
    found = optimize.minimize(lambda x: -model.likelihood(*x), [0.0, 0.0], tol=1e-10)
    assert model.best() == pytest.approx(tuple(found.x), abs=1e-4)
    assert model.best() == pytest.approx((0.4, 0.9), abs=0.15)
    assert model.profile(0.4, 0.0) == pytest.approx(
        max(model.likelihood(0.4, s) for s in np.linspace(0, 2, 2001)), abs=1e-5
    )


def test_gradient_is_that_of_the_penalised_likelihood():
    model = Firth(np.array([-0.9, -0.2, 0.1, 0.5, 0.8]), np.array([0.0, 1.0, 0.5, 1.0, 1.0]))
    numeric = optimize.approx_fprime(np.array([0.3, -0.4]), lambda x: model.likelihood(*x), 1e-7)
    assert model.pull(0.3, -0.4)[0] == pytest.approx(numeric, abs=1e-5)


@pytest.mark.parametrize("count", [10, 100])
def test_it_is_not_falsely_certain_of_a_clean_sweep(count):
    gap = np.random.default_rng(0).normal(size=count)
    value, low, high = controlled(np.ones(count), gap)
    plain = rate_interval(np.ones(count))
    assert low < plain.low + 0.03 < value < high and high > 0.999
    mirrored = controlled(np.zeros(count), gap)
    assert mirrored == pytest.approx((1 - value, 1 - high, 1 - low), abs=1e-3)


def test_one_prompt_lets_nothing_be_said():
    gap = np.arange(8.0)
    assert controlled(np.ones(8), gap, ["same"] * 8)[1:] == (0.0, 1.0)
    found = policies.compare_policies([2.0], [1.0], None, [5], [9], gold_first=[3.0], gold_second=[1.0])
    said = [name for name, holds in policies.statements(found).items() if holds]
    assert said == ["dpo_gold_open"]


@pytest.mark.parametrize(("rate", "prompts", "each"), [(0.97, 50, 1), (0.97, 50, 4), (0.5, 20, 1)])
def test_it_covers(rate, prompts, each):
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        _, low, high = controlled(*simulate(generator, rate, prompts, each))
        covered += low <= rate <= high
    assert covered >= 276  # 0.92: three standard errors below 0.95 at 300 samples


def test_it_is_the_win_rate_at_equal_lengths():
    first = np.array([1.0, 2.0, -1.0, 3.0] * 50)
    found = policies.compare_policies(first, np.zeros(200), None, np.full(200, 9), np.full(200, 9))
    assert [found[f"{NAME}{end}"] for end in ("", "_low")] == [found["win_rate"], found["win_rate_low"]]
    assert "score_difference_length_controlled" not in found


def test_it_removes_a_win_rate_that_is_only_length():
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 200, (2, 1500))
    lengths[0] += 60
    gap = (lengths[0] - lengths[1]) / 50
    first = gap + generator.logistic(size=1500)  # scores pay for length and nothing else
    found = policies.compare_policies(first, np.zeros(1500), None, *lengths)
    assert found["win_rate_low"] > 0.6
    assert found[f"{NAME}_low"] < 0.5 < found[f"{NAME}_high"]
    assert (
        found["score_difference_length_controlled_low"] < 0 < found["score_difference_length_controlled_high"]
    )


def test_a_difference_is_what_lies_along_length_and_what_does_not():
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 200, (2, 200))
    first = (lengths[0] - lengths[1]) / 50 + 1 + generator.normal(size=200)
    found = policies.compare_policies(first, np.zeros(200), None, *lengths)
    parts = found["score_difference_length_controlled"] + found["score_difference_along_length"]
    assert parts == pytest.approx(found["score_difference"])
    assert found["score_difference_length_controlled"] == pytest.approx(1, abs=0.2)


def test_a_line_that_hangs_on_one_prompt_is_left_out():
    good = length_controlled_difference(
        [2.0, 3.0, 5.0, 4.0], [1.0, 1.0, 1.0, 1.0], [10, 12, 14, 12], [10, 10, 10, 10]
    )
    assert good["score_difference_length_controlled"] == pytest.approx(1.0)  # the intercept
    assert all(np.isfinite(value) for value in good.values())
    assert length_controlled_difference([2.0, 3.0, 5.0], np.ones(3), [10, 10, 14], np.full(3, 10)) == {}
    with pytest.raises(ValueError, match="all lengths are equal"):
        length.score_length_slope([1.0, 2.0], [3, 3])
