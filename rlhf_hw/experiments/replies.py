"""What DPO did to the replies, from scored answers of the base and the DPO model to the same prompts.

First what needs models, in `experiments.answers`, whose tables go to score files; then `compare` of these
tables alone, so that recorded replies of any other system take the same way.

    answers = answer(preferences, {"base": ..., "dpo": ...}, renderer, reward_model, folder, "validation")
    found = compare({"validation": answers.tables})
    found.metrics["inference.validation.win_rate"], found.claims["dpo_raises_gold"]
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.answers import gold_of
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.stats.distributions import correlation
from rlhf_hw.stats.intervals import DRAWS, Estimate, mean_interval, percentile_interval
from rlhf_hw.stats.policies import case_rows, cases, compare_policies, statements
from rlhf_hw.stats.text import reply_metrics, words

NAMES = {"base": "base", "dpo": "DPO", "reference": "reference"}  # what figures and tables call the policies
CASES = 2  # of each kind, to be read
WIN_RATES = {
    "win_rate": "reward model",
    "win_rate_length_controlled": "at equal length",
    "gold_win_rate": "true reward",
}


@dataclass(frozen=True, kw_only=True)
class RepliesCompared(Result):
    """What DPO did to the replies, by set of prompts.

    Attributes:
        described: (set, policy) -> the keys of `reply_metrics`.
        against_base: Set -> DPO against base, the keys of `compare_policies`.
        moved: Set -> the keys of `movement_metrics`; empty without tables of `answers.movement`.
        scores: Set -> name of the policy -> scores of its replies.
        lengths: Name of the policy -> (scores, words) of its replies to the validation prompts.
        win_rates: "set: judge" -> share of prompts that DPO wins.
        score_gains, gold_gains: Set -> mean gain of DPO; without gold the second is empty.
        cases: Largest gains, largest losses and closest calls, one row a reply.
    """

    described: dict[tuple[str, str], dict[str, float]]
    against_base: dict[str, dict[str, float]]
    moved: dict[str, dict[str, float]]
    scores: dict[str, dict[str, pd.Series]]
    lengths: dict[str, tuple[pd.Series, np.ndarray]]
    win_rates: dict[str, Estimate]
    score_gains: dict[str, Estimate]
    gold_gains: dict[str, Estimate]
    cases: list[dict]


def compare(
    sets: Mapping[str, Mapping[str, pd.DataFrame]],
    movements: Mapping[str, pd.DataFrame] | None = None,
    *,
    world: bool = True,
    describe: Callable[[str, str], str] | None = None,
    show_texts: bool = True,
    seed: int = 0,
) -> RepliesCompared:
    """Compare the replies of the DPO model with those of its base.

    Args:
        sets: Name of a set of prompts -> "base", "dpo" and perhaps "reference" -> scored replies, in the same
            order; "validation" must be there.
        movements: By set, from `answers.movement`; None: no models were at hand.
        world: Whether `gold` in the rows' `meta` is the simulated world's true reward.
        describe: (prompt, reply) -> the parts of gold as text.
        show_texts: Whether the replies of the cases may go into a table of the report.
        seed: Of resampling.

    Returns:
        Metrics under `inference.<set>`, and below that by policy.

    Raises:
        ValueError: base and DPO replies are to other prompts, or in another order.
    """
    sets = {name: comparable(name, tables, world) for name, tables in sets.items()}
    described = {
        (name, policy): describe_replies(table, policy)
        for name, tables in sets.items()
        for policy, table in tables.items()
    }
    against = {name: against_base(tables["dpo"], tables["base"], seed) for name, tables in sets.items()}
    moved = {name: movement_metrics(table, seed=seed) for name, table in (movements or {}).items()}
    metrics = {}
    for (name, policy), numbers in described.items():
        metrics |= prefixed(f"inference.{name}.{policy}", numbers)
    for name, numbers in against.items():
        metrics |= prefixed(f"inference.{name}", numbers | moved.get(name, {}))
    held_out = sets["validation"]
    rows = telling_replies(held_out, describe)
    gains = [
        {name: Estimate.of(numbers, key) for name, numbers in against.items() if key in numbers}
        for key in ("score_difference", "gold_difference")
    ]
    return RepliesCompared(
        metrics=metrics,
        claims=statements(against["validation"]),
        tables={"samples": rows} if show_texts else {},
        described=described,
        against_base=against,
        moved=moved,
        scores={n: {NAMES[p]: table["score"] for p, table in t.items()} for n, t in sets.items()},
        lengths={NAMES[p]: (t["score"], word_counts(t["response"])) for p, t in held_out.items()},
        win_rates=win_rates(against),
        score_gains=gains[0],
        gold_gains=gains[1],
        cases=rows,
    )


def comparable(name: str, tables: Mapping[str, pd.DataFrame], world: bool) -> dict[str, pd.DataFrame]:
    """The tables of a set of prompts, without `meta` where that holds no true reward."""
    if list(tables["base"]["prompt_key"]) != list(tables["dpo"]["prompt_key"]):
        raise InputError(f"{name}: base and DPO replies must be to the same prompts in the same order")
    return {p: t if world else t.drop(columns="meta", errors="ignore") for p, t in tables.items()}


def describe_replies(table: pd.DataFrame, policy: str) -> dict[str, float]:
    """The keys of `reply_metrics` for scored replies; references have no end that a policy chose."""
    finished = table["finished"] if "finished" in table and policy != "reference" else None
    return reply_metrics(list(table["response"]), table["score"], finished, gold_of(table))


def against_base(dpo: pd.DataFrame, base: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """The keys of `compare_policies` for DPO's replies against those of its base, with lengths in words."""
    lengths = [word_counts(table["response"]) for table in (dpo, base)]
    gold = dict(zip(("gold_first", "gold_second"), map(gold_of, (dpo, base)), strict=True))
    known = gold if all(values is not None for values in gold.values()) else {}
    return compare_policies(dpo["score"], base["score"], base["prompt_key"], *lengths, **known, seed=seed)


