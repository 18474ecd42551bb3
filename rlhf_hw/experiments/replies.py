"""What SFT and DPO did to the replies, from scored answers of base, SFT and DPO to the same prompts.

First what needs models, in `experiments.answers`, whose tables go to score files; then `compare` of these
tables alone, so that recorded replies of any other system take the same way.

    answers = answer(asked, base, replicates, results / "scores", setting, gold=gold)
    found = compare(answers.tables, answers.moved, pairs=..., samples=answers.samples)
    found.metrics["steps.validation.dpo_sft.gold_difference"], found.claims["dpo_raises_gold"]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.answers import gold_of
from rlhf_hw.experiments.best_of_n import best_of_n
from rlhf_hw.experiments.over_optimisation import (
    Price,
    explained_by_gold,
    order_metrics,
    parting_claims,
    price_of_gold,
    sources,
)
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.steps import (
    PAIRS,
    STEPS,
    Parts,
    Replicates,
    by_both_at_equal_length,
    replies_by,
    step_claims,
    step_metrics,
    step_values,
    word_counts,
)
from rlhf_hw.stats.distributions import correlation, correlation_interval
from rlhf_hw.stats.policies import case_rows, cases
from rlhf_hw.stats.replicates import replicated, replicated_mean
from rlhf_hw.stats.text import reply_metrics

# what figures and tables call the policies
NAMES = {"base": "base", "sft": "SFT", "dpo": "DPO", "reference": "reference"}
NOTHING: Mapping = MappingProxyType({})
CASES = 2  # of each kind, to be read
LEVELS = {"score": "score_mean", "gold": "gold_mean", "length": "words_mean"}  # with intervals


@dataclass(frozen=True, kw_only=True)
class RepliesCompared(Result):
    """What each step of the training did to the replies.

    Attributes:
        described: (set, policy) -> the keys of `reply_metrics`, means over replicates.
        steps: Set -> pair of policies -> the keys of `step_metrics` and, where gold is known,
            `explained_by_gold` and `judge_beyond_gold`.
        order: How often scores order pairs as gold does: the keys of `order_metrics` for validation prompts.
        price: Points that the reward models pay for a unit of gold; None if that is unknown.
        best_of_n: `n`, `kl` and gains of best-of-n sampling, one row for each n; empty without samples.
        scores: Set -> name of the policy -> scores of its replies, of the first replicate, as the others
            below.
        lengths: Name of the policy -> (scores, words) of its replies to the validation prompts.
        cases: Largest gains, largest losses and closest calls, one row a reply.
        by_part: Part of mixed data -> what `part_steps.steps_by_part` returns of it; may be empty.
    """

    described: dict[tuple[str, str], dict[str, float]]
    steps: dict[str, dict[str, dict[str, float]]]
    order: dict[str, float]
    price: float | None
    best_of_n: pd.DataFrame
    scores: dict[str, dict[str, pd.Series]]
    lengths: dict[str, tuple[pd.Series, np.ndarray]]
    cases: list[dict]
    by_part: dict[str, dict[str, float]] = field(default_factory=dict)


def compare(
    sets: Mapping[str, Mapping[str, Replicates]],
    moved: Mapping[str, np.ndarray] | None = None,
    *,
    implicit: Sequence[pd.DataFrame] = (),
    pairs: Sequence[pd.DataFrame] = (),
    samples: Sequence[pd.DataFrame] = (),
    world: bool = True,
    parts: Parts | None = None,
    describe: Callable[[str, str], str] | None = None,
    shown: Sequence[bool] | None = None,
    seed: int = 0,
) -> RepliesCompared:
    """Compare the replies of the policies step by step: SFT with base, DPO with SFT, all with the references.

    Args:
        sets: Set -> "base", "dpo" and perhaps "sft" and "reference" -> scored replies of each replicate.
        moved, implicit, samples: From `answers.Answers`, where models were at hand.
        pairs: Validation pairs of the data as each replicate's reward model scored them.
        world: Whether `gold` in the rows' `meta` is the simulated world's true reward.
        parts: What gold consists of, in its units.
        describe: (prompt, reply) -> the parts of gold as text.
        shown: Whether the texts of each validation prompt may be shown; without it all may.
        seed: Of resampling.

    Returns:
        Metrics `inference.<set>.<policy>.*` (levels), `steps.<set>.<pair>.*`, `steps.price` (points for a
        unit of gold), `steps.replicates`, `order.<source>.*`, `best_of_n.*`.

    Raises:
        InputError: two policies' replies are to other prompts, or in another order.
    """
    sets = {name: comparable(name, policies, world) for name, policies in sets.items()}
    samples = [table if world else without_gold(table) for table in samples]
    price = price_of_gold(pairs if world else (), seed=seed)
    values = {name: pair_values(known) for name, known in sets.items()}
    values["validation"] = pair_values(sets["validation"], moved or {}, parts)
    steps = {name: all_steps(sets[name], found, price, seed) for name, found in values.items()}
    held_out, prompts = sets["validation"], sets["validation"]["base"][0]["prompt_key"]
    add_what_validation_knows(steps["validation"], held_out, implicit, seed)
    order = order_metrics(sources(pairs if world else (), values["validation"], prompts), seed=seed)
    chosen = best_of_n(samples, price, seed=seed) if samples else None
    described = {(n, p): levels(tables, p, seed) for n, known in sets.items() for p, tables in known.items()}
    metrics = numbers_by_key(described, steps, price) | prefixed("order", order)
    metrics["steps.replicates"] = len(held_out["dpo"])
    rows = telling_replies({policy: tables[0] for policy, tables in held_out.items()}, describe, shown)
    return RepliesCompared(
        metrics=metrics | (prefixed("best_of_n", chosen.metrics) if chosen else {}),
        claims=all_claims(steps["validation"], order) | (chosen.claims if chosen else {}),
        tables={"samples": rows} if rows else {},
        described=described,
        steps=steps,
        order=order,
        price=metrics.get("steps.price"),
        best_of_n=chosen.curves if chosen else pd.DataFrame(),
        scores={n: {NAMES[p]: t[0]["score"] for p, t in known.items()} for n, known in sets.items()},
        lengths={NAMES[p]: (t[0]["score"], word_counts(t[0]["response"])) for p, t in held_out.items()},
        cases=rows,
    )


def add_what_validation_knows(
    steps: dict[str, dict[str, float]],
    policies: Mapping[str, Replicates],
    implicit: Sequence[pd.DataFrame],
    seed: int,
) -> None:
    """To validation steps: win rates at equal length, and how DPO's implicit reward goes with score."""
    for pair in [pair for pair in STEPS if pair in steps]:
        tables, prompts = [policies[policy] for policy in STEPS[pair]], policies["base"][0]["prompt_key"]
        steps[pair] |= by_both_at_equal_length(*tables, prompts, seed=seed)
    if len(implicit):
        steps["dpo_sft"] |= implicit_agreement(implicit)


