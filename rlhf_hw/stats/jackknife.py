"""Intervals for regressions and ratios: leave out one prompt after the other and see what changes.

The jackknife over clusters (Tukey 1958) asks for a statistic at C + 1 weightings of the rows, for C prompts,
and draws nothing:

    error^2 = (C - 1) / C * sum_c (value without prompt c - mean of these)^2,   value +- t(C - 1) * error.

For a regression it is the cluster-robust variance CR3 (MacKinnon, Nielsen and Webb 2023), which errs on the
side of width where few prompts decide. Ratios get the interval of Fieller (1954), since their own jackknife
fails where the denominator may be zero.

    jackknife_intervals(lambda weights: fit(x, y, weights), cluster_codes(prompts, rows))
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from rlhf_hw.stats.intervals import CHUNK, LEVEL, Estimate

Statistic = Callable[
    [np.ndarray], np.ndarray
]  # weights of shape (k, rows) -> values of shape (k, statistics)


def jackknife_weights(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Chunks of weights of shape (part of the clusters, rows): 0 for the rows of one cluster, else 1."""
    clusters, step = int(codes.max()) + 1, max(1, CHUNK // len(codes))
    for start in range(0, clusters, step):
        yield (np.arange(start, min(start + step, clusters))[:, None] != codes).astype(float)


def jackknife(statistic: Statistic, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Values of several statistics, their covariance and its degrees of freedom.

    Args:
        statistic: weights of shape (k, rows) -> values of shape (k, statistics).
        codes: cluster of each row, from `cluster_codes`.

    Returns:
        Shapes (statistics,) and (statistics, statistics), and C - 1. The covariance is infinite where there
        is a single cluster, or one without which a statistic has no value.
    """
    value, clusters = statistic(np.ones((1, codes.size)))[0], int(codes.max()) + 1
    if clusters > 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            without = np.concatenate([statistic(weights) for weights in jackknife_weights(codes)])
        if np.isfinite(without).all():
            off = without - without.mean(axis=0)
            return value, off.T @ off * (clusters - 1) / clusters, clusters - 1
    return value, np.full((value.size, value.size), np.inf), 1


def jackknife_intervals(statistic: Statistic, codes: np.ndarray, level: float = LEVEL) -> list[Estimate]:
    """Student's t interval of each statistic; arguments as of `jackknife`."""
    return student_intervals(*jackknife(statistic, codes), level)


def student_intervals(
    values: np.ndarray, spread: np.ndarray, freedom: int, level: float = LEVEL
) -> list[Estimate]:
    """Value +- t(freedom) * standard error for each value, from what `jackknife` found."""
    half = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(np.diag(spread))
    return [Estimate(float(v), float(v - h), float(v + h)) for v, h in zip(values, half, strict=True)]


def ratio_interval(top: float, bottom: float, spread: np.ndarray, deviations: float) -> Estimate | None:
    """A ratio of two estimates with the interval of Fieller (1954); None where it has no finite ends.

    It holds every r for which top - r * bottom is within so many of its standard deviations of 0, and has
    finite ends exactly where `bottom` is more than so many of its own away from 0.

    Args:
        spread: covariance of top and bottom, shape (2, 2).
    """
    if not np.isfinite(spread).all():
        return None
    square = deviations**2
    curve = bottom**2 - square * spread[1, 1]
    slope, level = top * bottom - square * spread[0, 1], top**2 - square * spread[0, 0]
    if curve <= 0:
        return None
    half = np.sqrt(max(slope**2 - curve * level, 0.0))
    return Estimate(float(top / bottom), float((slope - half) / curve), float((slope + half) / curve))
