"""How good a reward model is on preference pairs: accuracy, baselines, over-fitting, calibration, length.

Everything the analysis uses passes through score files, so that recorded scores take the same way as fresh
ones and the figures can be drawn again without a model: first `score_replicates.score_jobs`, then `evaluate`.

Several trainings of the reward model, its replicates, score the same held-out pairs. Numbers are means over
them; headline numbers carry an interval over prompts and one over trainings, and a claim holds only where it
does beyond both. With a single file, or a single training, the interval over prompts stands alone.

    found = evaluate([pairs, pairs_1, pairs_2], [train, train_1, train_2])
    found.metrics["rm.validation.accuracy"], found.claims["rm_beats_length"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rlhf_hw.experiments.data_parts import PartsJudged, judge_parts, metas_of, parts_of, rows_shown
from rlhf_hw.experiments.result import Result, averaged, prefixed
from rlhf_hw.experiments.scored_pairs import (
    accuracy_by_tokens,
    best_judge,
    best_on_average,
    by_group,
    gold_columns,
    right_orders,
    score_columns,
    telling_pairs,
)
from rlhf_hw.experiments.scorers import Scorers, compare_scorers, shorter_wins
from rlhf_hw.experiments.within_prompts import order_within_prompts
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.calibration import reliability_curve, scale_margins
from rlhf_hw.stats.ceiling import share_of_best
from rlhf_hw.stats.intervals import rate_interval
from rlhf_hw.stats.pairs import preference_metrics
from rlhf_hw.stats.replicates import (
    Replicated,
    beyond,
    independent_difference,
    replicated,
    replicated_rate,
)


@dataclass(frozen=True, kw_only=True)
class PairEvaluation(Result):
    """What scored pairs say about a reward model.

    Attributes:
        validation: Numbers of the held-out pairs, averaged over replicates: the keys of `preference_metrics`,
            and what the best possible judge reaches where that is known.
        best: The accuracy of that judge on these labels, or None.
        scorers: The reward model beside the baselines and a second model.
        fitted: Accuracy on pairs it was trained on, with its intervals; overfitting: that minus the accuracy
            on held-out pairs. Without such pairs empty and None.
        reliability: Calibration curves of the first replicate, for `figures.scores.calibration_curve`.
        margins: Of the held-out pairs, first replicate.
        by_length: Its accuracy by how much longer the chosen reply is; None where lengths are unknown.
        groups: Its accuracy by group, the lowest first; None where a pair has no group.
        parts: Who is right on each part of mixed data; None where no parts are asked for.
        outside: Numbers out of distribution; within: order of several replies to one prompt. May be empty.
        examples: Pairs to read, by the first replicate: the surest, the closest call, the most confident
            mistakes; of those whose texts may be shown.
    """

    validation: dict[str, float]
    best: float | None
    scorers: Scorers
    fitted: dict[str, float]
    overfitting: Replicated | None
    reliability: dict[str, pd.DataFrame]
    margins: pd.Series
    by_length: pd.DataFrame | None
    groups: pd.DataFrame | None
    outside: dict[str, float]
    within: dict[str, float]
    examples: pd.DataFrame
    parts: PartsJudged | None = None


def evaluate(
    replicates: Sequence[pd.DataFrame],
    train: Sequence[Sequence[Preference]] = (),
    *,
    fitted: Sequence[pd.DataFrame] = (),
    outside: Sequence[pd.DataFrame] = (),
    beside: Sequence[pd.DataFrame] = (),
    second: np.ndarray | None = None,
    more: Sequence[Result] = (),
    group: str = "",
    show_texts: str = "all",
    examples: int = 3,
    seed: int = 0,
    own_parts: str = "",
) -> PairEvaluation:
    """Evaluate a reward model by its scores; what is not given is left out.

    Args:
        replicates: The same held-out pairs with the scores of each replicate, from `score_files.read_pairs`.
        train: Each replicate's training pairs, to fit the baselines on.
        fitted: Scored pairs of each replicate's training set. outside: scored pairs out of distribution.
        beside: Scored replies, several to a prompt, from `within_prompts.score_beside`.
        second: Margins of another reward model for the same pairs, from `scored_pairs.same_pairs`.
        more: What is recorded with it: the learning curve, what the prompt is worth.
        group: Key of the rows' `meta` whose groups are judged apart.
        show_texts: Whose texts may be shown (`data_parts.rows_shown`). examples: confident mistakes to show.
        seed: Of resampling. own_parts: names of the parts of mixed data that have reward models of their own.

    Raises:
        InputError: the replicates scored different pairs.
    """
    pairs, right = replicates[0], right_orders(replicates)
    margins, prompts = pairs["margin"], pairs["prompt_key"]
    validation, claims = held_out_metrics(replicates, right, seed)
    scorers = compare_scorers(replicates, right, train, second, seed, own_parts)
    metrics = prefixed("rm.validation", validation) | prefixed("data", ceiling(pairs)) | scorers.metrics
    claims |= scorers.claims | ({"shorter_wins": shorter_wins(train)} if train else {})
    on_train, gap = overfitting(fitted, right, prompts) if fitted else ({}, None)
    strange = outside_metrics(outside, right, prompts, seed) if outside else {}
    within = order_within_prompts(beside, seed) if beside else {}
    metrics |= prefixed("rm.ood", strange) | prefixed("rm.validation", within)
    claims |= harder(strange, within)
    for found in (learned_by_heart(on_train, gap), *more):
        metrics, claims = metrics | found.metrics, claims | found.claims
    return PairEvaluation(
        metrics=metrics,
        claims=claims,
        validation=validation | ceiling(pairs),
        best=ceiling(pairs).get("best_possible_accuracy"),
        scorers=scorers,
        fitted=on_train,
        overfitting=gap,
        reliability=reliability(margins, prompts, seed),
        margins=margins,
        by_length=accuracy_by_tokens(pairs),
        groups=by_group(pairs, group, seed),
        outside=strange,
        within=within,
        examples=telling_pairs(pairs[rows_shown(metas_of(pairs), show_texts)], examples),
    )


def evaluate_parts(
    found: PairEvaluation, pairs: pd.DataFrame, parts: str, whole: Sequence[Preference] = (), seed: int = 0
) -> PairEvaluation:
    """What `evaluate` found, and who is right on each part of mixed data; the same where none is named.

    Args:
        found: From `evaluate`. pairs: the held-out pairs as one replicate scored them.
        parts: Names of the parts, see `data_parts`.
        whole: All training pairs, to fit what words can reach on each part.
        seed: Of resampling.
    """
    if not (labels := parts_of(metas_of(pairs), parts)):
        return found
    judged = judge_parts(found.scorers.orders, pairs, labels, whole, parts, seed)
    metrics, claims = found.metrics | judged.metrics, found.claims | judged.claims
    return replace(found, metrics=metrics, claims=claims, tables=judged.tables, parts=judged)


def harder(strange: Mapping[str, float], within: Mapping[str, float]) -> dict[str, bool]:
    """What numbers out of distribution and of replies to one prompt, where they are known, allow to say."""
    said = {"ood_is_harder": beyond(strange, "drop") > 0} if strange else {}
    if "gold_spearman_drop" in within:
        more_alike = within["gold_sd_sampled"] < within["gold_sd_within"]
        said["alike_is_harder"] = more_alike and beyond(within, "gold_spearman_drop") > 0
    return said


def ceiling(pairs: pd.DataFrame) -> dict[str, float]:
    """What a judge who knows each annotator's probabilities reaches; empty where they are unknown.

    Returns:
        best_possible_accuracy (+_low, _high): on these very labels, which were drawn; the share of it that a
        reward model reaches is measured on the same ones. best_expected_accuracy: over all labels that these
        annotators might have given.
    """
    best, expected = best_judge(pairs), best_on_average(pairs)
    if best is None or expected is None:
        return {}
    rate = rate_interval(best, pairs["prompt_key"])
    return rate.named("best_possible_accuracy") | {"best_expected_accuracy": expected}


def held_out_metrics(
    replicates: Sequence[pd.DataFrame], right: np.ndarray, seed: int = 0
) -> tuple[dict[str, float], dict[str, bool]]:
    """Numbers of the held-out pairs, averaged over replicates, and the claims that rest on them.

    Rates carry their intervals (`Replicated.named`); ties are counted over all replicates.
    """
    pairs, prompts = replicates[0], replicates[0]["prompt_key"]
    found = averaged([preference_metrics(**score_columns(table), seed=seed) for table in replicates])
    found["ties"] = int((right == 0.5).sum())
    found |= replicated_rate(right, prompts, seed=seed).named("accuracy")
    gold = gold_columns(pairs)
    if gold:
        gap = gold["gold_chosen"] - gold["gold_rejected"]
        agrees = np.where(gap > 0, right, 1 - right)[:, gap != 0]
        found |= rate_of(agrees, prompts[gap != 0], "gold_accuracy", seed)
    by_length = length_rates(pairs, right, seed) if "accuracy_balanced" in found else {}
    found |= by_length
    claims = {"goes_with_length": beyond(found, "length_gap") > 0} if by_length else {}
    best = best_judge(pairs)
    if best is not None:
        found |= share_of_best(right, best, prompts)
    known = "share_of_best_low" in found
    claims["reaches_95_percent_of_best"] = known and beyond(found, "share_of_best", 0.95) > 0
    return found, claims


def length_rates(pairs: pd.DataFrame, right: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Accuracy where the longer reply was chosen and where it was rejected, and length_gap, their difference.

    Args:
        pairs: With the lengths of both replies, some longer one chosen and some rejected.
        right: Outcomes, shape (replicates, pairs).
        seed: Of resampling.
    """
    longer = (pairs["chosen_tokens"] - pairs["rejected_tokens"]).to_numpy()
    parts = {"longer_chosen": longer > 0, "longer_rejected": longer < 0}
    prompts = pairs["prompt_key"]
    rates = {n: replicated_rate(right[:, rows], prompts[rows], seed=seed) for n, rows in parts.items()}
    chosen, rejected = (right[:, rows].mean(axis=1) for rows in parts.values())
    difference = independent_difference(*(rate.prompts for rate in rates.values()))
    found = replicated(difference, chosen - rejected).named("length_gap")
    for name, rate in rates.items():
        found |= rate.named(f"accuracy_{name}")
    return found


