"""Whom the best of many replies serves, by the rule that joins the rewards of several groups.

Of each prompt's candidates the one with the highest sum_g lambda_g r_g is taken, which is best-of-n under a
mixture of heads (with linear rewards, the same as under an interpolation of their weights, as in rewarded
soups: Rame et al. 2023). Rules choose lambda by the rewards that a model has learned, never by the truth:

    mean      lambda = shares of the groups              most sum_g share_g E[r_g]
    Nash      most product over groups of E[r_g]^share_g, each against a random candidate
    max-min   most min_g E[r_g]                          (Chakraborty et al. 2024)

Rewards are identified up to a level for each prompt, so every E is that of a reward minus its mean over the
prompt's candidates.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_hw.experiments.plural.crowd import Scale, known_features, typical, utility_of
from rlhf_hw.world.annotators import Features
from rlhf_hw.world.build import SFT_HABITS, topic_names
from rlhf_hw.world.writers import write_reply

LAMBDAS = np.linspace(0, 1, 41)  # weight of the smaller group
RULES = ("single", "mean", "nash", "maxmin")


@dataclass(frozen=True)
class Candidates:
    """Replies to some prompts by one writer.

    Attributes:
        features: Shape (prompts, n, D), as reward models see them.
        gains: What each is worth to each group beyond the mean of its prompt's candidates, in units of gold,
            shape (prompts, n, groups).
    """

    features: np.ndarray
    gains: np.ndarray


def draw_candidates(
    prompts: Sequence[str], count: int, scale: Scale, groups: Sequence[str], seed: int = 0
) -> Candidates:
    """Replies by the writer that the base model imitates.

    Args:
        prompts: Of the simulated world.
        count: Replies to each.
        scale: Of the features that rewards were learned from.
        groups: Whose gains are given.
        seed: Of writing.
    """
    rng, known = random.Random(f"{seed}/candidates"), topic_names(False)
    replies = [[write_reply(rng, x, SFT_HABITS, known) for _ in range(count)] for x in prompts]
    rows = list(zip(prompts, replies, strict=True))
    features = scale.apply(np.array([[known_features(x, y) for y in ys] for x, ys in rows]))
    people = [typical(group) for group in groups]
    worth = np.array(
        [
            [[utility_of(a, seen) for a in people] for seen in (Features.of(x, y) for y in ys)]
            for x, ys in rows
        ]
    )
    return Candidates(features, above_mean(worth))


def above_mean(values: np.ndarray) -> np.ndarray:
    """Values of candidates, shape (prompts, n, ...), minus their mean over the prompt's candidates."""
    return values - values.mean(axis=1, keepdims=True)


def taken(scores: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Gains of the highest-scored candidate of each prompt, shape (prompts, groups).

    Args:
        scores: Shape (prompts, n).
        gains: Shape (prompts, n, groups).
    """
    return gains[np.arange(len(scores)), scores.argmax(axis=1)]


def frontier(rewards: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Mean gains of both groups for each weight in `LAMBDAS`, shape (weights, 2).

    Args:
        rewards: Of both groups, shape (prompts, n, 2).
        gains: What counts, shape (prompts, n, 2).
    """
    joined = [(1 - weight) * rewards[..., 0] + weight * rewards[..., 1] for weight in LAMBDAS]
    return np.array([taken(scores, gains).mean(axis=0) for scores in joined])


def chosen_weight(rule: str, expected: np.ndarray, shares: Sequence[float]) -> float:
    """The weight of the smaller group that a rule takes.

    Args:
        rule: "mean", "nash" or "maxmin".
        expected: Mean rewards of both groups for each of `LAMBDAS`: `frontier` of the rewards themselves.
        shares: Of the groups.
    """
    if rule == "mean":
        return float(shares[1])
    floor = np.clip(expected, 1e-9, None)  # no group is to be worse off than with a random candidate
    worth = {"nash": np.log(floor) @ np.asarray(shares), "maxmin": expected.min(axis=1)}[rule]
    return float(LAMBDAS[int(np.argmax(worth))])


def serve(
    candidates: Candidates, rewards: Mapping[str, np.ndarray], shares: Sequence[float]
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, float]]:
    """What each rule brings each group.

    Args:
        candidates: From `draw_candidates`.
        rewards: Weights of "single" and of "mixture", shape (2, D), from `group_models.fit_groups`.
        shares: Of the groups.

    Returns:
        Rule -> gains, shape (prompts, groups); true frontier of the mixture, shape (weights, groups); the
        weight of the smaller group that each rule takes.
    """
    learned = above_mean(candidates.features @ rewards["mixture"].T)
    expected = frontier(learned, learned)
    weights = {rule: chosen_weight(rule, expected, shares) for rule in RULES if rule != "single"}
    found = {"single": taken(candidates.features @ rewards["single"][0], candidates.gains)}
    for rule, weight in weights.items():
        found[rule] = taken(learned @ np.array([1 - weight, weight]), candidates.gains)
    return found, frontier(learned, candidates.gains), weights


def alternatives_world(factor: float, count: int = 101) -> dict[str, float]:
    """The example of Siththaranjan et al. (2024, section 3), exactly: what anonymous comparisons cannot tell.

    Alternatives a in [0, 1]; below 0.8 everybody values a at a; above, one half of the people values it at
    `factor` times a and the other half at nothing.

    Returns:
        `borda`, the alternative that wins most comparisons; `mean`, the one of the highest mean utility;
        `votes`, the mean Borda count, to compare worlds by.
    """
    a = np.linspace(0, 1, count)
    utilities = [np.where(a < 0.8 - 1e-9, a, factor * a * z) for z in (0, 1)]
    wins = np.mean([(u[:, None] > u) + 0.5 * (u[:, None] == u) for u in utilities], axis=0)
    return {
        "borda": float(a[wins.mean(axis=1).argmax()]),
        "mean": float(a[np.mean(utilities, axis=0).argmax()]),
        "votes": float(np.sum(wins * a[:, None])),
    }
