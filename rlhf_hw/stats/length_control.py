"""Would policy A still win at equal length? The length-controlled win rate and score difference.

After Dubois et al. (2024), without the terms for the difficulty of a prompt:

    P(A wins) = sigmoid(theta + phi * tanh(d / sd(d))),   d = length of A - length of B,

fitted to wins, losses and half-counted ties, and read at d = 0: sigmoid(theta). Where one side wins all, the
likelihood has no maximum and its curvature no meaning, so the fit maximises Firth's (1993) penalised
likelihood l* = l + log|I| / 2, which always has one, and the interval holds every theta whose profile is near
enough (Heinze and Schemper 2002):

    2 (l*(best) - max over phi of l*(theta, phi)) <= z^2,

or t^2 * design effect (`intervals.design_effect`) where prompts occur more than once. The mean difference is
controlled by a straight line on d, read at d = 0, with the jackknife over prompts.

These are descriptions by regression: a longer reply may earn its score. What the length itself causes is
answered by editing replies (package `experiments.score_gap`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import (
    Estimate,
    as_vector,
    cluster_codes,
    design_effect,
    quantile,
    rate_interval,
)
from rlhf_hw.stats.length import line_intervals

FARTHEST = 20.0  # log-odds beyond which nobody can tell from never or always: 2e-9


def length_controlled_win_rate(
    first: ArrayLike,
    second: ArrayLike,
    first_lengths: ArrayLike,
    second_lengths: ArrayLike,
    prompts: Sequence | None = None,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Win rate of the first policy at equal length (Dubois et al. 2024).

    Args:
        first, second: scores of the two replies to each prompt, shape (prompts,).
        first_lengths, second_lengths: their lengths, in one unit.
        prompts: identifies repeated prompts, for the interval.
        seed: without effect, since nothing is drawn.

    Returns:
        win_rate_length_controlled (+_low, _high; 0 and 1 with a single prompt) and
        win_rate_length_slope: phi, log-odds for tanh = 1. Where all differences of length are equal it is the
        win rate itself, with slope 0.
    """
    wins = outcomes(as_vector(first, "first") - as_vector(second, "second", len(first)))
    gap = as_vector(first_lengths, "first_lengths", wins.size) - as_vector(
        second_lengths, "second_lengths", wins.size
    )
    codes, name = cluster_codes(prompts, wins.size), "win_rate_length_controlled"
    if gap.std() == 0:
        return {**rate_interval(wins, codes).named(name), "win_rate_length_slope": 0.0}
    term = np.tanh(gap / gap.std())
    model = Firth(term, wins)
    theta, slope = model.best()
    rate, freedom = Estimate(float(special.expit(theta)), 0.0, 1.0), int(codes.max())
    if freedom > 0:
        # Independent wins vary as the model says; only a variance estimated from clusters asks for t.
        wide = quantile(np.inf if freedom + 1 == wins.size else freedom)
        drop = wide**2 * regression_effect(model, codes, theta, slope)
        rate = Estimate(rate.value, *(float(special.expit(end)) for end in model.ends(theta, slope, drop)))
    return {**rate.named(name), "win_rate_length_slope": float(slope)}


