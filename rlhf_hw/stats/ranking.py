"""The area under the ROC curve with an interval over prompts.

The area A is the share of pairs of a positive and a negative row in which the positive one ranks higher,
ties one half. With V_i the share of the negatives below positive i, and W_j that of the positives above
negative j, among m positives and n negatives,

    A - its expectation  ~  sum_i (V_i - A) / m + sum_j (W_j - A) / n        (DeLong et al. 1988),

so what each prompt adds to this sum tells how far A would move with other prompts. These parts of several
areas on the same rows can be averaged or subtracted like the areas themselves.

    value, parts = auroc_parts(scores, positive, codes)
    influence_interval(value, parts)
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rlhf_hw.errors import InputError
from rlhf_hw.stats.intervals import LEVEL, Estimate, as_vector


def auroc_parts(scores: ArrayLike, positive: ArrayLike, codes: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and what each prompt adds to its deviation.

    Args:
        scores: Higher for rows that are taken for positive, shape (rows,).
        positive: Whether each row is, shape (rows,).
        codes: Prompt of each row, from `intervals.cluster_codes`.

    Returns:
        The area, and a vector of shape (prompts,) that sums to 0.

    Raises:
        InputError: all rows are positive, or none is.
    """
    vector, told = as_vector(scores, "scores"), np.asarray(positive, dtype=bool)
    if told.all() or not told.any():
        raise InputError("an area under the ROC curve needs rows of both kinds, positive and not")
    shares = np.empty(vector.size)
    for mine in (told, ~told):
        others = np.sort(vector[~mine])
        places = [np.searchsorted(others, vector[mine], side=side) for side in ("left", "right")]
        below = np.mean(places, axis=0) / others.size
        shares[mine] = below if mine is told else 1 - below
    value = float(shares[told].mean())
    weights = np.where(told, 1 / told.sum(), 1 / (~told).sum())
    return value, np.bincount(codes, weights=weights * (shares - value))


def influence_interval(value: float, parts: np.ndarray) -> Estimate:
    """The value with Student's t interval over prompts; infinite ends for a single one."""
    count = len(parts)
    if count < 2:
        return Estimate(value, -np.inf, np.inf)
    error = np.sqrt(count / (count - 1) * np.sum(parts**2))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * error)
    return Estimate(value, value - half, value + half)
