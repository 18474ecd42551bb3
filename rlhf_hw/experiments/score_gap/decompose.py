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
quality = a * gold gap, where a, the score paid for a unit of gold, comes from ordinary preference pairs; what
is left is regressed on signs of unfamiliar text (spread of an ensemble, distance of the last hidden state
from training), whose share is `ood`, and `rest` is unexplained.

Every part is given prompt by prompt, so that parts add up in each prompt, and means over prompts, over
replicates, and their intervals come from one function (`stats.replicates.replicated_mean`). Gap, switches and
quality are plain numbers of a prompt. `ood` is slope times mean sign, where prompts decide on both; the value
of a prompt is its term of the linear expansion of that product (influence function), whose mean is the
product and whose spread gives White's (1980) standard error with the weights of the jackknife (HC3: MacKinnon
and White 1985).

    cells = gap_cells(pairs, reward_model.score_ids, ends)
    parts = prompt_parts(cells, FACTORS, stages=ORDER, gold_gap=..., gold_price=..., ood=...)
    named_parts(parts, scale)
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.experiments.score_gap.edits import FACTORS, Pair, ScoredReply, correct
from rlhf_hw.stats.intervals import as_vector, cluster_codes

Cells = Mapping[frozenset[str], ArrayLike]
Compute = Callable[[Sequence[list[int]], Sequence[list[int]]], np.ndarray]
Stages = Sequence[Sequence[str]]
REMAINDER = ("quality", "ood", "rest")  # what no correction removes, split by regression
PARTS = (*FACTORS, *REMAINDER)
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


def prompt_parts(
    cells: Cells,
    factors: Sequence[str] = FACTORS,
    *,
    stages: Stages | None = None,
    gold_gap: ArrayLike | None = None,
    gold_price: float | None = None,
    ood: ArrayLike | None = None,
) -> dict[str, np.ndarray]:
    """The gap of every prompt and its parts.

    Args:
        cells: corrected factors -> gap of each prompt.
        factors: their names.
        stages: groups of factors in the order of correction, such as `ORDER`; None: all orders.
        gold_gap: gold of the corrected generated reply minus gold of the corrected reference, shape
            (prompts,). gold_price: score paid for a unit of gold, from `gold_price`; needed with `gold_gap`.
            ood: signs of unfamiliarity, generated minus reference, shape (prompts,) or (prompts, signs).

    Returns:
        `gap`, each factor, `quality` (with gold), `ood` (with signs of unfamiliarity), `rest`, each of shape
        (prompts,). The parts sum to the gap in every prompt. Without gold, better quality is part of `ood`
        and `rest`.
    """
    gap = as_vector(cells[frozenset()], "gap")
    found = {"gap": gap} | dict(zip(factors, shapley_values(cells, factors, stages), strict=True))
    remainder = as_vector(cells[frozenset(factors)], "corrected gap", gap.size)
    if gold_gap is not None:
        if gold_price is None:
            raise InputError("gold_gap needs gold_price, the score paid for a unit of gold")
        found["quality"] = gold_price * as_vector(gold_gap, "gold_gap", gap.size)
        remainder = remainder - found["quality"]
    if ood is not None:
        found["ood"] = part_of_signs(remainder, np.asarray(ood, dtype=float).reshape(gap.size, -1))
        remainder = remainder - found["ood"]
    return found | {"rest": remainder}


def part_of_signs(remainder: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The part of a remainder that goes with signs, as terms of its linear expansion, one a prompt.

    Args:
        remainder: shape (prompts,).
        signs: shape (prompts, signs).

    Returns:
        Shape (prompts,). The mean is slopes @ mean signs, the slopes from a regression with a constant.
    """
    middle = signs.mean(axis=0)
    centred = signs - middle
    inverse = np.linalg.inv(centred.T @ centred + 1e-9 * np.eye(signs.shape[1]))
    slopes = inverse @ centred.T @ remainder
    residual = remainder - remainder.mean() - centred @ slopes
    leverage = 1 / len(signs) + np.einsum("ri,ij,rj->r", centred, inverse, centred)
    unsure = len(signs) * (centred @ inverse @ middle) * residual / np.maximum(1 - leverage, 1e-9)
    return signs @ slopes + unsure - unsure.mean()


def named_parts(
    parts: Mapping[str, np.ndarray],
    scale: float,
    prompts: Sequence | None = None,
    *,
    smallest: float = SMALLEST,
) -> list[str]:
    """Parts that the decomposition blames, largest first: large enough, and not by chance.

    Chance is judged by a t-test over prompts for each part, with Holm's (1979) correction for the number of
    parts that act at all (one that changes no score has no part that chance could make): in a world without
    a fault anything is blamed with a probability of at most `ERROR`. Percentile intervals of a bootstrap over
    a dozen prompts would not do: they are too short, by the factor between the normal and the t distribution
    and more, and blame something in one clean world of twenty-five.

    Args:
        parts: from `prompt_parts`; its `gap` is no part.
        scale: what counts as large: the standard deviation of the reference scores.
        prompts: identifies prompts that occur more than once.
        smallest: least absolute part, in units of `scale`.
    """
    values = {name: part for name, part in parts.items() if name != "gap"}
    codes = cluster_codes(prompts, len(parts["gap"]))
    means = {n: np.bincount(codes, weights=v) / np.bincount(codes) for n, v in values.items()}
    acting = [name for name, mean in means.items() if np.abs(mean).max() > 1e-9 * scale]
    p_values = np.array([chance_of_mean(means[name]) for name in acting])
    by_chance = np.argsort(p_values, kind="stable")
    passed = np.minimum.accumulate(p_values[by_chance] <= ERROR / np.arange(len(acting), 0, -1))
    blamed = {acting[place]: values[acting[place]].mean() for place in by_chance[passed]}
    return sorted((f for f in blamed if abs(blamed[f]) >= smallest * scale), key=lambda f: -abs(blamed[f]))


def chance_of_mean(values: np.ndarray) -> float:
    """p-value of a two-sided t-test for a mean of zero; equal values other than 0 leave nothing to chance."""
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)
