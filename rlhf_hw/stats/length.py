"""What length does to scores and to win rates, and what is left without it.

Three questions, each answered with an interval from the bootstrap over prompts:

1. Does the reward model order pairs by length? `length_metrics`, `accuracy_by_length_gap`.
2. Would policy A still win at equal length? Length-controlled win rate after Dubois et al. (2024),
   without the terms for the difficulty of a prompt:

       P(A wins) = sigmoid(theta + phi * tanh(d / sd(d))),   d = length of A - length of B,

   fitted to wins, losses and half-counted ties, and read at d = 0: sigmoid(theta). The same for the mean
   difference: regress score difference on d and read at d = 0.
3. How much of a rise in score is length? `length_share`: the reward paid for length is learnt from the
   references alone, then applied to the lengths of the generated replies (Oaxaca 1973, Blinder 1973).

These are descriptions by regression: a longer reply may earn its score. What the length itself causes is
answered by editing replies (package `experiments.score_gap`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from rlhf_hw.errors import InputError
from rlhf_hw.stats.calibration import accuracy_by_bin, equal_mass_bins, outcomes
from rlhf_hw.stats.distributions import antisymmetric_correlation, correlation
from rlhf_hw.stats.intervals import (
    DRAWS,
    as_vector,
    bootstrap_means,
    cluster_codes,
    percentile_interval,
    rate_interval,
    row_weights,
)

RIDGE = 0.01  # keeps the logistic fit finite where one side wins everything; negligible from ten prompts on
KNOTS = (1 / 3, 2 / 3)  # quantiles of the length where the slope of the reward-length curve may change
GAP_BINS = 8
RISE_NAMES = ("rise", "rise_length", "rise_rest", "rise_length_share")


def length_metrics(chosen, rejected, chosen_lengths, rejected_lengths, prompts=None, *, seed: int = 0):
    """How much the reward model leans on length.

    Args:
        chosen, rejected: scores, shape (pairs,).
        chosen_lengths, rejected_lengths: lengths in any one unit (tokens, words), shape (pairs,).

    Returns:
        longer_chosen (share of pairs of unequal length), accuracy_longer_chosen and accuracy_longer_rejected
        (each with _low, _high; only where such pairs exist), accuracy_balanced (mean of these two: what
        length alone cannot raise above 1/2), length_correlation (Spearman of score and length over all
        replies) and margin_length_correlation (of margin and length difference, free of the level of each
        prompt).
    """
    chosen = as_vector(chosen, "chosen")
    rejected = as_vector(rejected, "rejected", chosen.size)
    lengths = [as_vector(chosen_lengths, "chosen_lengths", chosen.size)]
    lengths.append(as_vector(rejected_lengths, "rejected_lengths", chosen.size))
    margins, gap, codes = chosen - rejected, lengths[0] - lengths[1], cluster_codes(prompts, chosen.size)
    found = {
        "length_correlation": correlation(np.concatenate([chosen, rejected]), np.concatenate(lengths)),
        "margin_length_correlation": antisymmetric_correlation(margins, gap),
    }
    for name, inside in (("accuracy_longer_chosen", gap > 0), ("accuracy_longer_rejected", gap < 0)):
        if inside.any():
            found |= rate_interval(outcomes(margins[inside]), codes[inside], seed=seed).named(name)
    if (gap > 0).any() and (gap < 0).any():
        found["accuracy_balanced"] = (found["accuracy_longer_chosen"] + found["accuracy_longer_rejected"]) / 2
    if (gap != 0).any():
        found["longer_chosen"] = float((gap > 0).sum() / (gap != 0).sum())
    return found


def accuracy_by_length_gap(margins, length_gap, prompts=None, *, seed: int = 0) -> pd.DataFrame:
    """Accuracy in bins of equal mass of (length of chosen - length of rejected).

    Returns:
        One row a bin: `gap` (mean), `gap_low`, `gap_high` (its range), `accuracy`, `accuracy_low`,
        `accuracy_high`, `pairs`.
    """
    margins = as_vector(margins, "margins")
    gap = as_vector(length_gap, "length_gap", margins.size)
    codes = equal_mass_bins(gap, GAP_BINS)
    inside = [gap[codes == code] for code in range(codes.max() + 1)]
    extent = [{"gap": part.mean(), "gap_low": part.min(), "gap_high": part.max()} for part in inside]
    return pd.DataFrame(extent).join(accuracy_by_bin(margins, codes, prompts, seed=seed))


def length_controlled_win_rate(
    first: ArrayLike,
    second: ArrayLike,
    first_lengths: ArrayLike,
    second_lengths: ArrayLike,
    prompts: Sequence | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Win rate of the first policy at equal length (Dubois et al. 2024).

    Args:
        first, second: scores of the two replies to each prompt, shape (prompts,).
        first_lengths, second_lengths: their lengths, in one unit.
        prompts: identifies repeated prompts, for the interval.

    Returns:
        win_rate_length_controlled (+_low, _high) and win_rate_length_slope: phi, log-odds for tanh = 1.
    """
    wins = outcomes(as_vector(first, "first") - as_vector(second, "second", len(first)))
    gap = as_vector(first_lengths, "first_lengths", wins.size) - as_vector(
        second_lengths, "second_lengths", wins.size
    )
    term = np.tanh(gap / gap.std()) if gap.std() > 0 else np.zeros(wins.size)
    theta, slope = fit_logistic(term, wins, np.ones((1, wins.size)))[0]
    codes = cluster_codes(prompts, wins.size)
    resampled = np.concatenate([fit_logistic(term, wins, w)[:, 0] for w in row_weights(codes, draws, seed)])
    rate = percentile_interval(special.expit(theta), special.expit(resampled))
    return {**rate.named("win_rate_length_controlled"), "win_rate_length_slope": float(slope)}