def all_claims(steps: Mapping[str, Mapping[str, float]], order: Mapping[str, float]) -> dict[str, bool]:
    """What the steps on validation prompts allow to say, and where approval and truth part."""
    return step_claims(steps) | parting_claims(steps, order)


def numbers_by_key(described: Mapping, steps: Mapping, price: Price | None) -> dict[str, float]:
    """Levels, steps and the price of gold under their whole keys."""
    metrics: dict[str, float] = {} if price is None else prefixed("steps", price.replicated.named("price"))
    for (name, policy), numbers in described.items():
        metrics |= prefixed(f"inference.{name}.{policy}", numbers)
    for name, found in steps.items():
        for pair, numbers in found.items():
            metrics |= prefixed(f"steps.{name}.{pair}", numbers)
    return metrics


def comparable(name: str, policies: Mapping[str, Replicates], world: bool) -> dict[str, list[pd.DataFrame]]:
    """The tables of a set of prompts, without `gold` where that is no true reward.

    Raises:
        InputError: policies or replicates have answered other prompts, or in another order.
    """
    asked = list(policies["base"][0]["prompt_key"])
    for policy, tables in policies.items():
        if any(list(table["prompt_key"]) != asked for table in tables):
            both = f"{NAMES['base']} and {NAMES[policy]}"
            raise InputError(f"{name}: {both} replies must be to the same prompts in the same order")
    return {p: [t if world else without_gold(t) for t in tables] for p, tables in policies.items()}


