"""How much of what could be known does a reward model know? The share of the best possible accuracy.

Where annotators answer by chance, with probabilities that the data's maker knows, nobody's accuracy is 1. The
best judge knows each probability and sides with the likelier answer; on labels that were drawn it is right on
some share of them, above or below its expectation. On the same labels

    share of best = (accuracy - 1/2) / (accuracy of the best judge - 1/2),

0 for guessing and 1 for the best judge (more is luck with these labels). Both accuracies are of the same
pairs, so the interval is that of a paired ratio (Fieller 1954).

    share_of_best(outcomes(margins), outcomes(probability_of_chosen - 0.5), prompts)["share_of_best"]
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.stats.intervals import Estimate, as_vector, cluster_codes, cluster_error, quantile
from rlhf_hw.stats.jackknife import ratio_interval
from rlhf_hw.stats.replicates import Replicated, as_replicates, trainings_interval


def share_of_best(
    right: ArrayLike, best_right: ArrayLike, prompts: Sequence | None = None
) -> dict[str, float]:
    """Share of the reachable accuracy above chance, with its interval over prompts and over trainings.

    Two prompts are added for the interval, one that only the model has right and one that only the best judge
    has right: they leave the ratio as it is and keep the interval open where both agree everywhere (Bonett
    and Price 2012 do so for differences).

    Args:
        right: outcomes of the reward model in [0, 1], shape (pairs,), or (replicates, pairs) for several
            trainings on the same pairs.
        best_right: outcomes of the best judge on the same labels, shape (pairs,).
        prompts: prompt of each pair, or None.

    Returns:
        share_of_best; share_of_best_low and share_of_best_high, unless the pairs are so few that the best
        judge himself may be guessing: then no bound is finite and both are left out;
        share_of_best_trainings_low and share_of_best_trainings_high with two or more trainings.

    Raises:
        InputError: the best judge is right on half of the labels or fewer.
    """
    table = as_replicates(right)
    best = as_vector(best_right, "best_right", table.shape[1])
    if best.mean() <= 0.5:
        raise InputError(
            f"a best possible accuracy of {best.mean():.3f} leaves nothing above chance to reach"
        )
    top, bottom = table.mean(axis=0) - 0.5, best - 0.5
    codes = cluster_codes(prompts, best.size)
    interval = ratio_interval(
        top.mean(), bottom.mean(), paired_spread(top, bottom, codes), quantile(cluster_error(best, codes)[1])
    )
    trainings = trainings_interval((table.mean(axis=1) - 0.5) / bottom.mean())
    value = float(top.mean() / bottom.mean())
    found = Replicated(value, interval or Estimate(value, -np.inf, np.inf), trainings).named("share_of_best")
    return {key: number for key, number in found.items() if np.isfinite(number)}


def paired_spread(top: np.ndarray, bottom: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Covariance of two columns' means, shape (2, 2), with both added prompts; infinite for one prompt."""
    sizes = np.bincount(codes)
    if sizes.size == 1:
        return np.full((2, 2), np.inf)
    size = codes.size / sizes.size
    sums = np.stack([np.bincount(codes, weights=column) for column in (top, bottom)])
    sums = np.concatenate([sums, [[size / 2, -size / 2], [-size / 2, size / 2]]], axis=1)
    sizes = np.append(sizes, [size, size])
    off = sums - sizes * (sums.sum(axis=1) / sizes.sum())[:, None]
    return off @ off.T * sizes.size / (sizes.size - 1) / codes.size**2
