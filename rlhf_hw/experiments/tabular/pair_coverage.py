"""Does DPO end where RLHF does? With pairs that connect all replies, without, and with too small a class.

Both start from the same reference and the same rewards. RLHF's side is the optimum of its objective for the
true rewards. DPO sees pairs only: which of them, is the coverage.

- everything: all pairs;
- chain: K - 1 pairs that connect all replies;
- islands: pairs within two halves, none across.

In the limit of infinitely many labels the first two lead to RLHF's policy, the third cannot: how the halves
compare, no label says, and DPO's loss does not change where probability goes from one to the other (Xu et al.
2024, section 4; Song et al. 2024). Where no policy of the class has the true rewards, DPO projects on it with
the weights of the data's pairs, RLHF with those of the policy (Gopalan et al. 2026; Shi et al. 2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp

from rlhf_hw.experiments.tabular.policy_classes import (
    Comparisons,
    PolicyClass,
    largest_difference,
    margins,
    objective,
    rlhf_optimum,
    total_variation,
)

COVERAGES = ("everything", "chain", "islands")
SHIFT = 3.0  # nats by which one half is made likelier: DPO's loss does not see it


@dataclass(frozen=True)
class CoverageWorld:
    """Sizes of the world.

    Attributes:
        replies: K, an even number.
        beta: The tie to the reference.
        labels: Numbers of labels to learn from.
        features: Of the class that is too small.
        mixes: Ways to draw pairs for that class, each with other shares of all pairs.
    """

    replies: int = 8
    beta: float = 0.5
    labels: Sequence[int] = (100, 400, 1600, 6400)
    features: int = 2
    mixes: int = 6


def shares_of_pairs(coverage: str, replies: int) -> np.ndarray:
    """How often two replies are compared, shape (K, K), symmetric; 0 for those that are never."""
    at = np.arange(replies)
    apart = np.abs(at[:, None] - at[None, :])
    half = at < replies // 2
    compared = {
        "everything": apart > 0,
        "chain": apart == 1,
        "islands": (apart > 0) & (half[:, None] == half[None, :]),
    }[coverage]
    return compared / compared.sum()


def draw_world(world: CoverageWorld, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Log-probabilities of a reference and rewards of its replies, both from standard normal numbers."""
    rng = np.random.default_rng(seed)
    return log_softmax(rng.normal(size=world.replies)), rng.normal(size=world.replies), rng


def measure_coverage(world: CoverageWorld, seed: int) -> dict[str, float]:
    """One world.

    Returns:
        `<coverage>.difference`, the largest difference from RLHF's policy with infinitely many labels, and
        `<coverage>.distance.<n>`, the total variation with n; `reference.distance` without training.
        `islands.mass` and `islands.moved`: what DPO gives one half before and after a shift that its loss
        does not see, `islands.loss_change`, and `islands.cost`, what the shift costs in RLHF's objective.
    """
    reference, rewards, rng = draw_world(world, seed)
    best = rlhf_optimum(reference, rewards, world.beta)
    table = PolicyClass.whole(reference)
    found = {"reference.distance": total_variation(reference, best)}
    for coverage in COVERAGES:
        shares = shares_of_pairs(coverage, world.replies)
        learned = table.log_probs(table.learn(Comparisons.expected(rewards, shares), world.beta))
        found[f"{coverage}.difference"] = largest_difference(learned, best)
        for labels in world.labels:
            seen = Comparisons.drawn(rewards, shares, labels, rng)
            policy = table.log_probs(table.learn(seen, world.beta))
            found[f"{coverage}.distance.{labels}"] = total_variation(policy, best)
    return found | unseen_shift(world, reference, rewards, learned)


def unseen_shift(
    world: CoverageWorld, reference: np.ndarray, rewards: np.ndarray, learned: np.ndarray
) -> dict[str, float]:
    """What happens where the worse half becomes likelier after DPO on two islands, see `measure_coverage`."""
    half = np.arange(world.replies) < world.replies // 2
    worth = [logsumexp(reference[part] + rewards[part] / world.beta) for part in (half, ~half)]
    worse = half if worth[0] < worth[1] else ~half
    moved = log_softmax(learned + SHIFT * worse)
    seen = Comparisons.expected(rewards, shares_of_pairs("islands", world.replies))
    losses = [
        seen.weights @ np.logaddexp(0, -world.beta * margins(policy, reference, seen.pairs))
        for policy in (learned, moved)
    ]
    values = [objective(policy, reference, rewards, world.beta) for policy in (learned, moved)]
    return {
        "islands.mass": float(np.exp(learned[worse]).sum()),
        "islands.moved": float(np.exp(moved[worse]).sum()),
        "islands.loss_change": float(abs(losses[1] - losses[0])),
        "islands.cost": values[0] - values[1],
    }


def measure_class(world: CoverageWorld, seed: int) -> dict[str, float]:
    """One world with a class that is too small, and with the whole class as a control.

    Every pair is compared in all of it, infinitely often; only how often differs from mix to mix.

    Returns:
        For `small` and `whole`: `.gap`, by how much DPO's policy falls short of the best of the class on
        RLHF's objective (mean over mixes); `.reached.<mix>`, the share of what the best gains over the
        reference; `.spread`, the largest total variation between DPO's policies of two mixes; `.worse`, the
        share of mixes after which the objective is below the reference's.
    """
    reference, rewards, rng = draw_world(world, seed)
    features = rng.normal(size=(world.replies, world.features))
    all_pairs = shares_of_pairs("everything", world.replies)
    mixes = []
    for _ in range(world.mixes):
        uneven = np.triu(rng.exponential(size=all_pairs.shape) ** 3 * all_pairs)
        mixes.append(Comparisons.expected(rewards, (uneven + uneven.T) / (2 * uneven.sum())))
    found = {}
    for name, policies in (
        ("small", PolicyClass(reference, features)),
        ("whole", PolicyClass.whole(reference)),
    ):
        best = policies.log_probs(policies.best(rewards, world.beta))
        learned = [policies.log_probs(policies.learn(seen, world.beta)) for seen in mixes]
        top, start, *values = (
            objective(policy, reference, rewards, world.beta) for policy in (best, reference, *learned)
        )
        found |= {
            f"{name}.gap": top - float(np.mean(values)),
            f"{name}.spread": max(total_variation(a, b) for a in learned for b in learned),
            f"{name}.worse": float(np.mean(np.array(values) < start)),
        }
        found |= {f"{name}.reached.{m}": (value - start) / (top - start) for m, value in enumerate(values)}
    return found
