"""Remedies against over-optimisation: several reward models in place of one.

    mean             mean_i r_i
    worst            min_i r_i                                   (Coste et al. 2024: worst-case optimization)
    uncertainty      mean_i r_i - PRICE var_i r_i                (the same: uncertainty-weighted)
    averaged         one model with the mean of all weights      (Rame et al. 2024: WARM)

Scores of different models have no common level or scale, so each is brought to mean 0 within every prompt and
deviation 1 first. The mean of linear rewards on the same features is the reward of the mean weights: there
the last rule is the first.
"""

from collections.abc import Mapping

import numpy as np

from rlhf_hw.experiments.best_of_n import best_by_score
from rlhf_hw.experiments.selection.gold_curves import standardised
from rlhf_hw.stats.replicates import replicated_mean

PRICE = 0.5  # of a unit of variance among members
RULES = ("mean", "worst", "uncertainty")


def combine(members: np.ndarray, rule: str) -> np.ndarray:
    """The scores of an ensemble, shape (prompts, samples).

    Args:
        members: Scores of each member, shape (members, prompts, samples).
        rule: One of `RULES`.
    """
    known = standardised(members)
    if rule == "worst":
        return known.min(axis=0)
    return known.mean(axis=0) - (PRICE * known.var(axis=0) if rule == "uncertainty" else 0.0)


def remedy_numbers(
    ensembles: np.ndarray,
    gold: np.ndarray,
    sizes: tuple[int, int],
    others: Mapping[str, np.ndarray] | None = None,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """What each rule brings beside a single member, chosen from the same replies.

    Args:
        ensembles: Scores of the members, shape (ensembles, members, prompts, samples).
        gold: Shape (prompts, samples).
        sizes: A middle n and the largest.
        others: Further rules -> scores, shape (ensembles, prompts, samples).
        seed: Of resampling.

    Returns:
        `single.gold`, the mean of the members, and `<rule>.gold`, gains over one reply at the largest n;
        `<rule>.lead` over a single member, `<rule>.over_mean` over the rule "mean"; all of them also as
        `_middle` for the middle n; each with both intervals (over prompts; over ensembles where there are
        several).
    """

    def gain(scores: np.ndarray, n: int) -> np.ndarray:
        return best_by_score(scores, gold, n) - gold.mean(axis=1)

    found: dict[str, float] = {}
    for n, end in zip(sizes, ("_middle", ""), strict=True):
        single = np.array([np.mean([gain(one, n) for one in members], axis=0) for members in ensembles])
        gains = {rule: np.array([gain(combine(m, rule), n) for m in ensembles]) for rule in RULES}
        gains |= {rule: np.array([gain(one, n) for one in scores]) for rule, scores in (others or {}).items()}
        found |= replicated_mean(single, seed=seed).named(f"single.gold{end}")
        for rule, table in gains.items():
            found |= replicated_mean(table, seed=seed).named(f"{rule}.gold{end}")
            found |= replicated_mean(table - single, seed=seed).named(f"{rule}.lead{end}")
            if rule != "mean":
                found |= replicated_mean(table - gains["mean"], seed=seed).named(f"{rule}.over_mean{end}")
    return found
