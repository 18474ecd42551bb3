"""What the scores of preference pairs say about a reward model: pure functions from arrays to flat dicts.

A pair has the scores r(chosen) and r(rejected); its margin is m = r(chosen) - r(rejected). The reward model
is right when m > 0, and a tie (m = 0) counts one half, so that a model that gives every reply the same score
has accuracy 1/2. Only margins are identified by the Bradley-Terry likelihood (Bradley and Terry 1952): any
function of the prompt may be added to r. Figures that pool prompts (AUC, effect size, overlap, correlation
with length over all replies) depend on that arbitrary level and are named here with that warning; those built
on margins do not.

    metrics = preference_metrics(chosen, rejected, prompts=prompts, chosen_lengths=..., rejected_lengths=...)
    metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import roc_auc_score

from rlhf_hw.errors import InputError
from rlhf_hw.stats.calibration import accuracy_by_bin, calibration_metrics, outcomes
from rlhf_hw.stats.distributions import antisymmetric_correlation, correlation, within_prompt_correlations
from rlhf_hw.stats.intervals import (
    DRAWS,
    Estimate,
    as_vector,
    bootstrap_means,
    bootstrap_weights,
    cluster_codes,
    mean_interval,
    percentile_interval,
    rate_interval,
)
from rlhf_hw.stats.length import length_metrics


def accuracy(margins: ArrayLike, prompts: Sequence | None = None, *, seed: int = 0) -> dict[str, float]:
    """Share of pairs in the right order, ties one half, with a 95% interval.

    Args:
        margins: r(chosen) - r(rejected), shape (pairs,).
        prompts: prompt of each pair. Pairs of one prompt are resampled together (cluster bootstrap); where
            every prompt has one pair, or none are given, the interval is Wilson's.

    Returns:
        accuracy, accuracy_low, accuracy_high, pairs, ties.
    """
    right = outcomes(margins)
    rate = rate_interval(right, prompts, seed=seed)
    return {**rate.named("accuracy"), "pairs": right.size, "ties": int((right == 0.5).sum())}


def auc(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Area under the ROC: chance that a random chosen reply outscores a random rejected one.

    Below the accuracy when the level of the scores depends on the prompt.
    """
    chosen, rejected = as_vector(chosen, "chosen"), as_vector(rejected, "rejected")
    labels = np.concatenate([np.ones(chosen.size), np.zeros(rejected.size)])
    return float(roc_auc_score(labels, np.concatenate([chosen, rejected])))


def group_metrics(margins, groups: Sequence, prompts=None, *, seed: int = 0) -> pd.DataFrame:
    """Accuracy of each group (topic, source, annotator group), sorted by the group's name.

    Returns:
        Index: group. Columns: `pairs`, `accuracy`, `accuracy_low`, `accuracy_high`, `margin_mean`.
    """
    margins = as_vector(margins, "margins")
    if len(groups) != margins.size:
        raise InputError(f"{len(groups)} groups for {margins.size} pairs: give one group for each pair")
    codes, names = pd.factorize(np.asarray(groups), sort=True)
    table = accuracy_by_bin(margins, codes, prompts, seed=seed)
    table["margin_mean"] = [float(margins[codes == code].mean()) for code in table.index]
    table.insert(0, "pairs", table.pop("pairs"))
    return table.set_axis(names)


def gold_metrics(
    chosen, rejected, gold_chosen, gold_rejected, prompts=None, *, seed: int = 0
) -> dict[str, float]:
    """Agreement with the true reward, where it is known.

    Returns:
        gold_spearman (over all replies), gold_spearman_margin (margin against gold margin, free of the level
        of each prompt), gold_accuracy (+_low, _high): share of pairs of unequal gold that the scores order as
        gold does.
    """
    scores = np.concatenate([as_vector(chosen, "chosen"), as_vector(rejected, "rejected", len(chosen))])
    gold = (
        as_vector(gold_chosen, "gold_chosen", len(chosen)),
        as_vector(gold_rejected, "gold_rejected", len(chosen)),
    )
    margins, gold_margins = scores[: len(chosen)] - scores[len(chosen) :], gold[0] - gold[1]
    return {
        "gold_spearman": correlation(scores, np.concatenate(gold)),
        "gold_spearman_margin": antisymmetric_correlation(margins, gold_margins),
        **gold_agreement(margins, gold_margins, prompts, name="gold_accuracy", seed=seed),
    }


