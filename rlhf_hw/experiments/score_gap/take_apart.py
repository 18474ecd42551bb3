"""The score gap as one experiment: gaps of the policies, what each step of training added, and the trials.

measured = in_workers(measure_replicate, [(plan,) for plan in plans])  # one for each replicate
found = take_apart(measured)
found.parts["dpo"]["length"], found.claims["score_gap_positive"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.score_gap.instruments import Measured
from rlhf_hw.experiments.score_gap.planted_trials import Trial
from rlhf_hw.experiments.score_gap.policy_gap import PolicyGap
from rlhf_hw.experiments.score_gap.replicate_gaps import ReplicateGaps
from rlhf_hw.experiments.score_gap.trial_counts import Counted, count_trials, share_table
from rlhf_hw.stats.replicates import Replicated, beyond, replicated_mean, trainings_interval

POLICIES = ("base", "sft", "dpo")  # in the order of training
SIGNS = ("distance, generated - reference", "disagreement, generated - reference")


@dataclass(frozen=True, kw_only=True)
class ScoreGap(Result):
    """The gaps taken apart, means over replicates.

    Attributes:
        parts: "base", "sft", "dpo" -> `gap` and its parts, as `decompose.prompt_parts` names them;
            "gain_sft", "gain_dpo" -> the same of the gain over the policy that training started from.
        compared: Least share of a policy's replies that could be compared.
        prices: Points paid for a unit of gold, by replicate; empty where gold is unknown.
        unfamiliar: Mean signs of unfamiliarity, one column a policy.
        counted: What the trials with planted faults show.
        trials: These trials.
    """

    parts: dict[str, dict[str, Replicated]]
    compared: float
    prices: list[float]
    unfamiliar: pd.DataFrame
    counted: Counted
    trials: list[Trial]

    @property
    def shares(self) -> tuple[np.ndarray, list[str], list[str]]:
        """Where the gaps of planted faults went, from `trial_counts.share_table`."""
        return share_table(self.trials)

    @property
    def doubtful(self) -> frozenset[str]:
        """Parts that the trials do not bear out, or do not test."""
        names = {name for parts in self.parts.values() for name in parts if name != "gap"}
        return frozenset(name for name in names if not self.counted.borne[name])

    def texts(self, *names: str) -> pd.DataFrame:
        """Parts of some gaps, one column each: mean, interval over prompts, interval over trainings."""
        return pd.DataFrame({n: {k: as_text(part) for k, part in self.parts[n].items()} for n in names})


def as_text(part: Replicated) -> str:
    """A value with both intervals, as notebooks show it."""
    if part.trainings is None:
        return f"{part.prompts:+.2f}"
    return f"{part.prompts:+.2f} [{part.trainings.low:+.2f}, {part.trainings.high:+.2f}]"


def take_apart(replicates: Sequence[ReplicateGaps], seed: int = 0) -> ScoreGap:
    """Take the policies' gaps apart, and what each step of training added to the score of the one before.

    Args:
        replicates: From `replicate_gaps.measure_replicate`, of the same policies on the same prompts. A
            prompt counts where every policy of every replicate wrote something.
        seed: Of the intervals over prompts.

    Returns:
        Metrics under `score_gap`: the parts of DPO's gap, and below `base`, `sft`, `gain_sft`, `gain_dpo`
        those of the others; `distance`, `gold_price`, and the counts of the trials.
    """
    rows = shared_rows([gap for one in replicates for gap in one.gaps.values()])
    gaps = [{policy: gap.at(rows) for policy, gap in one.gaps.items()} for one in replicates]
    prompts, prices = next(iter(gaps[0].values())).prompts, [one.price for one in replicates]
    measured = [{**one, **gains(one)} for one in gaps]
    parts = {name: mean_parts([one[name] for one in measured], prices, prompts, seed) for name in measured[0]}
    distance = replicated_mean([one["dpo"].unfamiliar[:, 0] for one in gaps], prompts, seed=seed)
    counted = count_trials([one.trials for one in replicates])
    numbers = distance.named("distance") | counted.metrics | price_metrics(prices)
    for name, found in parts.items():
        named = {key: value for part, mean in found.items() for key, value in mean.named(part).items()}
        numbers |= named if name == "dpo" else prefixed(name, named)
    signs = {n: np.mean([one[n].unfamiliar.mean(axis=0) for one in gaps], axis=0) for n in gaps[0]}
    return ScoreGap(
        metrics=prefixed("score_gap", numbers),
        claims=statements(parts, distance, counted),
        parts=parts,
        compared=min(gap.compared for one in gaps for gap in one.values()),
        prices=[price for price in prices if price is not None],
        unfamiliar=pd.DataFrame(signs, index=SIGNS),
        counted=counted,
        trials=[trial for one in replicates for trial in one.trials],
    )


def shared_rows(gaps: Sequence[PolicyGap]) -> list[int]:
    """Rows that all gaps have, in order; an empty reply of one policy has left one out."""
    shared = set.intersection(*(set(gap.rows) for gap in gaps))
    return [row for row in gaps[0].rows if row in shared]


def gains(gaps: Mapping[str, PolicyGap]) -> dict[str, Measured]:
    """What each policy gained over the one that it was trained from: all gaps are to the same references."""
    there = [policy for policy in POLICIES if policy in gaps]
    return {f"gain_{new}": gaps[new].minus(gaps[old]) for old, new in zip(there, there[1:], strict=False)}


def mean_parts(
    replicates: Sequence[Measured], prices: Sequence[float | None], prompts: Sequence, seed: int
) -> dict[str, Replicated]:
    """Parts of one gap, measured in each replicate with its own price, as means with both intervals."""
    each = [one.parts(price) for one, price in zip(replicates, prices, strict=True)]
    return {name: replicated_mean([one[name] for one in each], prompts, seed=seed) for name in each[0]}


def price_metrics(prices: Sequence[float | None]) -> dict[str, float]:
    """The mean price of a unit of gold, with its interval over trainings; nothing where gold is unknown."""
    known = [price for price in prices if price is not None]
    if not known:
        return {}
    trainings = trainings_interval(known)
    ends = {} if trainings is None else trainings.named("gold_price_trainings")
    return {"gold_price": float(np.mean(known))} | {
        k: v for k, v in ends.items() if k.endswith(("low", "high"))
    }


def statements(
    parts: Mapping[str, Mapping[str, Replicated]], distance: Replicated, counted: Counted
) -> dict[str, bool]:
    """What may be said of the gap of DPO's replies and of the gains.

    A number has to lie beyond zero by both its intervals, over prompts and over trainings; and where it is a
    part of a gap, the trials with planted faults must bear that part out, with every reward model.

    Args:
        parts: Those of "dpo", and of "gain_sft" and "gain_dpo" where they are there.
        distance: Of DPO's replies from the training replies minus that of the references; where it is not
            above zero, the part `ood` is no harm from strange text.
        counted: From `trial_counts.count_trials`.
    """
    found = {f"score_gap_bears_{part}": borne for part, borne in counted.borne.items()}
    found |= {f"score_gap_tests_{part}": heard for part, heard in counted.heard.items()}
    for step in ("sft", "dpo"):
        for name, part in parts.get(f"gain_{step}", {}).items():
            if name != "gap":
                way = side(part) if counted.borne[name] else 0
                found |= {f"{step}_gain_from_{name}": way > 0, f"{step}_loss_from_{name}": way < 0}
        shown = any(holds for name, holds in found.items() if name.startswith(f"{step}_"))
        found[f"score_gap_{step}_parts_shown"] = shown
    for name, part in parts["dpo"].items():
        if name != "gap":
            found[f"score_gap_{name}_in_gap"] = counted.borne[name] and side(part) != 0
    whole = side(parts["dpo"]["gap"])
    return found | {
        "score_gap_positive": whole > 0,
        "score_gap_negative": whole < 0,
        "score_gap_less_familiar": side(distance) > 0,
    }


def side(number: Replicated) -> int:
    """1 above zero, -1 below zero, by both intervals; else 0."""
    return beyond(number.named("number"), "number")
