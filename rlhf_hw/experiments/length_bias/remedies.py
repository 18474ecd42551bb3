"""Reward models on frozen states, from labels with a taste for length: as they come, and with a remedy.

| remedy | what it changes |
|---|---|
| none | nothing: Bradley-Terry |
| balanced | pairs are weighted so that the longer reply is chosen in one half |
| balanced in bins | the same in each bin of the difference of lengths |
| penalty | afterwards the score's own slope on length is taken off, times a strength |
| experts | an expert that sees only lengths is trained beside it and dropped (Shen et al. 2023) |
| two heads | ODIN (Chen et al. 2024), module `two_heads` |
| calibrated | afterwards the score's locally weighted mean by length is taken off (Huang et al. 2025) |

The last four differ in what they make of length that is earned. Where better replies are longer, a score that
does not go with length at all undervalues them; a remedy that looks at the labels can tell the two apart.

    reward = REMEDIES["balanced"](pairs, outcomes)
    reward.scores(candidates)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from rlhf_hw.experiments.length_bias.biased_labels import SeenReplies
from rlhf_hw.experiments.length_bias.two_heads import fit_two_heads
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.stats.equal_quality import local_means
from rlhf_hw.world.annotators import WORDS_SD

RIDGE = 1 / 15  # a pair: chosen in a trial, on held-out pairs with honest labels; the same for all
LOOSE = 1e-3  # of the ridge, on the length expert: what both can explain is to go to it
BINS = 4  # of the difference of lengths
GRID = 60  # lengths between which the calibration's curve is straight


@dataclass(frozen=True)
class LengthReward:
    """r(x, y) = w . state(x, y) - taken(words of y).

    Attributes:
        weights: w, shape (D,).
        taken: What is taken off for a length, elementwise.
    """

    weights: np.ndarray
    taken: Callable[[np.ndarray], np.ndarray] = np.zeros_like

    def scores(self, replies: SeenReplies) -> np.ndarray:
        """Rewards, shape (prompts, K)."""
        return replies.states @ self.weights - self.taken(replies.words)


def fit_plain(pairs: SeenReplies, outcomes: np.ndarray, counts=1.0) -> LengthReward:
    """Bradley-Terry; `counts` says how often each pair counts, shape (pairs,)."""
    ridge = RIDGE * len(outcomes)
    return LengthReward(fit_bradley_terry(pairs.differences, outcomes, counts=counts, penalty=ridge))


def sides_of_bins(longer: np.ndarray, outcomes: np.ndarray, bins: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each bin of pairs those whose longer reply won and those whose shorter one did, as masks.

    Args:
        longer: Length of the first reply minus that of the second, shape (pairs,).
        outcomes: 1 where the first won, else 0, shape (pairs,).
        bins: Bins of equally many pairs, by how far the lengths are apart. Pairs of equal length are in none.
    """
    unequal, apart, wins = longer != 0, np.abs(longer), (longer > 0) == (outcomes > 0.5)
    if not unequal.any():
        return []
    codes = np.searchsorted(np.quantile(apart[unequal], np.arange(1, bins) / bins), apart)
    inside = [unequal & (codes == code) for code in range(bins)]
    return [(part & wins, part & ~wins) for part in inside]


def balancing_weights(longer: np.ndarray, outcomes: np.ndarray, bins: int = 1) -> np.ndarray:
    """Weights of pairs with which the longer reply is chosen in one half of each bin, shape (pairs,), mean 1.

    A bin where one of the two never won keeps its weights, and so do pairs of equal length. Arguments as for
    `sides_of_bins`.
    """
    weights = np.ones(len(longer))
    for sides in sides_of_bins(longer, outcomes, bins):
        if all(side.any() for side in sides):
            for side in sides:
                weights[side] = sum(one.sum() for one in sides) / (2 * side.sum())
    return weights


def balanced_rows(
    longer: np.ndarray, outcomes: np.ndarray, rng: np.random.Generator, bins: int = 1
) -> np.ndarray:
    """Rows of pairs that are balanced as they are, as many as there can be, in their order.

    Args:
        longer, outcomes, bins: As for `sides_of_bins`.
        rng: Draws those of the more frequent side that stay.
    """
    kept = []
    for sides in sides_of_bins(longer, outcomes, bins):
        size = min(side.sum() for side in sides)
        kept += [rng.choice(np.flatnonzero(side), size, replace=False) for side in sides]
    return np.sort(np.concatenate([np.zeros(0, dtype=int), *kept]))


def fit_balanced(pairs: SeenReplies, outcomes: np.ndarray, bins: int = 1) -> LengthReward:
    """Bradley-Terry on pairs weighted by `balancing_weights`."""
    return fit_plain(pairs, outcomes, balancing_weights(pairs.longer, outcomes, bins))


def fit_penalty(pairs: SeenReplies, outcomes: np.ndarray, strength: float = 1.0) -> LengthReward:
    """As `fit_plain`, and off every word goes `strength` times the slope of the score on length."""
    plain = fit_plain(pairs, outcomes)
    slope = np.polyfit(pairs.words.ravel(), plain.scores(pairs).ravel(), 1)[0]
    return LengthReward(plain.weights, partial(np.multiply, strength * slope))


def fit_calibrated(pairs: SeenReplies, outcomes: np.ndarray) -> LengthReward:
    """As `fit_plain`, and off goes the locally weighted mean of the scores of replies of that length."""
    plain = fit_plain(pairs, outcomes)
    words = pairs.words.ravel()
    grid = np.linspace(words.min(), words.max(), GRID)
    curve = local_means(words, plain.scores(pairs).ravel(), grid)
    return LengthReward(plain.weights, partial(np.interp, xp=grid, fp=curve))


def fit_experts(pairs: SeenReplies, outcomes: np.ndarray) -> LengthReward:
    """A product of experts: sigmoid(difference of rewards + difference of what lengths alone are worth).

    The second expert sees how far the lengths are apart and which reply is the longer. Both are learned
    together, and it is dropped.
    """
    blind = np.stack([pairs.longer / WORDS_SD, np.sign(pairs.longer)], axis=1) / np.sqrt(LOOSE)
    both = np.column_stack([pairs.differences, blind])
    weights = fit_bradley_terry(both, outcomes, penalty=RIDGE * len(outcomes))
    return LengthReward(weights[: -blind.shape[1]])


def fit_odin(pairs: SeenReplies, outcomes: np.ndarray) -> LengthReward:
    """The quality head of two decorrelated ones."""
    return LengthReward(fit_two_heads(pairs.states, pairs.words, outcomes, RIDGE)[0])


REMEDIES: dict[str, Callable[[SeenReplies, np.ndarray], LengthReward]] = {
    "none": fit_plain,
    "balanced": fit_balanced,
    "bins": partial(fit_balanced, bins=BINS),
    "penalty": fit_penalty,
    "experts": fit_experts,
    "two_heads": fit_odin,
    "calibrated": fit_calibrated,
}
INDEPENDENT = ("penalty", "two_heads", "calibrated")  # they make score and length independent