def rate_of(right: np.ndarray, prompts: pd.Series, name: str, seed: int = 0) -> dict[str, float]:
    """A rate over replicates under its name; empty where there are no pairs."""
    return replicated_rate(right, prompts, seed=seed).named(name) if right.size else {}


def overfitting(
    fitted: Sequence[pd.DataFrame], right: np.ndarray, prompts: Sequence
) -> tuple[dict[str, float], Replicated]:
    """Accuracy on pairs of the training sets, and that minus the one on held-out pairs, with their intervals.

    Args:
        fitted: Pairs of each replicate's own training set.
        right: Outcomes of the held-out pairs, shape (replicates, pairs). prompts: of these.
    """
    own = [right_orders([table])[0] for table in fitted]
    everyone = rate_interval(np.concatenate(own), [key for table in fitted for key in table["prompt_key"]])
    means, held_out = np.array([part.mean() for part in own]), replicated_rate(right, prompts)
    gap = independent_difference(everyone, held_out.prompts)
    on_train = replicated(everyone, means).named("accuracy")
    return on_train, replicated(gap, means - right.mean(axis=1))


def learned_by_heart(on_train: Mapping[str, float], gap: Replicated | None) -> Result:
    """What `overfitting` found, with its claim; nothing where there is no training set."""
    if gap is None:
        return Result()
    numbers = gap.named("rm.overfitting_gap")
    claims = {"overfits": beyond(numbers, "rm.overfitting_gap") > 0}
    return Result(metrics=prefixed("rm.trained_on", on_train) | numbers, claims=claims)


