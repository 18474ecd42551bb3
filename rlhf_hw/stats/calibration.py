"""Does a margin of 2 mean what it says? Log-loss, Brier score, calibration error and temperature scaling.

Under the Bradley-Terry model the probability that the chosen reply is the better one is

    p = sigmoid(m / T),   m = r(chosen) - r(rejected),   T = 1 as trained.

A pair always comes with the better reply first, so calibration is read from the *predicted winner*: its
confidence is c = sigmoid(|m| / T) in [1/2, 1], and it is right when m > 0 (a tie counts one half). Bins hold
equal numbers of pairs (Nguyen and O'Connor 2015), and the expected calibration error (ECE) is the mean over
bins, weighted by their size, of |share right - mean confidence| (Guo et al. 2017, eq. 3). T is fitted by
minimising the log-loss (Guo et al. 2017, section 4.2), always on other prompts than it is judged on
(cross-fitting), so that the scaled ECE is honest.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special

from rlhf_hw.errors import InputError
from rlhf_hw.stats.intervals import as_vector, cluster_codes, rate_interval

BINS, FOLDS = 10, 5


def outcomes(margins: ArrayLike) -> np.ndarray:
    """1 where the chosen reply scores higher, 1/2 for a tie, 0 where it scores lower."""
    return (np.sign(as_vector(margins, "margins")) + 1) / 2


def log_loss(margins: ArrayLike) -> float:
    """Mean of -log sigmoid(margin), in nats: the Bradley-Terry loss. Chance level is ln 2."""
    return float(-special.log_expit(as_vector(margins, "margins")).mean())


def brier_score(margins: ArrayLike) -> float:
    """Mean of (1 - sigmoid(margin))^2. Chance level is 1/4."""
    return float((special.expit(-as_vector(margins, "margins")) ** 2).mean())


def equal_mass_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Bin number of each value; bins differ by at most one in size unless equal values straddle an edge.

    Equal values share a bin: otherwise the order of the rows would decide the result.
    """
    ordered = np.sort(values)
    sizes = [len(part) for part in np.array_split(ordered, min(bins, len(values)))]
    starts = np.cumsum(sizes)[:-1]
    edges = np.unique(ordered[starts])
    codes = np.searchsorted(edges, values, side="right")
    return np.unique(codes, return_inverse=True)[1]


def accuracy_by_bin(
    margins: ArrayLike, codes: np.ndarray, prompts: Sequence | None = None, *, seed: int = 0
) -> pd.DataFrame:
    """Share of pairs in the right order in each bin, ties one half.

    Args:
        margins: r(chosen) - r(rejected), shape (pairs,).
        codes: number of each pair's bin, shape (pairs,): 0, 1, ..., none of them empty.
        prompts: prompt of each pair, for the intervals.

    Returns:
        Index: bin. Columns `accuracy`, `accuracy_low`, `accuracy_high`, `pairs`.
    """
    right = outcomes(margins)
    clusters = cluster_codes(prompts, right.size)
    rows = []
    for code in range(codes.max() + 1):
        inside = codes == code
        rate = rate_interval(right[inside], clusters[inside], seed=seed)
        rows.append({**rate.named("accuracy"), "pairs": int(inside.sum())})
    return pd.DataFrame(rows)


def reliability_curve(margins: ArrayLike, prompts=None, *, bins: int = BINS, seed: int = 0) -> pd.DataFrame:
    """Confidence against share right, one row a bin.

    Args:
        margins: r(chosen) - r(rejected), shape (pairs,).
        prompts: prompt of each pair, for the intervals.

    Returns:
        Columns `confidence`, `accuracy`, `accuracy_low`, `accuracy_high`, `pairs`.
    """
    vector = as_vector(margins, "margins")
    confidence = special.expit(np.abs(vector))
    codes = equal_mass_bins(confidence, bins)
    table = accuracy_by_bin(vector, codes, prompts, seed=seed)
    table.insert(0, "confidence", [confidence[codes == code].mean() for code in table.index])
    return table


def expected_calibration_error(margins: ArrayLike, *, bins: int = BINS) -> float:
    """ECE over equal-mass bins. Chance keeps it above zero: about sqrt(bins / pairs) / 3 at best."""
    vector = as_vector(margins, "margins")
    confidence, right = special.expit(np.abs(vector)), outcomes(vector)
    codes = equal_mass_bins(confidence, bins)
    return float(np.abs(np.bincount(codes, weights=right - confidence)).sum() / vector.size)


def fit_temperature(margins: ArrayLike) -> float:
    """The T > 0 that minimises the log-loss of margin / T, found on a log scale.

    The search spans 1/1000 to 1000 times the mean absolute margin: a model that is always right wants T = 0
    and one that is no better than chance wants T = infinity; both get the end of the range. All margins zero
    gives 1.
    """
    vector = as_vector(margins, "margins")
    scale = np.abs(vector).mean()
    if scale == 0:
        return 1.0
    found = optimize.minimize_scalar(
        lambda log_t: -special.log_expit(vector / (scale * np.exp(log_t))).mean(),
        bounds=(-np.log(1000), np.log(1000)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(scale * np.exp(found.x))


def scale_margins(margins: ArrayLike, prompts=None, *, seed: int = 0) -> np.ndarray:
    """Margins divided by a temperature fitted on the other folds; no prompt is in two folds.

    Raises:
        ValueError: fewer prompts than two.
    """
    vector = as_vector(margins, "margins")
    codes = cluster_codes(prompts, vector.size)
    clusters = int(codes.max()) + 1
    if clusters < 2:
        raise InputError("cross-fitting a temperature needs pairs of at least two prompts")
    fold_of_cluster = np.random.default_rng(seed).permutation(clusters) % min(FOLDS, clusters)
    fold = fold_of_cluster[codes]
    scaled = np.empty_like(vector)
    for held_out in range(fold.max() + 1):
        scaled[fold == held_out] = vector[fold == held_out] / fit_temperature(vector[fold != held_out])
    return scaled


def calibration_metrics(margins: ArrayLike, prompts=None, *, seed: int = 0) -> dict[str, float]:
    """log_loss, brier, ece, temperature (of all pairs); cross-fitted: log_loss_scaled, ece_scaled."""
    scaled = scale_margins(margins, prompts, seed=seed)
    return {
        "log_loss": log_loss(margins),
        "brier": brier_score(margins),
        "ece": expected_calibration_error(margins),
        "temperature": fit_temperature(margins),
        "log_loss_scaled": log_loss(scaled),
        "ece_scaled": expected_calibration_error(scaled),
    }
