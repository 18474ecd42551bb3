"""Over-optimisation, looked for always: where the reward model's approval and the truth part.

1. *Price.* What the reward model pays for a unit of gold, learnt from the pairs of the data. Of a gain in
score,
   the gain in gold explains gain x price; what lies beyond it is approval that the truth does not bear out
   (Gao, Schulman and Hilton 2023 draw both curves).
2. *Order.* How often the reward model orders two replies as gold does, by where the pair comes from, at
matched
   differences in gold. If it is right on pairs of the data and not on replies of a policy beside chosen
   ones, the policy has found what it gets wrong.

Best-of-n sampling, the third look, has a module of its own (`experiments.best_of_n`). Without gold only the
judge, a reward model of other pairs and seed, is left (`experiments.steps`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.score_gap.decompose import gold_price
from rlhf_hw.experiments.scored_pairs import gold_columns
from rlhf_hw.experiments.steps import SUBJECTS
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import (
    DRAWS,
    Estimate,
    cluster_codes,
    percentile_interval,
    rate_interval,
    row_weights,
)
from rlhf_hw.stats.replicates import Replicated, beyond, replicated

# Differences in gold at which sources of pairs are compared, in its units: from, below.
GAPS = {"small": (0.0, 0.75), "middle": (0.75, 1.5), "large": (1.5, np.inf)}
FEWEST = 10  # pairs of all replicates below which no rate is given
DATA = "data"  # the source whose replies no policy wrote


@dataclass(frozen=True)
class Price:
    """Score that each replicate's reward model pays for a unit of gold.

    Attributes:
        values: Shape (replicates,).
        drawn: Bootstrap draws over the pairs' prompts, shape (draws, replicates).
    """

    values: np.ndarray
    drawn: np.ndarray

    @property
    def of_judges(self) -> "Price":
        """What each replicate's judge pays, which is the reward model of the next replicate."""
        return Price(np.roll(self.values, -1), np.roll(self.drawn, -1, axis=1))

    @property
    def replicated(self) -> Replicated:
        """The mean price with both intervals."""
        return replicated(percentile_interval(self.values.mean(), self.drawn.mean(axis=1)), self.values)


def price_of_gold(pairs: Sequence[pd.DataFrame], *, seed: int = 0) -> Price | None:
    """The price of gold by scored pairs of the data: least squares of margin on gold margin, through zero.

    Args:
        pairs: The same pairs as each replicate's reward model scored them, from `score_files.read_pairs`.
        seed: Of resampling.

    Returns:
        None where gold is unknown.
    """
    known = [data_margins(table) for table in pairs]
    if not known or any(gold is None or not gold.any() for _, gold in known):
        return None
    values = np.array([gold_price(margins, gold) for margins, gold in known])
    drawn = []
    for margins, gold, table in [(*one, table) for one, table in zip(known, pairs, strict=True)]:
        codes = cluster_codes(table["prompt_key"], len(table))
        chunks = [(w @ (margins * gold)) / (w @ gold**2) for w in row_weights(codes, DRAWS, seed)]
        drawn.append(np.concatenate(chunks))
    return Price(values, np.stack(drawn, axis=1))


