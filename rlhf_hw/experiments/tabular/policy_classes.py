r"""Policies over K replies to one prompt, their best under RLHF's objective and under a loss on pairs.

A policy is :math:`\pi_w(y) \propto \pi_{ref}(y) \exp(\varphi(y) \cdot w)`. With the unit vectors as features
it is a table, which can be any policy; with fewer features than replies the class is too small for some.
Rewards r and labels follow Bradley and Terry, :math:`p(i \succ j) = \sigma(r_i - r_j)`.

    table = PolicyClass(reference, np.eye(8))
    pairs = Comparisons.expected(rewards, share)             # as if infinitely many labels had been drawn
    learned = table.log_probs(table.learn(pairs, beta))
    best = rlhf_optimum(reference, rewards, beta)            # pi_ref exp(r / beta) / Z
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from torch import Tensor

from rlhf_hw.training.losses import difference, dpo

LossOfPairs = Callable[[Tensor, Tensor], Tensor]  # log-probabilities of pairs, reference, (M, 2) -> (M,)
PRECISION = 1e-10  # of the gradient where a fit ends
ITERATIONS = 1000


@dataclass(frozen=True)
class Comparisons:
    """How often which reply was preferred to which.

    Attributes:
        pairs: Winner and loser, shape (M, 2).
        weights: How often, or with which share, shape (M,).
    """

    pairs: np.ndarray
    weights: np.ndarray

    @classmethod
    def expected(cls, rewards: np.ndarray, shares: np.ndarray) -> "Comparisons":
        """What infinitely many labels would show.

        Args:
            rewards: Shape (K,).
            shares: How often i and j are compared, symmetric, shape (K, K).
        """
        wins = shares * expit(rewards[:, None] - rewards[None, :])
        return cls.of(wins / wins.sum())

    @classmethod
    def drawn(cls, rewards: np.ndarray, shares: np.ndarray, labels: int, rng: np.random.Generator):
        """So many labels, of pairs drawn with these shares; arguments as for `expected`."""
        wins = shares * expit(rewards[:, None] - rewards[None, :])
        return cls.of(rng.multinomial(labels, (wins / wins.sum()).ravel()).reshape(wins.shape).astype(float))

    @classmethod
    def of(cls, wins: np.ndarray) -> "Comparisons":
        """From a table: how often the row's reply was preferred to the column's, shape (K, K)."""
        pairs = np.argwhere(wins > 0)
        return cls(pairs, wins[tuple(pairs.T)])

    def table(self, replies: int) -> np.ndarray:
        """The inverse of `of`, shape (K, K)."""
        wins = np.zeros((replies, replies))
        wins[tuple(self.pairs.T)] = self.weights
        return wins


@dataclass(frozen=True)
class PolicyClass:
    """All policies with these features.

    Attributes:
        reference: Log-probabilities of the reference policy, shape (K,).
        features: Of each reply, shape (K, d).
    """

    reference: np.ndarray
    features: np.ndarray

    @classmethod
    def whole(cls, reference: np.ndarray) -> "PolicyClass":
        """The class of all policies: a table."""
        return cls(reference, np.eye(len(reference)))

    def log_probs(self, weights: np.ndarray) -> np.ndarray:
        """Log-probabilities of the replies, shape (K,)."""
        return log_softmax(self.reference + self.features @ weights)

    def learn(
        self, seen: Comparisons, beta: float, loss: LossOfPairs | None = None, prior: float = 0.0
    ) -> np.ndarray:
        """Weights that minimize a loss of pairs, found from the reference policy, shape (d,).

        Args:
            seen: The labels.
            beta: The tie to the reference; without `loss` it is DPO's.
            loss: One of `training.losses`, with its settings bound.
            prior: Weight of half the squared reward beta * w, in labels: 1 is a standard normal prior.
        """
        loss = loss or (lambda log_probs, reference: dpo(log_probs, reference, beta))
        features, reference = torch.from_numpy(self.features), torch.from_numpy(self.reference)
        pairs, counts = torch.from_numpy(seen.pairs), torch.from_numpy(seen.weights)
        old = reference[pairs]

        def total(weights: Tensor) -> Tensor:
            log_probs = torch.log_softmax(reference + features @ weights, dim=0)
            return (counts * loss(log_probs[pairs], old)).sum() + prior * (beta * weights).square().sum() / 2

        return smallest(total, np.zeros(self.features.shape[1]), seen.weights.sum())

    def best(self, rewards: np.ndarray, beta: float) -> np.ndarray:
        """Weights of the policy that is best for RLHF within the class, shape (d,); see `objective`."""
        features, reference = torch.from_numpy(self.features), torch.from_numpy(self.reference)
        worth = torch.from_numpy(rewards)

        def short_of(weights: Tensor) -> Tensor:
            log_probs = torch.log_softmax(reference + features @ weights, dim=0)
            return -(log_probs.exp() * (worth - beta * (log_probs - reference))).sum()

        size = self.features.shape[1]
        starts = [np.zeros(size), np.linalg.lstsq(self.features, rewards / beta, rcond=None)[0]]
        found = [smallest(short_of, start) for start in starts]  # it is not concave: the better of two ends
        return max(
            found, key=lambda weights: objective(self.log_probs(weights), self.reference, rewards, beta)
        )


def smallest(function: Callable[[Tensor], Tensor], start: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Where a function of a vector is smallest, by L-BFGS from a start; where it is flat, the start stays.

    Args:
        function: Of a float64 tensor of the start's shape.
        start: Shape (d,).
        scale: What the function is divided by.
    """

    def with_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(point, requires_grad=True)
        value = function(at) / scale
        (gradient,) = torch.autograd.grad(value, at)
        return value.item(), gradient.numpy()

    options = {"gtol": PRECISION, "ftol": 0.0, "maxiter": ITERATIONS, "maxcor": 20}
    return minimize(with_gradient, start, jac=True, method="L-BFGS-B", options=options).x


def rlhf_optimum(reference: np.ndarray, rewards: np.ndarray, beta: float) -> np.ndarray:
    """Log-probabilities of RLHF's optimum, pi_ref exp(r / beta) / Z, shape (K,) (Rafailov et al. 2023)."""
    return log_softmax(reference + rewards / beta)


def objective(log_probs: np.ndarray, reference: np.ndarray, rewards: np.ndarray, beta: float) -> float:
    """RLHF's objective: the expected reward minus beta times the KL to the reference, in units of reward."""
    return float(np.exp(log_probs) @ (rewards - beta * (log_probs - reference)))


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of the differences of two policies, from their log-probabilities; 0 to 1."""
    return float(np.abs(np.exp(first) - np.exp(second)).sum() / 2)


def largest_difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of two policies in the probability of a reply, from their log-probabilities."""
    return float(np.abs(np.exp(first) - np.exp(second)).max())


def margins(log_probs: np.ndarray, reference: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """h of pairs, shape (M,): the difference of their log-ratios."""
    return difference(torch.from_numpy((log_probs - reference)[pairs])).numpy()
