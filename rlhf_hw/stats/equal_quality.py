"""What length is worth to a score at equal quality, where the true quality is known; and curves over length.

A score that rises with length may be right to: better replies can be longer. Only a comparison at equal
quality tells what is paid for length itself.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlhf_hw.stats.intervals import cluster_codes
from rlhf_hw.stats.jackknife import jackknife_intervals
from rlhf_hw.stats.length import least_squares, within
from rlhf_hw.stats.replicates import Replicated, as_replicates, replicated


def spread_within(values: ArrayLike, codes: np.ndarray) -> np.ndarray:
    """A vector minus its means in each prompt, with deviation 1 (0 where it never varies)."""
    centred = within(np.asarray(values, dtype=float)[:, None], codes)[:, 0]
    return centred / (centred.std() or 1.0)


def length_at_equal_quality(
    scores: ArrayLike, quality: ArrayLike, lengths: ArrayLike, prompts: Sequence
) -> tuple[Replicated, Replicated]:
    """What length is worth to a score at equal quality, and quality at equal length, within prompts.

    Least squares of the score on quality and length, all three less their means in each prompt and in units
    of their deviation: so a coefficient says by how many deviations the score rises with one of length.

    Args:
        scores: Of several trainings, shape (trainings, replies), or (replies,). They may be differences of
            two rewards that each have been through `spread_within`; then their units stay.
        quality, lengths: Of the replies, shape (replies,).
        prompts: Prompt of each reply.

    Returns:
        The coefficients of length and of quality: means over trainings, with the jackknife over prompts.
    """
    table = as_replicates(scores)
    codes = cluster_codes(prompts, table.shape[1])
    design = np.stack([spread_within(lengths, codes), spread_within(quality, codes)], axis=1)
    response = within(table.T, codes).T
    ends = jackknife_intervals(lambda weights: least_squares(weights, design, response.mean(axis=0)), codes)
    each = np.stack([least_squares(np.ones((1, codes.size)), design, one)[0] for one in response])
    return tuple(replicated(one, column) for one, column in zip(ends, each.T, strict=True))


def local_means(x: np.ndarray, y: np.ndarray, at: np.ndarray, share: float = 0.3) -> np.ndarray:
    """Locally weighted regression (Cleveland 1979, without its robust steps): y as a smooth function of x.

    Args:
        x, y: Points, shape (n,).
        at: Where the curve is wanted, shape (m,).
        share: Of the points that are near; they count by the tricube of their distance.

    Returns:
        Shape (m,): the height at each place of a straight line through the near points.
    """
    near = min(max(2, int(share * x.size)), x.size)
    found = []
    for place in at:
        distance = np.abs(x - place)
        reach = np.partition(distance, near - 1)[near - 1] or 1.0
        weight = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        weight = weight / weight.sum() if weight.any() else np.full(x.size, 1 / x.size)
        mean_x, mean_y = weight @ x, weight @ y
        spread = weight @ (x - mean_x) ** 2
        slope = weight @ ((x - mean_x) * (y - mean_y)) / spread if spread > 1e-9 else 0.0
        found.append(mean_y + slope * (place - mean_x))
    return np.array(found)
