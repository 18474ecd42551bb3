"""Pairs as alike as two samples of one policy, beside the easy ones: what is left of each claim there?

The replies of an easy pair come from a hasty and a careful writer, those of a hard one from one writer
(`world.build.WRITERS`). A reward model is trained on hard pairs as the easy one was, and both judge both
kinds. SFT imitates the hard chosen replies, which are the better of two tries of that one writer; DPO goes on
from there. What needs models is in `experiments.hard_trainings`; here tables are compared.

    found = compare_kinds({"easy": easy, "hard": hard}, policies, spread)
    found.metrics["hard.on_hard.own_accuracy"], found.claims["hard_is_harder"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.scored_pairs import (
    BASELINES,
    baseline_orders,
    best_judge,
    gold_columns,
    right_orders,
)
from rlhf_hw.experiments.steps import Replicates, replies_by, step_claims, step_metrics, step_values
from rlhf_hw.preferences.reading import longer_wins
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.ceiling import share_of_best
from rlhf_hw.stats.intervals import rate_interval
from rlhf_hw.stats.replicates import (
    Replicated,
    beyond,
    independent_difference,
    replicated_lead,
    replicated_mean,
    replicated_rate,
)

KINDS = ("easy", "hard")
ALIKE = 0.5  # of gold: what counts as a small difference within a pair
PAIRS = {
    "sft_base": ("sft", "base"),
    "dpo_sft": ("dpo", "sft"),
    "dpo_base": ("dpo", "base"),
    "reference_base": ("reference", "base"),
}
LEVELS = {"score": "score_mean", "gold": "gold_mean", "length": "words_mean"}


@dataclass(frozen=True)
class Kind:
    """Held-out pairs of one kind, as reward models scored them, one table a training.

    Attributes:
        own: By reward models that were trained on pairs of this kind.
        other: By those that were trained on the other kind.
        train: Training pairs of each of `own`, for the baselines.
    """

    own: Sequence[pd.DataFrame]
    other: Sequence[pd.DataFrame]
    train: Sequence[Sequence[Preference]]


@dataclass(frozen=True, kw_only=True)
class HardPairs(Result):
    """What hard pairs showed beside easy ones.

    Attributes:
        accuracies: Kind of pairs -> judge -> numbers with `accuracy` and its intervals.
        gaps: What the two replies come from -> their differences in gold, for a figure.
        steps: Pair of policies -> the keys of `step_metrics`.
        policies: Policy -> mean score, gold and words, with intervals.
    """

    accuracies: dict[str, dict[str, dict[str, float]]]
    gaps: dict[str, np.ndarray]
    steps: dict[str, dict[str, float]]
    policies: dict[str, dict[str, float]]


def by_kind(
    tables: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    train: Mapping[str, Sequence[Sequence[Preference]]],
) -> dict[str, Kind]:
    """What was scored, sorted by the kind of pairs.

    Args:
        tables: (kind learned from, kind scored) -> one table a training.
        train: Kind -> training pairs of each reward model that learned from it.
    """
    others = dict(zip(KINDS, KINDS[::-1], strict=True))
    return {k: Kind(tables[k, k], tables[other, k], train[k]) for k, other in others.items()}


def compare_kinds(
    kinds: Mapping[str, Kind],
    policies: Mapping[str, Replicates],
    moved: Mapping[str, np.ndarray],
    sampled: np.ndarray,
    *,
    seed: int = 0,
) -> HardPairs:
    """Hard pairs beside easy ones, and the policies that were trained on hard ones.

    Args:
        kinds: "easy" and "hard".
        policies: "base", "sft", "dpo", "reference" -> scored replies to hard held-out prompts, one table a
            training, from `answers.answer`.
        moved: "sft_base" and so on -> divergences in nats, shape (trainings, prompts).
        sampled: Gold of two samples of the base model to each hard prompt, shape (prompts, 2).
        seed: Of resampling.

    Returns:
        Metrics `hard.on_<kind>.*` of `kind_metrics`; `hard.rm.accuracy` and `hard.best_possible_accuracy`,
        those of hard pairs; `data.`, `hard.pair_gold_difference_median` and `_within_half`, the same of
        `base.sample_`; what `compare_accuracies` finds under `hard`; `hard.<policy>.*` (levels) and
        `hard.<pair>.*` (keys of `step_metrics`).
    """
    gaps = {f"{name} pairs": gold_gaps(kinds[name].own[0]) for name in KINDS}
    gaps["two samples of the base model"] = np.abs(sampled[:, 0] - sampled[:, 1])
    metrics: dict[str, float] = {"hard.replicates": len(kinds["hard"].own)}
    for name, values in zip(("data.pair", "hard.pair", "base.sample"), gaps.values(), strict=True):
        metrics[f"{name}_gold_difference_median"] = float(np.median(values))
        metrics[f"{name}_gold_within_half"] = float((values < ALIKE).mean())
    found = {name: kind_metrics(kind, seed) for name, kind in kinds.items()}
    for name in KINDS:
        metrics |= prefixed(f"hard.on_{name}", found[name])
    # once more under the names of the evaluation of easy pairs, for whoever quotes one number
    metrics |= Replicated.of(found["hard"], "own_accuracy").named("hard.rm.accuracy")
    metrics["hard.best_possible_accuracy"] = found["hard"]["best_possible_accuracy"]
    compared, claims = compare_accuracies(kinds, found)
    steps, described = policy_steps(policies, moved, seed)
    for name, numbers in (described | steps).items():
        metrics |= prefixed(f"hard.{name}", numbers)
    return HardPairs(
        metrics=metrics | prefixed("hard", compared),
        claims=claims | hard_step_claims(steps),
        accuracies={name: accuracies_of(numbers) for name, numbers in found.items()},
        gaps=gaps,
        steps=steps,
        policies=described,
    )


def gold_gaps(pairs: pd.DataFrame) -> np.ndarray:
    """How far apart the replies of each pair are in gold, shape (pairs,)."""
    gold = gold_columns(pairs)
    return np.abs(gold["gold_chosen"] - gold["gold_rejected"])


def kind_metrics(kind: Kind, seed: int = 0) -> dict[str, float]:
    """Who orders held-out pairs of one kind as labelled.

    Returns:
        `own_accuracy`, `other_accuracy`, `length_accuracy`, `words_accuracy` with intervals;
        `best_possible_accuracy` (+_low, _high) of a judge who knows the annotators' probabilities, on these
        very labels; `share_of_best` of the own reward model with intervals; `lead_words` and `lead_length`,
        its accuracy minus that of the baselines; `own_lead`, its accuracy minus that of the other reward
        model; `pairs`; `longer_wins`, the share of pairs whose longer reply was chosen.

    Raises:
        InputError: the reward models have scored different pairs.
    """
    pairs, prompts = kind.own[0], kind.own[0]["prompt_key"]
    both = right_orders([*kind.own, *kind.other])
    right = {"own": both[: len(kind.own)], "other": both[len(kind.own) :]}
    right |= baseline_orders(kind.train, pairs)
    found: dict[str, float] = {"pairs": len(pairs)}
    for name, rows in right.items():
        found |= replicated_rate(rows, prompts, seed=seed).named(f"{name}_accuracy")
    best = best_judge(pairs)
    found |= rate_interval(best, prompts).named("best_possible_accuracy")
    found |= share_of_best(right["own"], best, prompts)
    for name in BASELINES:
        found |= replicated_lead(right["own"], right[name], prompts).named(f"lead_{name}")
    found |= replicated_lead(right["own"], right["other"], prompts).named("own_lead")
    lengths = [pairs[side].str.split().str.len() for side in ("chosen", "rejected")]
    return found | {"longer_wins": longer_wins(*lengths)}


def compare_accuracies(
    kinds: Mapping[str, Kind], found: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, float], dict[str, bool]]:
    """Easy minus hard, and what that allows to say.

    Returns:
        `drop`, accuracy of the own reward model on easy pairs minus that on hard ones, `drop_share_of_best`
        and `drop_words`, the same of its share of the best possible and of the bag of words; each with
        intervals. And the claims.
    """
    numbers: dict[str, float] = {}
    names = {"drop": "own_accuracy", "drop_words": "words_accuracy", "drop_share_of_best": "share_of_best"}
    for name, key in names.items():
        if all(f"{key}_low" in one for one in found.values()):
            numbers |= unpaired(*(Replicated.of(found[kind], key) for kind in KINDS)).named(name)
    claims = {"hard_is_harder": beyond(numbers, "drop") > 0}
    known = "drop_share_of_best" in numbers
    claims["hard_reaches_less_of_best"] = known and beyond(numbers, "drop_share_of_best") > 0
    for name in BASELINES:
        side = beyond(found["hard"], f"lead_{name}")
        claims |= {f"hard_rm_beats_{name}": side > 0, f"{name}_beats_hard_rm": side < 0}
    for kind in KINDS:
        side = beyond(found[kind], "own_lead")
        claims |= {f"own_rm_better_on_{kind}": side > 0, f"own_rm_worse_on_{kind}": side < 0}
        claims[f"own_rm_open_on_{kind}"] = side == 0
    return numbers, claims


def unpaired(first: Replicated, second: Replicated) -> Replicated:
    """The first mean minus the second, which was measured on other prompts with other trainings.

    The interval over trainings joins the two as `independent_difference` does.
    """
    prompts = independent_difference(first.prompts, second.prompts)
    known = first.trainings is not None and second.trainings is not None
    trainings = independent_difference(first.trainings, second.trainings) if known else None
    return Replicated(prompts.value, prompts, trainings)


def accuracies_of(numbers: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Judge -> `accuracy` with its intervals, from `kind_metrics`."""
    names = {
        "best possible": "best_possible_accuracy",
        "reward model trained on such pairs": "own_accuracy",
        "reward model trained on the other kind": "other_accuracy",
        "bag of words (no prompt)": "words_accuracy",
        "length": "length_accuracy",
    }
    return {name: Replicated.of(numbers, key).named("accuracy") for name, key in names.items()}


