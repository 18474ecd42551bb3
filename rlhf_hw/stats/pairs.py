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
from sklearn.metrics import roc_auc_score

from rlhf_hw.errors import InputError
from rlhf_hw.stats.calibration import accuracy_by_bin, calibration_metrics, outcomes
from rlhf_hw.stats.ceiling import share_of_best
from rlhf_hw.stats.distributions import antisymmetric_correlation, correlation
from rlhf_hw.stats.intervals import (
    Estimate,
    as_vector,
    cluster_codes,
    cluster_error,
    quantile,
    rate_difference_interval,
    rate_interval,
)
from rlhf_hw.stats.length import length_metrics


def accuracy(margins: ArrayLike, prompts: Sequence | None = None, *, seed: int = 0) -> dict[str, float]:
    """Share of pairs in the right order, ties one half, with a 95% interval.

    Args:
        margins: r(chosen) - r(rejected), shape (pairs,).
        prompts: prompt of each pair, for the interval (`rate_interval`); None where pairs are independent.

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


def random_heads_accuracy(margins: ArrayLike, prompts: Sequence | None = None, *, seed: int = 0) -> dict:
    """Accuracy of an untrained reward model: the average over many random heads.

    One random head ranks replies by one random direction of the hidden state, which may well go with length
    or style; its accuracy is a draw, and an interval over prompts says nothing about the next draw. Turning a
    head's sign turns every decision around, so over all heads the accuracy is 1/2. The variance here is that
    over prompts plus that over heads (the two ways of Cameron, Gelbach and Miller 2011; what both share
    counts twice, on the side of width), and t has the degrees of freedom of the smaller of the two.

    Args:
        margins: shape (pairs, heads), r(chosen) - r(rejected) under each head.
        prompts: prompt of each pair.

    Returns:
        accuracy (+_low, _high), heads, head_sd, head_low and head_high (the middle 95 % of single heads).
    """
    right = np.stack([outcomes(column) for column in np.asarray(margins, dtype=float).T], axis=1)
    codes, single = cluster_codes(prompts, len(right)), right.mean(axis=0)
    by_prompts, freedom = cluster_error(right.mean(axis=1), codes)
    error = np.hypot(by_prompts, single.std(ddof=1) / np.sqrt(single.size))
    half = quantile(min(freedom, single.size - 1)) * error
    low, high = np.quantile(single, [0.025, 0.975])
    value = float(right.mean())
    return {
        **Estimate(value, max(0.0, float(value - half)), min(1.0, float(value + half))).named("accuracy"),
        "heads": single.size,
        "head_sd": float(single.std(ddof=1)),
        "head_low": float(low),
        "head_high": float(high),
    }


def compare_reward_models(first, second, prompts=None, *, seed: int = 0) -> dict[str, float]:
    """McNemar's test between two reward models on the same pairs, and their accuracy difference.

    Only pairs that one model orders rightly and the other does not carry information (McNemar 1947). If
    the models are equally good, either may stand for the other on every prompt, with all its pairs: the
    p-value is the exact share of all such exchanges that give a difference as large (`sign_flip_p_value`).
    Where every prompt has one pair, that is McNemar's exact test, a fair coin for each discordant pair. A tie
    counts as not right here, because the test needs yes or no; in the difference it counts one half.

    Args:
        first, second: margins of the two models, shape (pairs,).
        prompts: prompt of each pair; None means that pairs are independent.
        seed: without effect, since nothing is drawn.

    Returns:
        accuracy_difference (+_low, _high; first - second), only_first, only_second, p_value.
    """
    first = as_vector(first, "first")
    second = as_vector(second, "second", first.size)
    ahead = (first > 0).astype(int) - (second > 0).astype(int)
    difference = rate_difference_interval(outcomes(first) - outcomes(second), prompts)
    by_prompt = np.bincount(cluster_codes(prompts, first.size), weights=ahead)
    return {
        **difference.named("accuracy_difference"),
        "only_first": int((ahead > 0).sum()),
        "only_second": int((ahead < 0).sum()),
        "p_value": sign_flip_p_value(by_prompt.astype(int)),
    }


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Chance that the sum of whole numbers with random signs is as far from 0 as the sum they have.

    Exact: the distribution is built up number by number, in O(numbers * their sum). It is the two-sided
    permutation test of paired clusters (Fisher 1935; for clustered binary pairs see Durkalski et al. 2003).

    Args:
        differences: whole numbers, shape (clusters,).
    """
    sizes = np.abs(differences[differences != 0])
    total = int(sizes.sum())
    chance = np.zeros(2 * total + 1)  # of the sums -total ... total
    chance[total] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2
    far = np.abs(np.arange(-total, total + 1)) >= abs(int(differences.sum()))
    return float(min(1.0, chance[far].sum()))


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
    best_right: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Everything notebook 02 reports about scored pairs; the caller adds the prefix of the keys.

    Args:
        chosen, rejected: scores, shape (pairs,).
        prompts: prompt of each pair.
        chosen_lengths, rejected_lengths: both or neither; adds the keys of `length_metrics`.
        gold_chosen, gold_rejected: both or neither; adds the keys of `gold_metrics`.
        best_right: outcomes of the best possible judge on the same labels; adds the keys of `share_of_best`.
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
    if best_right is not None:
        found |= share_of_best(outcomes(margins), best_right, prompts)
    return found
