"""Offline against iterative DPO at equal numbers of labels.

Many replies, with rewards that the reference knows nothing of. Pairs are drawn from the reference (offline),
from the current policy in rounds (iterative), or from all replies alike (offline with coverage of
everything); labels follow Bradley and Terry. All learn by DPO in a table, tied to the same reference, on all
labels so far, with the same standard normal prior of the rewards, so that a reply nobody has compared keeps
the reference's ratio. With a small beta the best policy is far from the reference; with a large one, the
control, it is near.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from rlhf_hw.experiments.tabular.policy_classes import Comparisons, PolicyClass, objective, rlhf_optimum

SOURCES_OF_PAIRS = ("offline", "iterative", "uniform")


@dataclass(frozen=True)
class RoundsWorld:
    """Sizes of the world.

    Attributes:
        replies: K.
        betas: A small tie to the reference, and a large one as the control.
        labels: Numbers of labels after which policies are compared; those between two are one round.
    """

    replies: int = 40
    betas: tuple[float, float] = (0.15, 2.0)
    labels: Sequence[int] = (50, 100, 200, 400, 800, 1600)


def shares_under(log_probs: np.ndarray) -> np.ndarray:
    """How often two different replies of a policy meet, shape (K, K)."""
    probabilities = np.exp(log_probs)
    shares = probabilities[:, None] * probabilities[None, :]
    np.fill_diagonal(shares, 0)
    return shares / shares.sum()


def ordered_rightly(log_ratios: np.ndarray, rewards: np.ndarray, shares: np.ndarray) -> float:
    """How often the implicit reward orders a pair with these shares as the true rewards do; ties one half."""
    right = np.sign(log_ratios[:, None] - log_ratios[None, :]) * np.sign(rewards[:, None] - rewards[None, :])
    return float((shares * (1 + right)).sum() / 2)


def measure_rounds(world: RoundsWorld, seed: int) -> dict[str, float]:
    """One world.

    Returns:
        `<near|far>.<source>.regret.<n>`, by how much the policy from n labels falls short of the best on
        RLHF's objective; at the last n `.reward`, `.divergence` (its KL to the reference) and `.accuracy` on
        pairs that the reference writes.
    """
    rng = np.random.default_rng(seed)
    reference, rewards = log_softmax(rng.normal(size=world.replies)), rng.normal(size=world.replies)
    table = PolicyClass.whole(reference)
    drawn = {"offline": shares_under(reference), "uniform": shares_under(np.zeros(world.replies))}
    found = {}
    for name, beta in zip(("far", "near"), world.betas, strict=True):
        top = objective(rlhf_optimum(reference, rewards, beta), reference, rewards, beta)
        for source in SOURCES_OF_PAIRS:
            policy, wins, before = reference, np.zeros((world.replies, world.replies)), 0
            for labels in world.labels:
                shares = drawn.get(source, None)
                shares = shares_under(policy) if shares is None else shares
                wins += Comparisons.drawn(rewards, shares, labels - before, rng).table(world.replies)
                before = labels
                policy = table.log_probs(table.learn(Comparisons.of(wins), beta, prior=1.0))
                found[f"{name}.{source}.regret.{labels}"] = top - objective(policy, reference, rewards, beta)
            ratios = policy - reference
            found |= {
                f"{name}.{source}.reward": float(np.exp(policy) @ rewards),
                f"{name}.{source}.divergence": float(np.exp(policy) @ ratios),
                f"{name}.{source}.accuracy": ordered_rightly(ratios, rewards, drawn["offline"]),
            }
    return found
