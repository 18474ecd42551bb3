"""Why do generated replies score so differently? The gap between two means of scores, taken apart.

The gap is mean r(generated, as scored) - mean r(reference, as in training) over the same prompts. k factors
can be corrected one by one (module `edits`), so there are 2^k cells: cell S holds the gap of every
prompt after the factors of S are corrected. A factor's part is its Shapley value (Shapley 1953), the mean
over the orders of correction of what the correction takes away; over all orders,

    phi_j = sum over S without j of |S|! (k - |S| - 1)! / k! * (gap(S) - gap(S + j)),
    sum_j phi_j = gap(0) - gap(all).

Over all orders, an interaction is shared: a score that is read at the wrong token also pays for length in the
wrong way, and half of that would be booked as length. `ORDER` therefore allows only the orders in which a
measurement is put right before what it measures is discussed: read-out and template first, then truncation,
then length and repetition (asymmetric Shapley values, Frye, Rowat and Feige 2020). The sum stays the same.

What no correction removes, gap(all), is split by regression over prompts. With the gold reward known,
quality = a * mean gold gap, where a, the score paid for a unit of gold, comes from ordinary preference pairs;
what is left is regressed on signs of unfamiliar text (spread of an ensemble, distance of the last hidden
state from training), whose share is `ood`, and `rest` is unexplained. Gaps are linear in the cells, so the
Shapley values of the mean are the means of the prompts' Shapley values, and one bootstrap over prompts gives
all intervals.

    cells = gap_cells(pairs, reward_model.score_ids, ends)
    parts = decompose(cells, FACTORS, prompts, stages=ORDER, gold_gap=..., gold_price=..., ood=...)
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.experiments.score_gap.edits import FACTORS, Pair, ScoredReply, correct
from rlhf_hw.stats.intervals import (
    DRAWS,
    Estimate,
    as_vector,
    cluster_codes,
    percentile_interval,
    row_weights,
)

Cells = Mapping[frozenset[str], ArrayLike]
Compute = Callable[[Sequence[list[int]], Sequence[list[int]]], np.ndarray]
Stages = Sequence[Sequence[str]]
ORDER: Stages = (("readout", "template"), ("truncation",), ("length", "repetition"))
SMALLEST = 0.2  # standard deviations of the reference scores; a smaller part is not named
ERROR = 0.01  # probability that anything is named where nothing is to blame


def subsets(factors: Sequence[str]) -> list[frozenset[str]]:
    """All 2^k subsets, the empty one first."""
    return [frozenset(chosen) for size in range(len(factors) + 1) for chosen in combinations(factors, size)]


def cells_of(stages: Stages) -> list[frozenset[str]]:
    """The cells that orders of correction by `stages` pass through, the empty one first."""
    found: dict[frozenset[str], None] = {}
    before: frozenset[str] = frozenset()
    for stage in stages:
        found |= dict.fromkeys(before | cell for cell in subsets(stage))
        before |= frozenset(stage)
    return list(found)


def gap_cells(
    pairs: Sequence[Pair], score: Compute, ends: frozenset[int], stages: Stages = (FACTORS,)
) -> dict[frozenset[str], np.ndarray]:
    """Gap of every prompt in every cell; texts that are equal in several cells are scored once.

    Args:
        pairs: from `edits.make_pairs`.
        score: (prompt ids, reply ids), one each a text -> scores, read at the last id of the reply;
            `models.scoring.RewardModel.score_ids` is one.
        ends: ids that end a sentence, from `edits.sentence_end_ids`.
        stages: groups of factors, as in `decompose`; one group gives all 2^k cells.

    Returns:
        Corrected factors -> r(generated) - r(reference), shape (prompts,).
    """
    edited = {cell: [correct(pair, cell, ends) for pair in pairs] for cell in cells_of(stages)}
    sides = [side for cell in edited.values() for pair in cell for side in (pair.generated, pair.reference)]
    table = of_replies(score, sides).reshape(len(edited), len(pairs), 2)
    return dict(zip(edited, table[..., 0] - table[..., 1], strict=True))


def once(compute: Compute) -> Compute:
    """The same function, which computes equal texts once, also those of earlier calls.

    Args:
        compute: (prompt ids, reply ids), one each a text -> one value or vector each, as floats.
    """
    known: dict[tuple, np.ndarray] = {}

    def inner(prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> np.ndarray:
        keys = [(tuple(p), tuple(r)) for p, r in zip(prompts, replies, strict=True)]
        new = [key for key in dict.fromkeys(keys) if key not in known]
        if new:
            values = compute([list(p) for p, _ in new], [list(r) for _, r in new])
            known.update(zip(new, np.asarray(values, dtype=float), strict=True))
        return np.array([known[key] for key in keys])

    return inner


def of_replies(compute: Compute, replies: Sequence[ScoredReply]) -> np.ndarray:
    """What a function of prompts and replies says of scored replies, equal ones computed once."""
    return once(compute)([reply.prompt for reply in replies], [reply.reply_ids for reply in replies])


def shapley_values(cells: Cells, factors: Sequence[str], stages: Stages | None = None) -> np.ndarray:
    """What each factor contributes to the gap of each prompt.

    Args:
        cells: corrected factors -> gap of each prompt.
        factors: their names.
        stages: groups of factors that are corrected one after the other; None: all orders are allowed.

    Returns:
        Shape (k, prompts).

    Raises:
        KeyError: a cell is missing. ValueError: the stages are not the factors.
    """
    stages = (tuple(factors),) if stages is None else stages
    if sorted(name for stage in stages for name in stage) != sorted(factors):
        raise InputError(f"the stages {stages} must hold each of the factors {list(factors)} once")
    needed = cells_of(stages)
    missing = [sorted(cell) for cell in needed if cell not in cells]
    if missing:
        raise UnknownName(f"{len(missing)} of {len(needed)} cells are missing, for instance {missing[0]}")
    gaps = {cell: as_vector(cells[cell], f"cell {sorted(cell)}") for cell in needed}
    values, before = {}, frozenset()
    for stage in stages:
        values |= {factor: stage_value(gaps, factor, stage, before) for factor in stage}
        before |= frozenset(stage)
    return np.array([values[factor] for factor in factors])


def stage_value(
    gaps: Mapping[frozenset[str], np.ndarray], factor: str, stage: Sequence[str], before: frozenset[str]
) -> np.ndarray:
    """Shapley value of a factor within its stage, where everything `before` is corrected already."""
    size, total = len(stage), np.zeros(len(gaps[frozenset()]))
    for cell in subsets([name for name in stage if name != factor]):
        weight = factorial(len(cell)) * factorial(size - len(cell) - 1) / factorial(size)
        total = total + weight * (gaps[before | cell] - gaps[before | cell | {factor}])
    return total


def gold_price(margins: ArrayLike, gold_margins: ArrayLike) -> float:
    """Score the reward model pays for a unit of gold: least squares through zero over preference pairs."""
    margins = as_vector(margins, "margins")
    gold = as_vector(gold_margins, "gold_margins", margins.size)
    if not gold.any():
        raise InputError("all gold margins are zero: no price of gold can be read from these pairs")
    return float(gold @ margins / (gold @ gold))


def split_rest(
    weights: np.ndarray, rest: np.ndarray, quality: np.ndarray | None, ood: np.ndarray | None
) -> dict:
    """Quality, out-of-distribution and unexplained parts of the corrected gap, for many weightings.

    Args:
        weights: shape (draws, prompts).
        rest: gap after all corrections, shape (prompts,).
        quality: score that the gold gap is worth, shape (prompts,), or None.
        ood: generated minus reference of each sign of unfamiliarity, shape (prompts, signs), or None.

    Returns:
        name -> shape (draws,).
    """
    total, parts = weights.sum(axis=1), {}
    remainder = rest if quality is None else rest - quality
    if quality is not None:
        parts["quality"] = weights @ quality / total
    if ood is not None:
        design = np.column_stack([np.ones_like(rest), ood])
        gram = np.einsum("br,ri,rj->bij", weights, design, design, optimize=True)
        moment = (weights * remainder) @ design
        slopes = np.linalg.solve(gram + 1e-9 * np.eye(design.shape[1]), moment[..., None])[..., 0]
        parts["ood"] = (slopes[:, 1:] * (weights @ ood) / total[:, None]).sum(axis=1)
    parts["rest"] = weights @ remainder / total - parts.get("ood", 0.0)
    return parts


def decompose(
    cells: Cells,
    factors: Sequence[str] = FACTORS,
    prompts: Sequence | None = None,
    *,
    stages: Stages | None = None,
    gold_gap: ArrayLike | None = None,
    gold_price: float | None = None,
    ood: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """The gap and its parts, with intervals from one bootstrap over prompts.

    Args:
        cells: corrected factors -> gap of each prompt.
        prompts: identifies prompts that occur more than once.
        stages: groups of factors in the order of correction, such as `ORDER`; None: all orders.
        gold_gap: gold of the corrected generated reply minus gold of the corrected reference, shape
            (prompts,). gold_price: score paid for a unit of gold, from `gold_price`; needed with `gold_gap`.
            ood: signs of unfamiliarity, generated minus reference, shape (prompts,) or (prompts, signs).
            level: of the intervals.

    Returns:
        `gap`, each factor, `quality` (with gold), `ood` (with signs of unfamiliarity), `rest`. The parts sum
        to the gap. Without gold, better quality is part of `ood` and `rest`.
    """
    values, everything = shapley_values(cells, factors, stages), frozenset(factors)
    gap, rest = as_vector(cells[frozenset()], "gap"), as_vector(cells[everything], "corrected gap")
    quality = None
    if gold_gap is not None:
        if gold_price is None:
            raise InputError("gold_gap needs gold_price, the score paid for a unit of gold")
        quality = gold_price * as_vector(gold_gap, "gold_gap", gap.size)
    signs = None if ood is None else np.asarray(ood, dtype=float).reshape(gap.size, -1)

    def parts(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        found = {"gap": weights @ gap / total}
        found |= {factor: weights @ value / total for factor, value in zip(factors, values, strict=True)}
        return found | split_rest(weights, rest, quality, signs)

    point = parts(np.ones((1, gap.size)))
    codes = cluster_codes(prompts, gap.size)
    resampled = [parts(weights) for weights in row_weights(codes, draws, seed)]
    return {
        name: percentile_interval(point[name][0], np.concatenate([part[name] for part in resampled]), level)
        for name in point
    }


def named_factors(
    cells: Cells,
    scale: float,
    factors: Sequence[str] = FACTORS,
    prompts: Sequence | None = None,
    *,
    stages: Stages | None = None,
    smallest: float = SMALLEST,
) -> list[str]:
    """Factors that the decomposition blames, largest first: large enough, and not by chance.

    Chance is judged by a t-test over prompts for each factor, with Holm's (1979) correction for the number of
    factors that act at all (one that changes no score has no part that chance could make): in a world without
    a fault anything is blamed with a probability of at most `ERROR`. Percentile intervals of a bootstrap over
    a dozen prompts would not do: they are too short, by the factor between the normal and the t distribution
    and more, and blame something in one clean world of twenty-five.

    Args:
        cells, factors, prompts, stages: as in `decompose`.
        scale: what counts as large: the standard deviation of the reference scores.
        smallest: least absolute part, in units of `scale`.
    """
    values = shapley_values(cells, factors, stages)
    codes = cluster_codes(prompts, values.shape[1])
    means = np.stack([np.bincount(codes, weights=value) for value in values]) / np.bincount(codes)
    acting = np.flatnonzero(np.abs(means).max(axis=1))
    p_values = np.array([chance_of_mean(means[place]) for place in acting])
    by_chance = np.argsort(p_values, kind="stable")
    passed = np.minimum.accumulate(p_values[by_chance] <= ERROR / np.arange(len(acting), 0, -1))
    parts = {factors[place]: values[place].mean() for place in acting[by_chance[passed]]}
    return sorted((f for f in parts if abs(parts[f]) >= smallest * scale), key=lambda f: -abs(parts[f]))


def chance_of_mean(values: np.ndarray) -> float:
    """p-value of a two-sided t-test for a mean of zero; equal values other than 0 leave nothing to chance."""
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def part_metrics(parts: Mapping[str, Estimate]) -> dict[str, float]:
    """Flat dict of the parts, each with _low and _high; the caller adds the prefix of the keys."""
    return {key: number for name, part in parts.items() for key, number in part.named(name).items()}