def gold_agreement(
    margins: ArrayLike, gold_margins: ArrayLike, prompts=None, *, name: str = "gold_agreement", seed: int = 0
) -> dict[str, float]:
    """How often the scores of two replies to a prompt order them as gold does, ties one half.

    Args:
        margins, gold_margins: first reply minus second, by score and by gold, shape (pairs,).
        prompts: prompt of each pair.
        name: of the key.

    Returns:
        <name> (+_low, _high) over the pairs whose replies differ in gold; empty if there are none.
    """
    margins, gold_margins = np.asarray(margins), np.asarray(gold_margins)
    unequal = gold_margins != 0
    if not unequal.any():
        return {}
    agreed = outcomes(margins[unequal] * np.sign(gold_margins[unequal]))
    codes = cluster_codes(prompts, margins.size)[unequal]
    return rate_interval(agreed, codes, seed=seed).named(name)


def gold_within_prompts(
    scores, gold, prompts: Sequence, *, name: str = "gold_spearman_within", seed: int = 0
) -> dict[str, float]:
    """Do the scores order several replies to one prompt as gold does?

    Spearman's correlation over the replies to each prompt, averaged over prompts. Unlike the correlation over
    all replies it owes nothing to prompts that are answered well or badly as a whole, and so measures what
    best-of-n sampling and reinforcement learning use: the order of replies to the same prompt.

    Args:
        scores, gold: shape (replies,), several replies to each prompt.
        prompts: prompt of each reply.
        name: first part of the keys.

    Returns:
        <name> (+_low, _high; bootstrap over prompts), <name>_prompts (those whose replies differ in score and
        in gold). Empty if there is no such prompt.
    """
    found = within_prompt_correlations(scores, gold, prompts)
    if found.empty:
        return {}
    estimate = mean_interval(found.to_numpy(), seed=seed)
    return {**estimate.named(name), f"{name}_prompts": len(found)}


def random_heads_accuracy(margins: ArrayLike, prompts: Sequence | None = None, *, seed: int = 0) -> dict:
    """Accuracy of an untrained reward model: the average over many random heads.

    One random head ranks replies by one random direction of the hidden state, which may well go with length
    or style; its accuracy is a draw, and an interval over prompts says nothing about the next draw. Turning a
    head's sign turns every decision around, so over all heads the accuracy is 1/2. Here heads and prompts are
    resampled, each on its own (Owen 2007, "The pigeonhole bootstrap").

    Args:
        margins: shape (pairs, heads), r(chosen) - r(rejected) under each head.
        prompts: prompt of each pair.

    Returns:
        accuracy (+_low, _high), heads, head_sd, head_low and head_high (the middle 95 % of single heads).
    """
    right = np.stack([outcomes(column) for column in np.asarray(margins, dtype=float).T], axis=1)
    codes, heads = cluster_codes(prompts, len(right)), right.shape[1]
    sizes = np.bincount(codes)
    sums = np.stack([np.bincount(codes, weights=column) for column in right.T], axis=1)
    by_prompts = bootstrap_weights(len(sizes), DRAWS, seed)
    by_heads = np.random.default_rng([seed, heads]).multinomial(heads, np.full(heads, 1 / heads), DRAWS)
    rates = np.concatenate([weights @ sums / (weights @ sizes)[:, None] for weights in by_prompts])
    single = right.mean(axis=0)
    low, high = np.quantile(single, [0.025, 0.975])
    return {
        **percentile_interval(right.mean(), (rates * by_heads).sum(axis=1) / heads).named("accuracy"),
        "heads": heads,
        "head_sd": float(single.std(ddof=1)),
        "head_low": float(low),
        "head_high": float(high),
    }