class Firth(NamedTuple):
    """Logistic regression of `wins`, in [0, 1], on 1 and `term`, shapes (rows,), by Firth's likelihood."""

    term: np.ndarray
    wins: np.ndarray

    def moments(self, theta: float, slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Shares p, weights p (1 - p), the sums of these times 1, term, term^2, and the determinant of I."""
        share = special.expit(theta + slope * self.term)
        flat = share * (1 - share)
        sums = flat @ np.stack([np.ones_like(self.term), self.term, self.term**2], axis=1)
        return share, flat, sums, max(float(sums[0] * sums[2] - sums[1] ** 2), 1e-300)

    def likelihood(self, theta: float, slope: float) -> float:
        """l*: log-likelihood plus half the log-determinant of the information."""
        odds = theta + slope * self.term
        fit = self.wins @ special.log_expit(odds) + (1 - self.wins) @ special.log_expit(-odds)
        return float(fit + np.log(self.moments(theta, slope)[3]) / 2)

    def pull(self, theta: float, slope: float) -> tuple[np.ndarray, np.ndarray]:
        """Gradient of l*, sum (p-hat - p + h (1/2 - p)) (1, term) with leverages h, and inverse of I."""
        share, flat, (total, first, second), size = self.moments(theta, slope)
        leverage = flat * (second - 2 * first * self.term + total * self.term**2) / size
        off = self.wins - share + leverage * (0.5 - share)
        return np.array([off.sum(), off @ self.term]), np.array([[second, -first], [-first, total]]) / size

    def best(self) -> tuple[float, float]:
        """Intercept and slope at the maximum of l*, by Newton's method."""
        found = np.zeros(2)
        for _ in range(200):
            gradient, inverse = self.pull(*found)
            step = np.clip(inverse @ gradient, -1, 1)
            found = np.clip(found + step, -FARTHEST, FARTHEST)
            if np.abs(step).max() < 1e-7:
                break
        return float(found[0]), float(found[1])

    def profile(self, theta: float, near: float) -> float:
        """Largest l* over all slopes at one intercept; `near` is a slope to search from."""

        def rise(slope: float) -> float:
            return float(self.pull(theta, slope)[0][1])

        way = 1.0 if rise(near) > 0 else -1.0
        inner, outer = near, near + 0.5 * way
        while way * rise(outer) > 0 and abs(outer) < FARTHEST:
            inner, outer = outer, outer + 2 * (outer - inner)
        if way * rise(outer) > 0:
            return self.likelihood(theta, outer)
        return self.likelihood(theta, optimize.brentq(rise, inner, outer, xtol=1e-4))

    def ends(self, theta: float, slope: float, drop: float) -> tuple[float, float]:
        """The intercepts below and above the best at which twice the profile of l* has fallen by `drop`."""
        top = self.likelihood(theta, slope)

        def lacking(intercept: float) -> float:
            return 2 * (top - self.profile(intercept, slope)) - drop

        found = []
        for way in (-1.0, 1.0):
            inner, outer = theta, theta + way
            while lacking(outer) < 0 and abs(outer) < FARTHEST:
                inner, outer = outer, outer + 2 * (outer - inner)
            far = lacking(outer) < 0
            found.append(outer if far else optimize.brentq(lacking, inner, outer, xtol=1e-3))
        return found[0], found[1]


def regression_effect(model: Firth, codes: np.ndarray, theta: float, slope: float) -> float:
    """Design effect of the intercept: its cluster-robust variance over that of independent rows."""
    clusters = int(codes.max()) + 1
    if clusters == codes.size:
        return 1.0
    off = model.wins - special.expit(theta + slope * model.term)
    inverse = model.pull(theta, slope)[1]
    by_cluster = np.bincount(codes, weights=off * (inverse[0, 0] + inverse[0, 1] * model.term))
    robust = (by_cluster**2).sum() * clusters / max(clusters - 2, 1)
    return design_effect(model.wins, codes, float(robust / inverse[0, 0]))


def length_controlled_difference(
    first, second, first_lengths, second_lengths, prompts=None, *, seed: int = 0
) -> dict[str, float]:
    """Mean score difference at equal length: the intercept of a regression on the length difference.

    What it takes away, `score_difference_along_length`, is what a straight line on the difference of lengths
    foretells from prompt to prompt. The decomposition's part for length (`experiments.score_gap`) is another
    quantity: there the longer reply is cut to the length of the shorter and scored again, so that everything
    the cut sentences were worth counts, whether or not the score follows length across prompts.

    Args:
        first, second, first_lengths, second_lengths, prompts, seed: as in `length_controlled_win_rate`.

    Returns:
        score_difference_length_controlled (+_low, _high), the intercept, and score_difference_along_length
        (+_low, _high), slope times mean difference of length: the two sum to the mean score difference.
        Nothing where the line hangs on a single prompt.

    Raises:
        InputError: all differences of length are equal.
    """
    difference = as_vector(first, "first") - as_vector(second, "second", len(first))
    gap = as_vector(first_lengths, "first_lengths", len(first)) - as_vector(
        second_lengths, "second_lengths", len(first)
    )
    level, _, along = line_intervals(gap, difference, prompts)
    if not np.isfinite(level.low):
        return {}
    return level.named("score_difference_length_controlled") | along.named("score_difference_along_length")
