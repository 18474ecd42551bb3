"""Several rewards in one population: a mixture of groups, and users who differ in a few directions.

Rewards are linear in features, as in `choice_models`; a row is one comparison by one user.

- `fit_mixture`: K Bradley-Terry rewards and the share of each group, by EM. The unit is the user: all of a
  user's comparisons come from one reward (MaxMin-RLHF, Chakraborty et al. 2024, first step).
- `fit_low_rank`: w_u = w + B z_u with few columns in B and z_u around 0 (LoRe, Bose et al. 2025). A user not
  seen before needs `place_user` alone, which finds as many numbers as B has columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_expit, logsumexp

from rlhf_hw.errors import InputError
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.stats.intervals import cluster_codes

ROUNDS = 40  # of EM, at most
NEARER = 0.02  # nats: a round that gains less was the last
STEPS_A_ROUND = 2  # of Newton's, which suffice: the next round goes on from there


class Mixture(NamedTuple):
    """Groups of annotators as EM found them.

    Attributes:
        shares: Of each group among users, largest first, shape (K,).
        rewards: Weights of its reward, shape (K, D).
        members: Probability that a user belongs to it, shape (users, K), users in order of appearance.
        path: Penalised log-likelihood after each round; it never falls.
    """

    shares: np.ndarray
    rewards: np.ndarray
    members: np.ndarray
    path: tuple[float, ...]

    def likelihoods(self, differences, outcomes, codes: np.ndarray) -> np.ndarray:
        """Log-likelihood of all that each user said, whoever the users are, shape (users,)."""
        said = user_likelihoods(self.rewards, differences, outcomes, codes)
        return logsumexp(np.log(self.shares) + said, axis=1)


def user_likelihoods(rewards: np.ndarray, differences, outcomes, codes: np.ndarray) -> np.ndarray:
    """Log-likelihood of all that each user said under each reward, shape (users, K).

    Args:
        rewards: Shape (K, D).
        differences: Shape (n, D).
        outcomes: 1 where the first reply won, else 0, shape (n,).
        codes: The user of each row, numbered from 0.
    """
    margins = differences @ rewards.T
    said = np.where(outcomes[:, None] > 0.5, log_expit(margins), log_expit(-margins))
    return np.stack([np.bincount(codes, column) for column in said.T], axis=1)


def fit_mixture(
    differences: np.ndarray,
    outcomes: np.ndarray,
    users: Sequence,
    *,
    groups: int = 2,
    restarts: int = 3,
    penalty: float = 0.1,
    seed: int = 0,
) -> Mixture:
    """A mixture of Bradley-Terry rewards by EM, the likeliest of some random starts.

    Args:
        differences: Features of the first reply minus those of the second, shape (n, D).
        outcomes: 1 where the first reply won, else 0, shape (n,).
        users: Who compared, shape (n,).
        groups: How many rewards.
        restarts: Random starts: EM ends at the top of whatever hill it began on.
        penalty: Ridge on each reward.
        seed: Of the starts.

    Raises:
        InputError: fewer than one group.
    """
    if groups < 1:
        raise InputError(f"groups must be 1 or more, not {groups}")
    rng, codes = np.random.default_rng(seed), cluster_codes(users, len(outcomes))
    rows = differences, outcomes, codes
    middle = fit_bradley_terry(differences, outcomes, penalty=penalty)
    tries = [_climb(rows, middle, groups, penalty, rng) for _ in range(restarts if groups > 1 else 1)]
    return max(tries, key=lambda found: found.path[-1])


def _climb(rows, middle: np.ndarray, groups: int, penalty: float, rng: np.random.Generator) -> Mixture:
    """One run of EM from rewards scattered around the single one."""
    differences, outcomes, codes = rows
    scatter = np.linalg.norm(middle) / np.sqrt(middle.size) if groups > 1 else 0.0
    rewards = middle + scatter * rng.normal(size=(groups, middle.size))
    shares, path = np.full(groups, 1 / groups), []
    while True:
        joint = np.log(shares) + user_likelihoods(rewards, *rows)
        total = logsumexp(joint, axis=1, keepdims=True)
        members = np.exp(joint - total)
        path.append(float(total.sum() - 0.5 * penalty * (rewards**2).sum()))
        if len(path) > ROUNDS or (len(path) > 1 and path[-1] - path[-2] < NEARER):
            break
        shares = np.clip(members.mean(axis=0), 1e-12, None)
        rewards = np.stack(
            [
                fit_bradley_terry(
                    differences,
                    outcomes,
                    counts=part[codes],
                    penalty=penalty,
                    start=reward,
                    steps=STEPS_A_ROUND,
                )
                for part, reward in zip(members.T, rewards, strict=True)
            ]
        )
    order = np.argsort(-shares)  # the last rewards and memberships belong to these shares
    return Mixture(shares[order], rewards[order], members[:, order], tuple(path))


class LowRank(NamedTuple):
    """Rewards of users: their `mean` (D,), where they differ, `basis` (D, K), and `places` (users, K)."""

    mean: np.ndarray
    basis: np.ndarray
    places: np.ndarray

    def reward(self, place: np.ndarray) -> np.ndarray:
        """Weights of a user at `place` (K,), or of several, shape (..., D)."""
        return self.mean + place @ self.basis.T


def place_user(model: LowRank, differences: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Where a user stands, from some comparisons, shape (K,); none: at 0, which is the mean reward."""
    return fit_bradley_terry(
        differences @ model.basis, outcomes, offset=differences @ model.mean, penalty=1.0
    )


def fit_low_rank(
    differences: np.ndarray,
    outcomes: np.ndarray,
    users: Sequence,
    *,
    rank: int = 2,
    rounds: int = 5,
    penalty: float = 0.1,
) -> LowRank:
    """Mean reward and the `rank` directions in which users differ most, by turns with the users' places.

    It begins with the leading directions of what each user alone would say beyond the mean.

    Args:
        differences, outcomes, users: As in `fit_mixture`.
        rank: Columns of the basis.
        rounds: Of fitting places, then mean and basis.
        penalty: Ridge on mean and basis; that on places is 1.

    Raises:
        InputError: a rank below 1, or above the number of features.
    """
    size = differences.shape[1]
    if not 1 <= rank <= size:
        raise InputError(f"rank must be from 1 to {size}, the number of features, not {rank}")
    codes = cluster_codes(users, len(outcomes))
    own = [(differences[codes == u], outcomes[codes == u]) for u in range(codes.max() + 1)]
    mean = fit_bradley_terry(differences, outcomes, penalty=penalty)
    beyond = [fit_bradley_terry(d, said, offset=d @ mean, penalty=1.0) for d, said in own]
    left, length, _ = np.linalg.svd(np.array(beyond).T, full_matrices=False)
    found = LowRank(mean, left[:, :rank] * length[:rank] / np.sqrt(len(own)), np.zeros((len(own), rank)))
    for _ in range(rounds):
        places = np.stack([place_user(found, d, said) for d, said in own])
        terms = np.hstack([np.ones((len(own), 1)), places])[codes]  # 1 and the user's place, for each row
        wide = (terms[:, :, None] * differences[:, None, :]).reshape(len(outcomes), -1)
        start = np.concatenate([found.mean, found.basis.T.ravel()])
        weights = fit_bradley_terry(wide, outcomes, penalty=penalty, start=start).reshape(1 + rank, size)
        found = LowRank(weights[0], weights[1:].T, places)
    return found
