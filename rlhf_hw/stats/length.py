"""What length does to scores: how much a reward model leans on it, and how much of a rise goes with it.

1. Does the reward model order pairs by length? `length_metrics`, `accuracy_by_length_gap`.
2. Would policy A still win at equal length? Module `stats.length_control`.
3. How much of a rise in score is length? `length_share`: the reward paid for length is learnt from the
   references alone, then applied to the lengths of the generated replies (Oaxaca 1973, Blinder 1973).

These are descriptions by regression: a longer reply may earn its score. What the length itself causes is
answered by editing replies (package `experiments.score_gap`): there the texts are cut to equal length and
scored again, so that its part for length is another quantity, and another number, than those here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.stats.calibration import accuracy_by_bin, equal_mass_bins, outcomes
from rlhf_hw.stats.distributions import antisymmetric_correlation, correlation
from rlhf_hw.stats.intervals import Estimate, as_vector, cluster_codes, quantile, rate_interval
from rlhf_hw.stats.jackknife import jackknife, jackknife_intervals, ratio_interval, student_intervals

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
    _, slope = line_intervals(as_vector(lengths, "lengths", scores.size), scores, prompts)[:2]
    return Estimate(*(per * number for number in slope)).named("score_length_slope")


def line_intervals(x: np.ndarray, y: np.ndarray, prompts) -> list[Estimate]:
    """Intercept, slope, and slope times mean of x, of y on x by least squares; jackknife over prompts.

    The ends are infinite where all x are equal but for one prompt, which cannot be left out then.

    Raises:
        InputError: all x are equal.
    """
    if np.ptp(x) == 0:
        raise InputError("all lengths are equal: no slope of the score against length can be read from them")
    centre, unit = x.mean(), x.std()
    moments = np.stack([np.ones_like(x), x - centre, y, (x - centre) ** 2, (x - centre) * y], axis=1)

    def line(weights: np.ndarray) -> np.ndarray:
        total, *sums = (weights @ moments).T
        mean_x, mean_y, mean_xx, mean_xy = (part / total for part in sums)
        spread = mean_xx - mean_x**2
        spread[spread < 1e-9 * unit**2] = np.nan
        slope = (mean_xy - mean_x * mean_y) / spread
        along = slope * (mean_x + centre)
        return np.stack([mean_y - along, slope, along], axis=1)

    return jackknife_intervals(line, cluster_codes(prompts, y.size))


def length_basis(lengths: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Columns 1, length, and a hinge at each knot (a curve of straight pieces): (rows, 2 + knots)."""
    return np.stack([np.ones_like(lengths), lengths, *[np.maximum(lengths - k, 0) for k in knots]], axis=1)


def within(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`values` minus their mean in each cluster, shape as `values`."""
    table = pd.DataFrame(values)
    return (table - table.groupby(codes).transform("mean")).to_numpy()


def least_squares(weights: np.ndarray, design: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Coefficients of a regression for many weightings of the rows: (k, rows) -> (k, columns)."""
    gram = np.einsum("br,ri,rj->bij", weights, design, design, optimize=True)
    moment = (weights * response) @ design
    return np.linalg.solve(gram + 1e-9 * np.eye(design.shape[1]), moment[..., None])[..., 0]


def centred_in_prompts(
    design: np.ndarray, response: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Regressors (but the constant) and response less their means in each prompt.

    Raises:
        InputError: no prompt has two replies of different length.
    """
    centred = np.column_stack([design[:, :1], within(design[:, 1:], codes)])
    if not np.abs(centred[:, 1]).max() > 0:
        raise InputError("no prompt has two reference replies of different length: none to compare within")
    return centred, within(response[:, None], codes)[:, 0]


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

    Prompts are left out one by one with all their replies of both kinds (jackknife), and f is fitted again.

    Args:
        reference, reference_lengths, reference_prompts: one entry for each reference reply (chosen, rejected
            or both).
        generated, generated_lengths, generated_prompts: one entry for each generated reply.
        within_prompts: fit f to differences among the replies of one prompt only. Across prompts, length may
            stand for the kind of question; within a prompt it cannot. The truth usually lies between.

    Returns:
        rise, rise_length, rise_rest (each with _low, _high; infinite where a side has a single prompt), and
        rise_length_share with Fieller's interval where the rise itself is beyond its interval: the share of a
        rise that may be none has no bounds, and is left out.

    Raises:
        InputError: within_prompts, and no prompt has two reference replies of different length.
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
        regressors, response = centred_in_prompts(design, reference, codes[: reference.size])

    def parts(weights: np.ndarray) -> np.ndarray:
        left, right = weights[:, : reference.size], weights[:, reference.size :]
        curve = least_squares(left, regressors, response)
        left, right = (w / w.sum(axis=1, keepdims=True) for w in (left, right))
        rise = right @ generated - left @ reference
        longer = ((right @ target - left @ design) * curve).sum(axis=1)
        return np.stack([rise, longer, rise - longer], axis=1)

    values, spread, freedom = jackknife(parts, codes)
    estimates = dict(zip(RISE_NAMES, student_intervals(values, spread, freedom), strict=False))
    share = ratio_interval(values[1], values[0], spread[[1, 0]][:, [1, 0]], quantile(freedom))
    estimates |= {RISE_NAMES[3]: share} if share else {}
    return {key: number for name, found in estimates.items() for key, number in found.named(name).items()}