def fit_logistic(term: np.ndarray, wins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept and slope of a logistic regression for many weightings of the same rows, by Newton's method.

    Args:
        term: regressor, shape (rows,).
        wins: share won, in [0, 1], shape (rows,).
        weights: shape (fits, rows).

    Returns:
        Shape (fits, 2).
    """
    design = np.stack([np.ones_like(term), term], axis=1)
    found = np.zeros((len(weights), 2))
    for _ in range(30):
        share = special.expit(found @ design.T)
        slope = (weights * (wins - share)) @ design - RIDGE * found
        curvature = np.einsum("br,ri,rj->bij", weights * share * (1 - share), design, design, optimize=True)
        step = np.linalg.solve(curvature + RIDGE * np.eye(2), slope[..., None])[..., 0]
        found += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return found


def length_controlled_difference(
    first, second, first_lengths, second_lengths, prompts=None, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """Mean score difference at equal length: the intercept of a regression on the length difference.

    Args:
        first, second, first_lengths, second_lengths, prompts: as in `length_controlled_win_rate`.

    Returns:
        score_difference_length_controlled (+_low, _high).
    """
    difference = as_vector(first, "first") - as_vector(second, "second", len(first))
    gap = as_vector(first_lengths, "first_lengths", len(first)) - as_vector(
        second_lengths, "second_lengths", len(first)
    )
    line, resampled = line_with_draws(gap, difference, prompts, draws, seed)
    return percentile_interval(line[0], resampled[:, 0]).named("score_difference_length_controlled")


def score_length_slope(
    scores: ArrayLike,
    lengths: ArrayLike,
    prompts=None,
    *,
    per: float = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Rise of the score for `per` more words (or tokens): slope of a straight line over the replies.

    Returns:
        score_length_slope (+_low, _high).
    """
    scores = as_vector(scores, "scores")
    line, resampled = line_with_draws(
        as_vector(lengths, "lengths", scores.size), scores, prompts, DRAWS, seed
    )
    return percentile_interval(per * line[1], per * resampled[:, 1]).named("score_length_slope")


def line_with_draws(
    x: np.ndarray, y: np.ndarray, prompts, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of y on x by least squares, and their bootstrap draws, two columns.

    Draws in which all x are equal, which happens among few prompts, have no line and are left out.
    """
    if np.ptp(x) == 0:
        raise InputError("all lengths are equal: no slope of the score against length can be read from them")
    moments = np.stack([x, y, x * x, x * y], axis=1)

    def line(means: np.ndarray) -> np.ndarray:
        spread = means[:, 2] - means[:, 0] ** 2
        means, spread = means[spread > 1e-9 * x.var()], spread[spread > 1e-9 * x.var()]
        slope = (means[:, 3] - means[:, 0] * means[:, 1]) / spread
        return np.stack([means[:, 1] - slope * means[:, 0], slope], axis=1)

    return line(moments.mean(axis=0, keepdims=True))[0], line(bootstrap_means(moments, prompts, draws, seed))


def length_basis(lengths: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Columns 1, length, and a hinge at each knot (a curve of straight pieces): (rows, 2 + knots)."""
    return np.stack([np.ones_like(lengths), lengths, *[np.maximum(lengths - k, 0) for k in knots]], axis=1)


def within(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`values` minus their mean in each cluster, shape as `values`."""
    table = pd.DataFrame(values)
    return (table - table.groupby(codes).transform("mean")).to_numpy()


def length_share(
    reference: ArrayLike,
    reference_lengths: ArrayLike,
    generated: ArrayLike,
    generated_lengths: ArrayLike,
    reference_prompts: Sequence,
    generated_prompts: Sequence,
    *,
    within_prompts: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """How much of the rise from reference to generated scores the change of length accounts for.

    The score as a function of length, f, is fitted to the reference replies only (straight pieces with knots
    at the terciles of their length), so the generated replies cannot lend their quality to it. Then

        length part = mean f(generated lengths) - mean f(reference lengths),   rest = rise - length part.

    Prompts are resampled together with all their replies of both kinds, and f is fitted again in each draw.

    Args:
        reference, reference_lengths, reference_prompts: one entry for each reference reply (chosen, rejected
            or both).
        generated, generated_lengths, generated_prompts: one entry for each generated reply.
        within_prompts: fit f to differences among the replies of one prompt only. Across prompts, length may
            stand for the kind of question; within a prompt it cannot. The truth usually lies between.

    Returns:
        rise, rise_length, rise_rest, rise_length_share (each with _low, _high).
    """
    reference, generated = as_vector(reference, "reference"), as_vector(generated, "generated")
    lengths = as_vector(reference_lengths, "reference_lengths", reference.size)
    new_lengths = as_vector(generated_lengths, "generated_lengths", generated.size)
    unit = lengths.std() or 1.0  # lengths in standard deviations keep the normal equations well conditioned
    knots = np.unique(np.quantile(lengths, KNOTS)) / unit
    design, target = length_basis(lengths / unit, knots), length_basis(new_lengths / unit, knots)
    codes = cluster_codes([*reference_prompts, *generated_prompts], reference.size + generated.size)
    regressors, response = design, reference
    if within_prompts:
        regressors, response = design.copy(), within(reference[:, None], codes[: reference.size])[:, 0]
        regressors[:, 1:] = within(design[:, 1:], codes[: reference.size])

    def parts(weights: np.ndarray) -> np.ndarray:
        left, right = weights[:, : reference.size], weights[:, reference.size :]
        gram = np.einsum("br,ri,rj->bij", left, regressors, regressors, optimize=True)
        moment = (left * response) @ regressors
        curve = np.linalg.solve(gram + 1e-9 * np.eye(design.shape[1]), moment[..., None])[..., 0]
        left, right = (w / w.sum(axis=1, keepdims=True) for w in (left, right))
        rise = right @ generated - left @ reference
        longer = ((right @ target - left @ design) * curve).sum(axis=1)
        return np.stack([rise, longer, rise - longer, longer / rise], axis=1)

    value = parts(np.ones((1, codes.size)))[0]
    resampled = np.concatenate([parts(weights) for weights in row_weights(codes, DRAWS, seed)])
    found: dict[str, float] = {}
    for name, point, column in zip(RISE_NAMES, value, resampled.T, strict=True):
        found |= percentile_interval(point, column).named(name)
    return found