def win_rates(against: Mapping[str, Mapping[str, float]]) -> dict[str, Estimate]:
    """Set and judge -> share of prompts that DPO wins, for each judge that has judged."""
    return {
        f"{name}: {judge}": Estimate.of(numbers, key)
        for name, numbers in against.items()
        for key, judge in WIN_RATES.items()
        if key in numbers
    }


def telling_replies(
    tables: Mapping[str, pd.DataFrame], describe: Callable[[str, str], str] | None = None
) -> list[dict]:
    """DPO's largest gains, largest losses and closest calls beside the base's replies, one row a reply."""
    base, dpo = tables["base"], tables["dpo"]
    picked = cases(dpo["score"], base["score"], CASES, skip=base["response"] == dpo["response"])
    shown = {policy: NAMES[policy] for policy in ("base", "dpo")}
    gold = {policy: gold_of(tables[policy]) for policy in shown}
    return case_rows(tables, picked, shown, gold, describe)


def word_counts(texts: Iterable[str]) -> np.ndarray:
    """Words of each text, shape (texts,); a Chinese character is a word."""
    return np.array([len(words(text)) for text in texts])


def movement_metrics(table: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Means over the prompts of `answers.movement`.

    Returns:
        kl (+_low, _high; nats a reply), implicit_reward_correlation (+_low, _high; Spearman's, of implicit
        reward and score, over prompts).
    """
    rows = np.random.default_rng(seed).integers(0, len(table), (DRAWS, len(table)))
    ranks = [stats.rankdata(table[name].to_numpy()[rows], axis=1) for name in ("implicit", "score")]
    first, second = (part - part.mean(axis=1, keepdims=True) for part in ranks)
    norm = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    drawn = np.divide((first * second).sum(axis=1), norm, out=np.zeros(DRAWS), where=norm > 0)
    value = correlation(table["implicit"], table["score"])
    agreement = percentile_interval(value, drawn).named("implicit_reward_correlation")
    return mean_interval(table["kl"], seed=seed).named("kl") | agreement