def without_gold(table: pd.DataFrame) -> pd.DataFrame:
    """The table with no `gold` in its `meta`."""
    if "meta" not in table:
        return table
    kept = [{key: value for key, value in meta.items() if key != "gold"} for meta in table["meta"]]
    return table.assign(meta=kept)


def levels(tables: Replicates, policy: str, seed: int = 0) -> dict[str, float]:
    """The keys of `reply_metrics`, means over replicates; scores, gold and words with both intervals.

    References have no end that a policy chose.
    """
    single = []
    for table in tables:
        finished = table["finished"] if "finished" in table and policy != "reference" else None
        single.append(reply_metrics(list(table["response"]), table["score"], finished, gold_of(table)))
    found = {key: float(np.mean([numbers[key] for numbers in single])) for key in single[0]}
    known = [replies_by(table) for table in tables]
    for name in [name for name in LEVELS if name in known[0]]:
        mean = replicated_mean([one[name] for one in known], tables[0]["prompt_key"], seed=seed)
        found |= mean.named(LEVELS[name])
    return found


def pair_values(
    policies: Mapping[str, Replicates], moved: Mapping[str, np.ndarray] = NOTHING, parts: Parts | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Pair -> differences of its two policies, for the pairs that there are."""
    there = {pair: both for pair, both in PAIRS.items() if all(policy in policies for policy in both)}
    return {
        pair: step_values(policies[first], policies[second], moved.get(pair), parts)
        for pair, (first, second) in there.items()
    }


def all_steps(
    policies: Mapping[str, Replicates], values: Mapping[str, Mapping], price: Price | None, seed: int
) -> dict[str, dict[str, float]]:
    """Pair -> its numbers, and how much of a gain in score the gain in gold is worth."""
    prompts, found = policies["base"][0]["prompt_key"], {}
    for pair, change in values.items():
        found[pair] = step_metrics(change, prompts, seed=seed)
        if price is not None and "gold" in change:
            found[pair] |= explained_by_gold(change["score"], change["gold"], price, prompts, seed=seed)
            if "judge" in change:
                known = explained_by_gold(
                    change["judge"], change["gold"], price.of_judges, prompts, seed=seed
                )
                rest = {key: value for key, value in known.items() if key.startswith("score_beyond_gold")}
                found[pair] |= {key.replace("score", "judge"): value for key, value in rest.items()}
    return found


def telling_replies(
    tables: Mapping[str, pd.DataFrame],
    describe: Callable[[str, str], str] | None = None,
    shown: Sequence[bool] | None = None,
) -> list[dict]:
    """DPO's largest gains, largest losses and closest calls over what it began with, one row a reply.

    Args:
        tables: Policy -> scored replies.
        describe: (prompt, reply) -> the parts of gold as text.
        shown: Whether the texts of a row may be shown; others are left out.
    """
    names = {policy: NAMES[policy] for policy in ("base", "sft", "dpo") if policy in tables}
    dpo, start = tables["dpo"], tables["sft" if "sft" in tables else "base"]
    hidden = np.zeros(len(dpo), dtype=bool) if shown is None else ~np.asarray(shown, dtype=bool)
    picked = cases(dpo["score"], start["score"], CASES, skip=hidden | (start["response"] == dpo["response"]))
    gold = {policy: gold_of(tables[policy]) for policy in names}
    return case_rows(tables, picked, names, gold, describe)


def implicit_agreement(tables: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Spearman's correlation of the changes in DPO's implicit reward and in score, over prompts.

    Args:
        tables: For each replicate, columns `implicit` and `score`, one row a prompt.

    Returns:
        implicit_reward_correlation with both intervals, its value the mean over replicates.
    """
    values = [correlation(table["implicit"], table["score"]) for table in tables]
    estimate = correlation_interval(float(np.mean(values)), len(tables[0]))
    return replicated(estimate, values).named("implicit_reward_correlation")
