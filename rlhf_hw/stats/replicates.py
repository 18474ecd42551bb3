"""Means over several trainings: luck with the prompts and luck with the seed, each with its own interval.

A number of one trained model is a draw twice over: of the prompts it is measured on and of the training
(pairs, order, start of the head). More prompts shrink the first only. With R replicates, which
are trainings on other pairs with other seeds, measured on the same rows, the value is the mean over all, and

    prompts    is the interval over prompts of the replicates' mean in each row, the trainings held fixed;
    trainings  is Student's t interval on the R means, the prompts held fixed:
               value +- t(R - 1) * sd / sqrt(R), with t = 4.30 for three (Student 1908).

A sentence may rest on a number where both agree (`beyond`).

    found = replicated_rate(right, prompts).named("accuracy")    # right: shape (replicates, rows)
    if beyond(found, "accuracy", 0.5) > 0: ...
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.stats.intervals import (
    LEVEL,
    Estimate,
    as_vector,
    cluster_codes,
    mean_interval,
    rate_difference_interval,
    rate_interval,
)

TRAININGS = "_trainings"  # between a key and _low or _high: the interval over trainings


class Replicated(NamedTuple):
    """A mean over replicates with its interval over prompts and, from two replicates on, over trainings."""

    value: float
    prompts: Estimate
    trainings: Estimate | None

    def named(self, key: str) -> dict[str, float]:
        """`key`, `key`_low, `key`_high and, where known, `key`_trainings_low, `key`_trainings_high."""
        found = self.prompts.named(key)
        if self.trainings is not None:
            ends = self.trainings.named(f"{key}{TRAININGS}")
            found |= {name: ends[name] for name in ends if name != f"{key}{TRAININGS}"}
        return found

    @classmethod
    def of(cls, numbers: Mapping[str, float], key: str) -> "Replicated":
        """What `named` gave; without an interval over trainings where `numbers` has none."""
        value, ends = numbers[key], [f"{key}{TRAININGS}_low", f"{key}{TRAININGS}_high"]
        known = all(end in numbers for end in ends)
        trainings = Estimate(value, *(numbers[end] for end in ends)) if known else None
        return cls(value, Estimate.of(numbers, key), trainings)


def replicated_mean(values: ArrayLike, clusters: Sequence | None = None, *, seed: int = 0) -> Replicated:
    """Mean over replicates and rows with both intervals.

    Args:
        values: shape (replicates, rows), or (rows,) for one replicate; the rows are the same for all.
        clusters: prompt of each row, or None where every row is a prompt of its own.

    Raises:
        InputError: another shape, no rows, or entries that are not finite.
    """
    table = as_replicates(values)
    return replicated(mean_interval(table.mean(axis=0), clusters, seed=seed), table.mean(axis=1))


def replicated_rate(outcomes: ArrayLike, clusters: Sequence | None = None, *, seed: int = 0) -> Replicated:
    """As `replicated_mean` for outcomes in [0, 1]: the interval over prompts holds at rates of 0 and 1 too.

    Args:
        outcomes: shape (replicates, rows): 1 right, 0 wrong, 1/2 a tie.
        clusters: prompt of each row, or None.
    """
    table = as_replicates(outcomes)
    codes = np.tile(cluster_codes(clusters, table.shape[1]), len(table))
    found = replicated(rate_interval(table.ravel(), codes, seed=seed), table.mean(axis=1))
    if found.trainings is None:
        return found
    low, high = np.clip(found.trainings[1:], 0, 1)
    return found._replace(trainings=Estimate(found.value, float(low), float(high)))


def replicated(prompts: Estimate, values: ArrayLike) -> Replicated:
    """Puts the interval over trainings beside one over prompts, for statistics that are no plain means.

    Args:
        prompts: the replicates' mean with its interval over prompts.
        values: the statistic of each replicate, shape (replicates,).
    """
    return Replicated(prompts.value, prompts, trainings_interval(values))


def independent_difference(first: Estimate, second: Estimate) -> Estimate:
    """The first rate minus the second, which was measured on other prompts.

    The ends are as far from the difference as the root of the squared distances of the two ends concerned
    (Newcombe 1998, method 10).
    """
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, float(value - below), float(value + above))


def replicated_lead(first: ArrayLike, second: ArrayLike, clusters: Sequence | None = None) -> Replicated:
    """How far the rate of the first lies above that of the second on the same rows, with both intervals.

    Args:
        first, second: outcomes in [0, 1], shape (replicates, rows); one that is not trained anew for each
            replicate may have shape (rows,).
        clusters: prompt of each row, or None.
    """
    ahead = as_replicates(first) - as_replicates(second)
    return replicated(rate_difference_interval(ahead.mean(axis=0), clusters), ahead.mean(axis=1))


def trainings_interval(values: ArrayLike) -> Estimate | None:
    """Student's t interval of the mean of one number a training; None for a single training.

    Trainings whose numbers are all equal give an interval of no length: they say nothing of other trainings,
    and the interval over prompts, which stands beside this one, has to carry the doubt.
    """
    vector = as_vector(values, "values")
    if vector.size < 2:
        return None
    half = stats.t.ppf((1 + LEVEL) / 2, vector.size - 1) * vector.std(ddof=1) / np.sqrt(vector.size)
    return Estimate(
        *(float(number) for number in (vector.mean(), vector.mean() - half, vector.mean() + half))
    )


def beyond(numbers: Mapping[str, float], key: str, bound: float = 0.0) -> int:
    """On which side of `bound` a number lies beyond both its intervals.

    Args:
        numbers: metrics with `key`_low and `key`_high and, where there are replicates, `key`_trainings_low
            and `key`_trainings_high.

    Returns:
        1 if all lower ends exceed `bound`, -1 if all upper ends lie below it, else 0.

    Raises:
        UnknownName: `numbers` has no interval of that name.
    """
    if f"{key}_low" not in numbers or f"{key}_high" not in numbers:
        raise UnknownName(f"no interval {key}_low, {key}_high among {sorted(numbers)}")
    heads = [head for head in (key, f"{key}{TRAININGS}") if f"{head}_low" in numbers]
    if all(numbers[f"{head}_low"] > bound for head in heads):
        return 1
    return -1 if all(numbers[f"{head}_high"] < bound for head in heads) else 0


def as_replicates(values: ArrayLike) -> np.ndarray:
    """`values` as a table of shape (replicates, rows), one row for a vector.

    Raises:
        InputError: neither a vector nor a table, empty, or with entries that are not finite.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2:
        raise InputError(f"values must have shape (replicates, rows), but have shape {table.shape}")
    as_vector(table.ravel(), "values")
    return table
