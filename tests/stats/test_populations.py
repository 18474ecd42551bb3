"""Mixtures and low-rank users: what must hold always, and populations that are found again."""

import numpy as np
import pytest
from scipy.special import expit

from rlhf_hw.errors import InputError
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.stats.populations import fit_low_rank, fit_mixture, place_user

REWARDS = np.array([[2.0, 2.0, 0.0], [2.0, -2.0, 0.0]])


def said(rewards: np.ndarray, each: int, seed: int = 0):
    """Comparisons of users with these rewards, shape (users, 3): differences, outcomes, users."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(len(rewards)), each)
    differences = rng.normal(size=(users.size, 3))
    likely = expit((differences * rewards[users]).sum(axis=1))
    return differences, (rng.random(users.size) < likely).astype(float), users


def two_groups(users: int = 60, each: int = 20):
    group = np.repeat([0, 1], [round(0.7 * users), users - round(0.7 * users)])
    return said(REWARDS[group], each), group


def test_em_finds_groups_their_shares_and_their_members():
    votes, group = two_groups()
    found = fit_mixture(*votes)
    assert found.shares == pytest.approx([0.7, 0.3], abs=0.05)
    assert found.rewards == pytest.approx(REWARDS, abs=0.6)
    assert (found.members.argmax(axis=1) == group).mean() > 0.9
    assert found.members.sum(axis=1) == pytest.approx(np.ones(60))


def test_em_never_gets_worse():
    votes, _ = two_groups()
    assert min(np.diff(fit_mixture(*votes, restarts=1, seed=3).path)) > -1e-6


def test_one_group_is_bradley_terry():
    votes, _ = two_groups()
    found = fit_mixture(*votes, groups=1)
    assert found.rewards[0] == pytest.approx(fit_bradley_terry(*votes[:2]), abs=1e-3)
    assert found.shares == pytest.approx([1])


def test_names_of_users_are_no_numbers():
    votes, _ = two_groups()
    names = [f"user {n % 7}{n}" for n in votes[2]]
    assert fit_mixture(*votes[:2], names).shares == pytest.approx(fit_mixture(*votes).shares)


def test_a_user_is_placed_from_own_comparisons_and_stays_in_the_middle_without():
    tastes = np.random.default_rng(5).normal(size=100)
    rewards = np.array([2.0, 0.0, 0.0]) + 2 * tastes[:, None] * np.array([0.0, 1.0, 0.0])
    differences, outcomes, users = said(rewards, 30)
    model = fit_low_rank(differences, outcomes, users, rank=1)
    found = model.reward(model.places)
    assert np.corrcoef(found[:, 1], rewards[:, 1])[0, 1] > 0.9
    assert abs(model.basis[1, 0]) > 5 * abs(model.basis[[0, 2], 0]).max()
    assert place_user(model, differences[:0], outcomes[:0]) == pytest.approx([0])
    mine = users == 0
    assert place_user(model, differences[mine], outcomes[mine]) == pytest.approx(model.places[0], abs=0.1)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_rank_beyond_the_features_is_refused(rank):
    votes, _ = two_groups()
    with pytest.raises(InputError, match="rank must be from 1 to 3"):
        fit_low_rank(*votes, rank=rank)


def test_a_mixture_has_a_group():
    votes, _ = two_groups()
    with pytest.raises(InputError, match="groups must be 1 or more"):
        fit_mixture(*votes, groups=0)