def outside_metrics(
    outside: Sequence[pd.DataFrame], right: np.ndarray, prompts: Sequence, seed: int = 0
) -> dict[str, float]:
    """Accuracy of pairs out of distribution, drop (accuracy in distribution minus that), gold_spearman.

    Args:
        outside: The pairs out of distribution, by replicate.
        right: Outcomes in distribution, shape (replicates, pairs). prompts: of these.
        seed: Of resampling.
    """
    strange = right_orders(outside)
    rate = replicated_rate(strange, outside[0]["prompt_key"], seed=seed)
    inside = replicated_rate(right, prompts, seed=seed)
    drop = independent_difference(inside.prompts, rate.prompts)
    found = rate.named("accuracy") | replicated(drop, (right.mean(axis=1) - strange.mean(axis=1))).named(
        "drop"
    )
    numbers = averaged([preference_metrics(**score_columns(table), seed=seed) for table in outside])
    return found | {key: numbers[key] for key in ("gold_spearman",) if key in numbers}


def reliability(margins: pd.Series, prompts: pd.Series, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Calibration curves: as trained, and after the margins are divided by one fitted temperature."""
    scaled = {"as trained": margins, "after temperature scaling": scale_margins(margins, prompts)}
    return {name: reliability_curve(values, prompts, seed=seed) for name, values in scaled.items()}
