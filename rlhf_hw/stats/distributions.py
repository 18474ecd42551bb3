"""How far two score distributions lie apart, and how two quantities move together.

Effect size (Cohen 1988): difference of the means in standard deviations, unpaired (d, pooled spread of the
scores) or paired (d_z, spread of the margins). Overlap coefficient: the area two densities share.
Correlations are Spearman's, so that a monotone change of scale of the reward alters nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from rlhf_hw.errors import InputError
from rlhf_hw.stats.intervals import Estimate, as_vector, cluster_codes, quantile


def effect_size(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Cohen's d of two samples: difference of the means in units of their pooled standard deviation.

    Raises:
        ValueError: both samples constant: d has no unit then.
    """
    chosen, rejected = as_vector(chosen, "chosen"), as_vector(rejected, "rejected")
    freedom = chosen.size + rejected.size - 2
    squares = ((chosen - chosen.mean()) ** 2).sum() + ((rejected - rejected.mean()) ** 2).sum()
    if freedom <= 0 or squares == 0:
        raise InputError("an effect size needs scores that vary: all scores within a group are equal")
    return float((chosen.mean() - rejected.mean()) / np.sqrt(squares / freedom))


def paired_effect_size(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Cohen's d_z of paired samples: mean margin in units of the standard deviation of the margins."""
    chosen = as_vector(chosen, "chosen")
    margins = chosen - as_vector(rejected, "rejected", chosen.size)
    if margins.size < 2 or np.ptp(margins) == 0:
        raise InputError("a paired effect size needs margins that vary: all margins are equal")
    return float(margins.mean() / margins.std(ddof=1))


def overlap_coefficient(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Area under both densities, in [0, 1]: 1 for the same distribution, 0 for disjoint ones.

    Densities are Gaussian kernel estimates (scipy, Scott's bandwidth) on a common grid. For two normal
    distributions of equal spread it is 2 Phi(-|d| / 2).
    """
    samples = [as_vector(chosen, "chosen"), as_vector(rejected, "rejected")]
    if any(np.ptp(sample) == 0 for sample in samples):
        raise InputError("an overlap needs scores that vary: all scores of one group are equal")
    spread = max(sample.std() for sample in samples)
    both = np.concatenate(samples)
    grid = np.linspace(both.min() - spread, both.max() + spread, 512)
    densities = [stats.gaussian_kde(sample)(grid) for sample in samples]
    return float(min(1.0, np.trapezoid(np.minimum(*densities), grid)))


def distribution_metrics(chosen: ArrayLike, rejected: ArrayLike) -> dict[str, float]:
    """How far the two score distributions of notebook 03 lie apart.

    Returns:
        pairs, chosen_mean, rejected_mean, margin_mean, margin_sd, effect_size, effect_size_paired, overlap.
    """
    chosen = as_vector(chosen, "chosen")
    rejected = as_vector(rejected, "rejected", chosen.size)
    margins = chosen - rejected
    return {
        "pairs": float(chosen.size),
        "chosen_mean": float(chosen.mean()),
        "rejected_mean": float(rejected.mean()),
        "margin_mean": float(margins.mean()),
        "margin_sd": float(margins.std(ddof=1)),
        "effect_size": effect_size(chosen, rejected),
        "effect_size_paired": paired_effect_size(chosen, rejected),
        "overlap": overlap_coefficient(chosen, rejected),
    }


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation; 0 where one side is constant (it then orders nothing)."""
    first = as_vector(first, "first")
    second = as_vector(second, "second", first.size)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first, second).statistic)


def correlation_interval(value: float, rows: int) -> Estimate:
    """Spearman's correlation of independent rows with the interval of Bonett and Wright (2000).

    Fisher's z = atanh(r) has the standard error sqrt((1 + r^2 / 2) / (rows - 3)). With three rows or fewer
    nothing is known: [-1, 1].

    Args:
        value: The correlation, from `correlation`; or the mean of several on the same rows, whose interval
            is then no narrower than if they were one.
        rows: How many rows.
    """
    if rows < 4:
        return Estimate(value, -1.0, 1.0)
    half = quantile(np.inf) * np.sqrt((1 + value**2 / 2) / (rows - 3))
    # atanh(1) is infinite; ranks that agree everywhere are taken for agreement of all but half a row.
    middle = np.arctanh(np.clip(value, 0.5 / rows - 1, 1 - 0.5 / rows))
    low, high = np.tanh([middle - half, middle + half])
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def within_prompt_correlations(scores: ArrayLike, other: ArrayLike, prompts: Sequence) -> pd.Series:
    """Spearman's correlation among the replies to each prompt, free of the level that a prompt adds to all.

    Args:
        scores, other: one number a reply, shape (replies,).
        prompts: prompt of each reply.

    Returns:
        Index: number of the prompt in order of appearance. Prompts where either side is constant order
        nothing and are left out.
    """
    scores = as_vector(scores, "scores")
    table = pd.DataFrame({"x": scores, "y": as_vector(other, "other", scores.size)})
    groups = cluster_codes(prompts, scores.size)
    ranks = table.groupby(groups).rank()
    centred = ranks - ranks.groupby(groups).transform("mean")
    product = (centred["x"] * centred["y"]).groupby(groups).sum()
    norm = np.sqrt((centred**2).groupby(groups).sum().prod(axis=1))
    return product[norm > 0] / norm[norm > 0]


def antisymmetric_correlation(margins: np.ndarray, gap: np.ndarray) -> float:
    """Spearman of two differences, every pair taken in both orders: which is named first plays no part."""
    return correlation(np.concatenate([margins, -margins]), np.concatenate([gap, -gap]))
