"""The user as a variable, gates over heads, and rules of welfare: invariants, and truths found again."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from rlhf_hw.experiments.plural.gated_heads import fit_gate, fit_heads, gate_shares
from rlhf_hw.experiments.plural.user_variable import UserVariable, divergence, fit_user_variable
from rlhf_hw.experiments.plural.welfare import (
    LAMBDAS,
    above_mean,
    alternatives_world,
    chosen_weight,
    frontier,
    taken,
)


def test_without_comparisons_a_user_is_anybody():
    torch.manual_seed(0)
    model = UserVariable(3)
    mean, log_variance = model.encode(torch.randn(2, 5, 3), torch.zeros(2, 5))
    assert not mean.any() and not log_variance.any()
    assert model.weights_for(np.zeros((0, 3))) == pytest.approx(model.mean.detach().numpy())


def test_a_user_is_what_was_shown_in_whatever_order():
    torch.manual_seed(0)
    model, table = UserVariable(3), torch.randn(1, 4, 3)
    shown = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    one = model.encode(table, shown)[0]
    assert torch.allclose(one, model.encode(table[:, [1, 0, 2, 3]], shown)[0], atol=1e-6)
    hidden = table.clone()
    hidden[:, 2:] = 9
    assert torch.equal(one, model.encode(hidden, shown)[0])


def test_divergence_is_zero_for_the_prior_alone_and_as_in_torch():
    assert divergence(torch.zeros(4), torch.zeros(4)) == 0
    mean, log_variance = torch.tensor([0.5, -1.0]), torch.tensor([0.3, -0.7])
    normal = torch.distributions.Normal
    other = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    assert divergence(mean, log_variance) == pytest.approx(float(other.sum()), abs=1e-6)


def test_the_network_reads_a_taste_from_a_few_comparisons():
    rng = np.random.default_rng(0)
    tastes = rng.choice([-2.0, 2.0], 80)
    features = rng.normal(size=(80, 24, 2))
    likely = expit(features @ np.array([1.0, 0.0]) + tastes[:, None] * features[..., 1])
    signed = features * np.where(rng.random(likely.shape) < likely, 1, -1)[..., None]
    model = fit_user_variable(signed[:60], (0, 4, 12), start=np.array([1.0, 0.0]), steps=150, rate=0.03)
    found = np.array([model.weights_for(user[:12])[1] for user in signed[60:]])
    assert (np.sign(found) == np.sign(tastes[60:])).mean() > 0.85
    again = fit_user_variable(signed[:60], (0, 4, 12), start=np.array([1.0, 0.0]), steps=150, rate=0.03)
    assert np.array_equal(again.weights_for(signed[60][:12]), model.weights_for(signed[60][:12]))


def test_heads_are_the_objectives_that_were_rated():
    features = np.random.default_rng(0).normal(size=(2000, 4))
    truth = np.array([[1.0, 0.0], [0.0, -2.0], [0.0, 0.0], [0.5, 0.5]])
    assert fit_heads(features, features @ truth + 7) == pytest.approx(truth, abs=0.05)


def test_a_gate_takes_the_head_that_the_prompt_asks_for():
    rng = np.random.default_rng(0)
    prompts = np.stack([np.ones(3000), rng.integers(0, 2, 3000)], axis=1)
    margins = rng.normal(size=(3000, 2))
    asked = margins[np.arange(3000), prompts[:, 1].astype(int)]
    weights, scale = fit_gate(margins, prompts, (rng.random(3000) < expit(3 * asked)).astype(float))
    shares = gate_shares(weights, np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert shares.sum(axis=1) == pytest.approx(np.ones(2))
    assert shares[0, 0] > 0.85 and shares[1, 1] > 0.85 and scale == pytest.approx(3, abs=0.6)


def test_intensity_cannot_be_read_from_comparisons():
    mild, strong = alternatives_world(1.2), alternatives_world(2.0)
    assert mild["votes"] == pytest.approx(strong["votes"])
    assert mild["borda"] == pytest.approx(0.79) and strong["borda"] == pytest.approx(0.79)
    assert mild["mean"] == pytest.approx(0.79) and strong["mean"] == pytest.approx(1.0)


def test_rules_choose_by_their_own_measure():
    rng = np.random.default_rng(0)
    rewards = above_mean(rng.normal(size=(200, 16, 2)) * [2.0, 1.0])
    expected = frontier(rewards, rewards)
    assert expected[0, 0] == expected[:, 0].max() and expected[-1, 1] == expected[:, 1].max()
    assert chosen_weight("mean", expected, (0.7, 0.3)) == 0.3
    weight = chosen_weight("maxmin", expected, (0.7, 0.3))
    assert expected[list(LAMBDAS).index(weight)].min() == expected.min(axis=1).max()
    assert above_mean(rewards).mean(axis=1) == pytest.approx(np.zeros((200, 2)), abs=1e-12)
    best = taken(rewards[..., 0], rewards)
    assert best[:, 0] == pytest.approx(rewards[..., 0].max(axis=1))