def policy_steps(
    policies: Mapping[str, Replicates], moved: Mapping[str, np.ndarray], seed: int = 0
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The steps of training on hard pairs, and the level of each policy.

    Returns:
        Pair of policies -> the keys of `step_metrics`; policy -> `score_mean`, `gold_mean`, `words_mean` with
        intervals.
    """
    prompts = policies["base"][0]["prompt_key"]
    steps = {}
    for pair, (first, second) in PAIRS.items():
        values = step_values(policies[first], policies[second], moved.get(pair))
        steps[pair] = step_metrics(values, prompts, seed=seed)
    described: dict[str, dict[str, float]] = {}
    for policy, tables in policies.items():
        known = [replies_by(table) for table in tables]
        described[policy] = {}
        for name, key in LEVELS.items():
            values = np.array([one[name] for one in known], dtype=float)
            described[policy] |= replicated_mean(values, prompts, seed=seed).named(key)
    return steps, described


def hard_step_claims(steps: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """The claims of `steps.step_claims` as `hard_<claim>`, and whether chosen replies beat the base's."""
    claims = {f"hard_{name}": holds for name, holds in step_claims(steps).items()}
    side = beyond(steps["reference_base"], "gold_difference")
    return claims | {"hard_chosen_above_base": side > 0, "hard_chosen_base_open": side == 0}