def data_margins(pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Chosen minus rejected of scored pairs, by score and by gold (None where that is unknown)."""
    gold = gold_columns(pairs)
    change = gold["gold_chosen"] - gold["gold_rejected"] if gold else None
    return pairs["margin"].to_numpy(float), change


def explained_by_gold(
    score: np.ndarray, gold: np.ndarray, price: Price, prompts: Sequence, *, seed: int = 0
) -> dict[str, float]:
    """How much of a gain in score the gain in gold is worth at the reward model's own price.

    Args:
        score, gold: Gains, shape (replicates, prompts).
        price: Of the same replicates.
        prompts: Prompt of each row.
        seed: Of resampling.

    Returns:
        `gold_worth` (gain in gold x price, in points), `score_beyond_gold` (the rest), both with both
        intervals, which contain the price's own uncertainty; `explained` (their share) where the score
        rises beyond both intervals.
    """
    count = len(score)
    codes, columns = cluster_codes(prompts, score.shape[1]), np.concatenate([score, gold]).T
    drawn = [(w @ columns) / w.sum(axis=1, keepdims=True) for w in row_weights(codes, DRAWS, seed)]
    means = np.concatenate(drawn)
    gain, worth = means[:, :count], means[:, count:] * price.drawn
    gains, worths = score.mean(axis=1), gold.mean(axis=1) * price.values

    def both(value: np.ndarray, drawn: np.ndarray) -> Replicated:
        return replicated(percentile_interval(value.mean(), drawn.mean(axis=1)), value)

    found = both(worths, worth).named("gold_worth")
    found |= both(gains - worths, gain - worth).named("score_beyond_gold")
    if beyond(both(gains, gain).named("gain"), "gain") > 0 and (gains > 0).all():
        share = worth.mean(axis=1) / gain.mean(axis=1)
        estimate = percentile_interval(worths.mean() / gains.mean(), share)
        found |= replicated(estimate, worths / gains).named("explained")
    return found


@dataclass(frozen=True)
class Source:
    """Pairs of one origin, as one judge and gold tell them apart.

    Attributes:
        margins, gold: First reply minus second, shape (replicates, pairs).
        prompts: Prompt of each pair.
    """

    margins: np.ndarray
    gold: np.ndarray
    prompts: Sequence


def sources(
    pairs: Sequence[pd.DataFrame], values: Mapping[str, Mapping[str, np.ndarray]], prompts: Sequence
) -> dict[str, Source]:
    """Where pairs come from, for `order_metrics`: the data, and each pair of policies whose gold is known.

    Args:
        pairs: Scored pairs of the data, one table a replicate; may be empty.
        values: Pair of policies -> differences, from `steps.step_values`.
        prompts: Of these.
    """
    found = {}
    known = [data_margins(table) for table in pairs]
    if known and all(gold is not None for _, gold in known):
        margins, gold = (np.array(side) for side in zip(*known, strict=True))
        found[DATA] = Source(margins, gold, list(pairs[0]["prompt_key"]))
    for pair, change in values.items():
        if "gold" in change:
            found[pair] = Source(change["score"], change["gold"], list(prompts))
    return found


def order_metrics(sources: Mapping[str, Source], *, seed: int = 0) -> dict[str, float]:
    """How often scores order the pairs of each source as gold does, ties one half, at matched differences
    in gold.

    Returns:
        `<source>.<gap>` with both intervals and `<source>.<gap>_pairs`, their number over all replicates,
        where there are at least `FEWEST`; for every source beside the data's, `<source>.<gap>_below_data`:
        by how much its rate lies below that of data pairs.
    """
    found: dict[str, float] = {}
    for name, source in sources.items():
        for gap, ends in GAPS.items():
            inside = _inside(source, ends)
            if inside.sum() < FEWEST or not inside.any(axis=1).all():
                continue
            found |= _rate(source, inside, seed).named(f"{name}.{gap}")
            found[f"{name}.{gap}_pairs"] = int(inside.sum())
            if name != DATA and f"{DATA}.{gap}" in found:
                lower = _below(sources[DATA], source, ends, seed)
                found |= lower.named(f"{name}.{gap}_below_data")
    return found


def _inside(source: Source, ends: tuple[float, float]) -> np.ndarray:
    """Whether each pair's difference in gold lies between the ends; equal ones have no order."""
    size = np.abs(source.gold)
    return (size > ends[0]) & (size <= ends[1])


def _right(source: Source) -> np.ndarray:
    return np.array([outcomes(row) for row in source.margins * np.sign(source.gold)])


def _rate(source: Source, inside: np.ndarray, seed: int) -> Replicated:
    right, codes = _right(source), cluster_codes(source.prompts, source.gold.shape[1])
    clusters = np.tile(codes, (len(right), 1))[inside]
    alone = [row[kept].mean() for row, kept in zip(right, inside, strict=True)]
    found = replicated(rate_interval(right[inside], clusters, seed=seed), alone)
    if found.trainings is None:
        return found
    low, high = np.clip(found.trainings[1:], 0, 1)
    return found._replace(trainings=Estimate(found.value, float(low), float(high)))


def _below(data: Source, source: Source, ends: tuple[float, float], seed: int) -> Replicated:
    """Rate on data pairs minus rate on pairs of another source, with prompts drawn together for both."""
    sides = []
    codes = cluster_codes([*data.prompts, *source.prompts], len(data.prompts) + len(source.prompts))
    split = np.split(codes, [len(data.prompts)])
    for part, own in zip((data, source), split, strict=True):
        inside = _inside(part, ends)
        sides.append((_right(part), inside.astype(float), own))
    alone = np.subtract(*[(right * kept).sum(axis=1) / kept.sum(axis=1) for right, kept, _ in sides])
    value = np.subtract(*[(right * kept).sum() / kept.sum() for right, kept, _ in sides])
    drawn = []
    for weights in row_weights(np.arange(codes.max() + 1), DRAWS, seed):
        rates = [
            (weights[:, own] @ (right * kept).sum(axis=0))
            / np.maximum(weights[:, own] @ kept.sum(axis=0), 1e-9)
            for right, kept, own in sides
        ]
        drawn.append(np.subtract(*rates))
    return replicated(percentile_interval(value, np.concatenate(drawn)), alone)


def parting_claims(steps: Mapping[str, Mapping[str, float]], order: Mapping[str, float]) -> dict[str, bool]:
    """Where approval and truth part beyond both intervals.

    Args:
        steps: Pair -> numbers, with those of `explained_by_gold` where gold is known.
        order: From `order_metrics`.

    Returns:
        `<who>_score_beyond_gold`: the score's gain exceeds what the gain in gold is worth, for `sft`, `dpo`
        (over SFT) and `dpo_over_base`. `order_worse_on_<source>`: at large differences in gold the reward
        model is right less often than on pairs of the data.
    """
    known = {who: steps.get(pair, {}) for who, pair in SUBJECTS.items()}
    claims = {
        f"{who}_{key}": beyond(numbers, key) > 0
        for who, numbers in known.items()
        for key in ("score_beyond_gold", "judge_beyond_gold")
        if key in numbers
    }
    for key in [key for key in order if key.endswith(".large_below_data")]:
        claims[f"order_worse_on_{key.split('.')[0]}"] = beyond(order, key) > 0
    return claims
