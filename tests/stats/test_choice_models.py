"""Models of choices: their limits, their gradients, and truths that they find again."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit, ndtr
from sklearn.linear_model import LogisticRegression

from rlhf_hw.errors import InputError
from rlhf_hw.stats.choice_models import (
    FIRST,
    SECOND,
    TIE_MODELS,
    TIED,
    MeanVariance,
    choice_loss,
    davidson,
    fit_bradley_terry,
    fit_mean_variance,
    fit_ties,
    mean_variance_loss,
    rao_kupper,
)

TRUTH = np.array([2.0, -1.0, 0.5])


def choices(count: int = 4000, seed: int = 0):
    """Features of both replies, and whether the first won under `TRUTH`."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, count, 3))
    return first, second, (rng.random(count) < expit((first - second) @ TRUTH)).astype(float)


def test_without_knowledge_a_choice_costs_ln_2():
    first, second, won = choices(10)
    assert choice_loss(np.zeros(3), first - second, won) == pytest.approx(10 * np.log(2))
    assert mean_variance_loss(np.zeros(9), first, second, won)[0] == pytest.approx(10 * np.log(2))


def test_bradley_terry_is_logistic_regression_without_intercept():
    first, second, won = choices()
    found = fit_bradley_terry(first - second, won, penalty=2.0)
    other = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8).fit(first - second, won).coef_[0]
    assert found == pytest.approx(other, abs=1e-3)
    assert found == pytest.approx(TRUTH, abs=0.2)
    assert fit_bradley_terry(second - first, won, penalty=2.0) == pytest.approx(-found, abs=1e-6)


def test_counts_and_shares_say_what_rows_say():
    first, second, won = choices(300)
    away = first - second
    rows = fit_bradley_terry(np.concatenate([away, away, away]), np.concatenate([won, won, 1 - won]))
    shares = fit_bradley_terry(away, (1 + won) / 3, counts=3.0)
    assert shares == pytest.approx(rows, abs=1e-4)


def test_an_offset_is_what_is_known_before():
    first, second, won = choices()
    away = first - second
    found = fit_bradley_terry(away[:, :1], won, offset=away[:, 1:] @ TRUTH[1:])
    assert found == pytest.approx(TRUTH[:1], abs=0.15)
    assert fit_bradley_terry(away[:0], won[:0]) == pytest.approx(np.zeros(3))


def test_choices_that_can_be_separated_need_a_penalty():
    with pytest.raises(InputError, match="penalty must be above 0"):
        fit_bradley_terry(np.eye(2), np.ones(2), penalty=0)


def test_the_mean_variance_loss_has_its_gradient():
    first, second, won = choices(40)
    counts, at = np.random.default_rng(1).random(40), np.random.default_rng(2).normal(size=9) / 3

    def part(k):
        return lambda p: mean_variance_loss(p, first, second, won, counts, 0.5)[k]

    assert check_grad(part(0), part(1), at) < 1e-4


def test_a_mean_variance_model_turns_around_with_the_replies_and_is_probit_at_equal_spread():
    first, second, _ = choices(50)
    model = MeanVariance(TRUTH, np.zeros(6))
    assert model.z(first, second) == pytest.approx(-model.z(second, first))
    assert ndtr(model.z(first, second)) == pytest.approx(ndtr((first - second) @ TRUTH / np.sqrt(2)))
    assert model.explained(first) == pytest.approx((first @ TRUTH).var() / ((first @ TRUTH).var() + 1))


def test_a_spread_that_is_there_is_found():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 8000, 2))
    deviation = np.sqrt(np.exp(2 * first[:, 1]) + np.exp(2 * second[:, 1]))
    won = (rng.random(8000) < ndtr(3 * (first - second)[:, 0] / deviation)).astype(float)
    found = fit_mean_variance(first, second, won)
    assert found.mean == pytest.approx([3, 0], abs=0.3)
    assert found.spread[:2] == pytest.approx([0, 2], abs=0.3)


@pytest.mark.parametrize("model", TIE_MODELS.values())
def test_probabilities_with_ties_add_up_and_turn_around(model):
    margins = np.linspace(-4, 4, 9)
    logs = model(margins, 0.7)
    assert np.exp(logs).sum(axis=1) == pytest.approx(np.ones(9))
    assert logs[:, FIRST] == pytest.approx(model(-margins, 0.7)[:, SECOND])
    assert logs[:, TIED].argmax() == 4


def test_models_with_ties_have_bradley_terry_and_their_papers_as_limits():
    margins = np.array([-1.0, 0.0, 2.0])
    for without in (rao_kupper(margins, 0.0), davidson(margins, -40.0)):
        assert np.exp(without[:, FIRST]) == pytest.approx(expit(margins))
    theta, nu = 1.5, 0.8  # at equal rewards (theta - 1) / (theta + 1), and nu / (2 + nu)
    assert np.exp(rao_kupper(np.zeros(1), np.log(theta))[0, TIED]) == pytest.approx(0.2)
    assert np.exp(davidson(np.zeros(1), np.log(nu))[0, TIED]) == pytest.approx(nu / (2 + nu))


@pytest.mark.parametrize(("name", "tendency"), [("rao_kupper", 0.6), ("davidson", 0.2)])
def test_reward_and_tendency_to_ties_are_found_again(name, tendency):
    first, second, _ = choices(6000)
    likely = np.exp(TIE_MODELS[name]((first - second) @ TRUTH, tendency))
    drawn = np.random.default_rng(3).random(6000)[:, None] > likely.cumsum(axis=1)
    weights, found = fit_ties(first - second, np.eye(3)[drawn.sum(axis=1)], name)
    assert weights == pytest.approx(TRUTH, abs=0.2)
    assert found == pytest.approx(tendency, abs=0.1)


def test_a_model_with_ties_needs_ties():
    with pytest.raises(InputError, match="there is none"):
        fit_ties(np.eye(2), np.eye(3)[[FIRST, SECOND]])
