"""Intervals for means and rates: the uncertainty that stands beside every number.

Replies to one prompt are not independent, so the unit is the prompt (a cluster), not the pair (Cameron,
Gelbach and Miller 2008 discuss why). No interval here draws random numbers, and each covers also where a
percentile bootstrap does not: with few prompts and at rates near 0 and 1 (`docs/statistics.md` shows by
simulation).

- Means: Student's t with a cluster-robust standard error and Satterthwaite's degrees of freedom (Bell and
  McCaffrey 2002), `mean_interval`.
- Rates: the score interval (Wilson 1927) with as many trials as the clusters are worth (Kish 1965) and t in
  place of z (Korn and Graubard 1998), `rate_interval`.
- Differences of two rates on the same rows, in [-1, 1]: `rate_difference_interval` (Bonett and Price 2012).
- Whatever else is smooth in the weights of the rows, such as a regression: the jackknife, which leaves out
  one prompt after the other (module `stats.jackknife`).

A single prompt says nothing of others: a rate is in [0, 1] then, and any other interval has infinite ends.

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


def percentile_interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Estimate:
    """`value` with the central `level` share of its bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high))


def mean_interval(values: ArrayLike, clusters=None, *, seed: int = 0) -> Estimate:
    """Mean with Student's t interval over clusters.

    Args:
        values: shape (rows,).
        clusters: prompt of each row; None means that rows are independent.
        seed: without effect, since nothing is drawn.

    Returns:
        The mean over rows; infinite ends for a single cluster.
    """
    vector = as_vector(values, "values")
    error, freedom = cluster_error(vector, cluster_codes(clusters, vector.size))
    half = quantile(freedom) * error
    return Estimate(float(vector.mean()), float(vector.mean() - half), float(vector.mean() + half))


def cluster_error(vector: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Standard error of the mean over rows whose clusters are independent, and its degrees of freedom.

    With S_c the sum and n_c the number of rows in cluster c of C, N rows, mean m and h_c = n_c / N,

        error^2 = sum_c (S_c - n_c m)^2 / (1 - h_c) / N^2        (CR2, Bell and McCaffrey 2002),

    which is the textbook formula where all n_c are equal; the freedom is C - 1 then, and less where few
    clusters hold most of the rows. One cluster: infinity and 1.
    """
    sizes = np.bincount(codes)
    if sizes.size == 1:
        return np.inf, 1.0
    part = sizes / vector.size
    off = np.bincount(codes, weights=vector) - sizes * vector.mean()
    scaled = part**2 / (1 - part)
    freedom = 1 / ((part**2).sum() + scaled.sum() ** 2 - (scaled**2).sum())
    return float(np.sqrt((off**2 / (1 - part)).sum()) / vector.size), float(freedom)


def quantile(freedom: float) -> float:
    """Student's t beyond which half of 1 - LEVEL lies, for so many degrees of freedom."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def score_interval(share: float, trials: float, deviations: float) -> Estimate:
    """All rates that lie within so many standard deviations *of their own* of an observed share.

    |share - p| <= deviations * sqrt(p (1 - p) / trials), solved for p (Wilson 1927).
    """
    square = deviations**2 / trials
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    # At 0 and 1 the bound equals the share exactly; rounding must not push it a hair beyond.
    low, high = max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
    return Estimate(float(share), float(low), float(high))


def wilson_interval(successes: float, trials: float) -> Estimate:
    """Wilson score interval of a proportion of independent trials; `successes` may hold halves (ties)."""
    if not 0 <= successes <= trials or trials <= 0:
        raise InputError(f"{successes} successes in {trials} trials is not a proportion")
    return score_interval(successes / trials, trials, stats.norm.ppf((1 + LEVEL) / 2))


def rate_interval(outcomes: ArrayLike, clusters=None, *, seed: int = 0) -> Estimate:
    """A rate (mean of outcomes in [0, 1]) with its interval, which holds at rates of 0 and 1 too.

    The score interval with rows / design effect trials (`design_effect`) and Student's t for z.

    Args:
        outcomes: shape (rows,): 1 right, 0 wrong, 1/2 a tie.
        clusters: prompt of each row; None means that rows are independent.
        seed: without effect, since nothing is drawn.
    """
    vector = as_vector(outcomes, "outcomes")
    if vector.min() < 0 or vector.max() > 1:
        raise InputError(f"outcomes lie between {vector.min()} and {vector.max()}: a rate is of [0, 1]")
    codes = cluster_codes(clusters, vector.size)
    error, freedom = cluster_error(vector, codes)
    if np.isinf(error):
        return Estimate(float(vector.mean()), 0.0, 1.0)
    binomial = vector.mean() * (1 - vector.mean()) / vector.size
    effect = design_effect(vector, codes, error**2 / binomial if binomial > 0 else 1.0)
    return score_interval(float(vector.mean()), vector.size / effect, quantile(freedom))


def rate_lead(first: Estimate, second: Estimate) -> Estimate:
    """By how much one rate is above another of other rows (Newcombe 1998, method 10: from both intervals)."""
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, float(max(-1.0, value - below)), float(min(1.0, value + above)))


def design_effect(outcomes: np.ndarray, codes: np.ndarray, observed: float) -> float:
    """How many rows are worth one independent row: 1 where every cluster has one, more where they agree.

    The ratio of two variances is `observed`, but where the rarer outcome is found in k clusters only, that is
    an estimate from k clusters (and at rates of 0 and 1 from none). So it is drawn towards what would hold if
    the rows of a cluster always agreed, Kish's sum n_c^2 / N, with weight 2 / (2 + k^2): two thirds at k = 1,
    0.04 at k = 7. k counts clusters by how many of the rarer rows they hold: (sum f_c)^2 / sum f_c^2.

    Args:
        outcomes: shape (rows,), in [0, 1].
        codes: cluster of each row, from `cluster_codes`.
        observed: cluster-robust variance over that of independent rows.
    """
    sizes = np.bincount(codes)
    if sizes.size == outcomes.size:
        return 1.0
    counts = (np.bincount(codes, weights=side) for side in (outcomes, 1 - outcomes))
    rare = min(c.sum() ** 2 / (c**2).sum() if c.any() else 0.0 for c in counts)
    weight = 2 / (2 + rare**2)
    return float((1 - weight) * max(observed, 1.0) + weight * (sizes**2).sum() / sizes.sum())


def rate_difference_interval(differences: ArrayLike, clusters=None) -> Estimate:
    """Mean of differences of two outcomes on the same rows, with an interval that no run of zeros collapses.

    Student's t interval over clusters after two more clusters of mean size, one all for the first and one all
    for the second (for independent pairs the interval of Bonett and Price 2012).

    Args:
        differences: in [-1, 1], shape (rows,).
        clusters: prompt of each row, or None.
    """
    vector = as_vector(differences, "differences")
    codes = cluster_codes(clusters, vector.size)
    count = int(codes.max()) + 1
    if count == 1:
        return Estimate(float(vector.mean()), -1.0, 1.0)
    sizes, sums = np.bincount(codes), np.bincount(codes, weights=vector)
    size = vector.size / count
    sizes, sums = np.append(sizes, [size, size]), np.append(sums, [size, -size])
    middle = sums.sum() / sizes.sum()
    off = sums - sizes * middle
    error = np.sqrt((off**2).sum() * (count + 2) / (count + 1)) / sizes.sum()
    half = quantile(cluster_error(vector, codes)[1]) * error
    value = float(vector.mean())
    low, high = max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half))
    return Estimate(value, float(low), float(high))


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
