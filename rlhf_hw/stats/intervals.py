"""Intervals for means and rates: the uncertainty that stands beside every number.

Replies to one prompt are not independent, so the unit that is resampled is the prompt (a cluster), not the
pair (Cameron, Gelbach and Miller 2008 discuss why). A draw of the cluster bootstrap is a multinomial weight
per cluster; means, ratios and regressions are then weighted sums, and all draws are computed at once:

    mean_b = (sum_c w_bc * S_c) / (sum_c w_bc * n_c),   S_c = sum of the values in cluster c, n_c = their
    number.

Where every prompt has one pair, a rate gets the Wilson score interval (Wilson 1927), which needs no draws and
stays inside [0, 1]. All functions are pure; the same seed gives the same interval.

    rate_interval([1, 0, 0.5, 1], prompts)  ->  Estimate(value=0.625, low=..., high=...)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rlhf_hw.errors import InputError

DRAWS = 2000
LEVEL = 0.95  # how often an interval covers
CHUNK = 4_000_000  # weights held in memory at a time: 32 MB


class Estimate(NamedTuple):
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """The three numbers under `name`, `name_low` and `name_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    @classmethod
    def of(cls, metrics: Mapping[str, float], name: str) -> "Estimate":
        """The three numbers that `named` gave."""
        return cls(*(metrics[f"{name}{end}"] for end in ("", "_low", "_high")))

    def __format__(self, form: str) -> str:
        """The value and its interval, each in `form`: `f"{estimate:.2f}"` is "0.58 [0.54, 0.61]"."""
        return "{0:{3}} [{1:{3}}, {2:{3}}]".format(*self, form)


def as_vector(values: ArrayLike, name: str, length: int | None = None) -> np.ndarray:
    """`values` as a float vector, refusing what would silently spoil a mean.

    Raises:
        ValueError: not one-dimensional, empty, of another length than `length`, or with NaN or infinite
        entries.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise InputError(f"{name} must be a non-empty vector, but has shape {vector.shape}")
    if length is not None and vector.size != length:
        raise InputError(f"{name} has {vector.size} entries where {length} are expected: one for each row")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise InputError(f"{name}[{bad[0]}] is {vector[bad[0]]}: {bad.size} entries are not finite numbers")
    return vector


def cluster_codes(clusters: Sequence | np.ndarray | None, rows: int) -> np.ndarray:
    """Clusters numbered 0, 1, ... in order of appearance; None puts every row into its own cluster.

    Args:
        clusters: one label a row (the prompt: text, number or any hashable object), or None.
        rows: the number of rows expected.
    """
    if clusters is None:
        return np.arange(rows)
    if len(clusters) != rows:
        raise InputError(f"{len(clusters)} prompts for {rows} rows: give one prompt for each row")
    seen: dict = {}
    return np.fromiter((seen.setdefault(label, len(seen)) for label in clusters), dtype=np.int64, count=rows)


def bootstrap_weights(count: int, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Chunks of resampling weights of shape (part of `draws`, `count`); each row sums to `count`."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // count)
    for start in range(0, draws, step):
        yield generator.multinomial(count, np.full(count, 1 / count), size=min(step, draws - start))


def row_weights(codes: np.ndarray, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """As `bootstrap_weights`, spread from clusters to rows: shape (part of `draws`, rows)."""
    for weights in bootstrap_weights(int(codes.max()) + 1, draws, seed):
        yield weights[:, codes]


def bootstrap_means(columns: np.ndarray, clusters=None, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Bootstrap draws of the means of several columns, with the same resampled prompts for all of them.

    Args:
        columns: values of shape (rows, k).
        clusters: one label a row, or None.

    Returns:
        Shape (draws, k).
    """
    codes = cluster_codes(clusters, len(columns))
    sizes = np.bincount(codes)
    sums = np.stack([np.bincount(codes, weights=column) for column in columns.T], axis=1)
    parts = [
        weights @ sums / (weights @ sizes)[:, None] for weights in bootstrap_weights(len(sizes), draws, seed)
    ]
    return np.concatenate(parts)


def percentile_interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Estimate:
    """`value` with the central `level` share of its bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high))


def mean_interval(values: ArrayLike, clusters=None, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Mean with a percentile interval from the bootstrap over clusters.

    Args:
        values: shape (rows,).
        clusters: prompt of each row; None means that rows are independent.
    """
    vector = as_vector(values, "values")
    means = bootstrap_means(vector[:, None], clusters, draws, seed)[:, 0]
    return percentile_interval(vector.mean(), means)


def wilson_interval(successes: float, trials: float) -> Estimate:
    """Wilson score interval of a proportion; `successes` may hold halves (ties)."""
    if not 0 <= successes <= trials or trials <= 0:
        raise InputError(f"{successes} successes in {trials} trials is not a proportion")
    share, z = successes / trials, stats.norm.ppf((1 + LEVEL) / 2)
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At 0 and 1 the bound equals the share exactly; rounding must not push it a hair beyond.
    return Estimate(float(share), float(min(share, middle - half)), float(max(share, middle + half)))


def rate_interval(outcomes: ArrayLike, clusters=None, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """A rate (mean of outcomes in [0, 1]) with its interval.

    The interval is the cluster bootstrap where some prompt has several rows, and Wilson's where every prompt
    has one (then resampling prompts would only approximate what Wilson's formula gives, and fails at rates of
    0 and 1).
    """
    vector = as_vector(outcomes, "outcomes")
    codes = cluster_codes(clusters, vector.size)
    if int(codes.max()) + 1 == vector.size:
        return wilson_interval(vector.sum(), vector.size)
    return mean_interval(vector, codes, draws=draws, seed=seed)


def with_intervals(points: Sequence[Mapping[str, float]], pairs: int) -> list[dict[str, float]]:
    """Points of a curve of shares, measured on so many pairs, with the ends of their 95% intervals.

    Args:
        points: [{"step", "value"}, ...], from `TrainingResult.curve`.
        pairs: number of pairs each value is a share of.

    Returns:
        [{"step", "value", "low", "high"}, ...] for `figures.training.evaluation_curve`.
    """
    found = [wilson_interval(round(point["value"] * pairs), pairs) for point in points]
    return [dict(point) | {"low": e.low, "high": e.high} for point, e in zip(points, found, strict=True)]