def share_of_best(observed: float, best: float) -> float:
    """Share of the reachable accuracy above chance: (observed - 1/2) / (best - 1/2).

    `best` is the accuracy of the true reward under the same noisy labels; nothing can do better on average.
    """
    if best <= 0.5:
        raise InputError(f"a best possible accuracy of {best} leaves nothing above chance to reach")
    return (observed - 0.5) / (best - 0.5)


def compare_reward_models(first, second, prompts=None, *, seed: int = 0) -> dict[str, float]:
    """McNemar's exact test between two reward models on the same pairs, and their accuracy difference.

    Only pairs that one model orders rightly and the other does not carry information (McNemar 1947); without
    a real difference they split evenly, so the p-value is that of a fair coin (scipy's exact binomial test).
    A tie counts as not right here, because the test needs yes or no; in the difference it counts one half.

    Args:
        first, second: margins of the two models, shape (pairs,).

    Returns:
        accuracy_difference (+_low, _high; first - second), only_first, only_second, p_value.
    """
    first = as_vector(first, "first")
    second = as_vector(second, "second", first.size)
    only_first, only_second = (
        int(((first > 0) & (second <= 0)).sum()),
        int(((first <= 0) & (second > 0)).sum()),
    )
    discordant = only_first + only_second
    difference = mean_interval(outcomes(first) - outcomes(second), prompts, seed=seed)
    return {
        **difference.named("accuracy_difference"),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    }


def accuracy_gap(first, second, first_prompts=None, second_prompts=None, *, seed: int = 0) -> Estimate:
    """Accuracy on one set of pairs minus that on another (training - validation: over-fitting).

    The sets share no prompts, so they are resampled independently.
    """
    draws = [
        bootstrap_means(outcomes(margins)[:, None], prompts, DRAWS, seed + shift)[:, 0]
        for shift, (margins, prompts) in enumerate([(first, first_prompts), (second, second_prompts)])
    ]
    return percentile_interval(outcomes(first).mean() - outcomes(second).mean(), draws[0] - draws[1])


def confident_mistakes(margins: ArrayLike, count: int = 5) -> np.ndarray:
    """Row numbers of the pairs ordered wrongly by the largest margins, worst first: worth reading."""
    margins = as_vector(margins, "margins")
    order = np.argsort(margins, kind="stable")
    return order[: min(count, int((margins < 0).sum()))]


def preference_metrics(
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    prompts: Sequence | None = None,
    chosen_lengths: ArrayLike | None = None,
    rejected_lengths: ArrayLike | None = None,
    gold_chosen: ArrayLike | None = None,
    gold_rejected: ArrayLike | None = None,
    best_accuracy: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Everything notebook 02 reports about scored pairs; the caller adds the prefix of the keys.

    Args:
        chosen, rejected: scores, shape (pairs,).
        prompts: prompt of each pair.
        chosen_lengths, rejected_lengths: both or neither; adds the keys of `length_metrics`.
        gold_chosen, gold_rejected: both or neither; adds the keys of `gold_metrics`.
        best_accuracy: accuracy of the true reward on these labels; adds `share_of_best`.
    """
    chosen = as_vector(chosen, "chosen")
    margins = chosen - as_vector(rejected, "rejected", chosen.size)
    found = accuracy(margins, prompts, seed=seed) | calibration_metrics(margins, prompts, seed=seed)
    found |= {
        "auc": auc(chosen, rejected),
        "margin_mean": float(margins.mean()),
        "margin_sd": float(margins.std(ddof=1)),
    }
    if chosen_lengths is not None:
        found |= length_metrics(chosen, rejected, chosen_lengths, rejected_lengths, prompts, seed=seed)
    if gold_chosen is not None:
        found |= gold_metrics(chosen, rejected, gold_chosen, gold_rejected, prompts, seed=seed)
    if best_accuracy is not None:
        found["share_of_best"] = share_of_best(found["accuracy"], best_accuracy)
    return found
