"""What each step of the training brought on each part of mixed data: SFT over base, DPO over SFT, both.

The steps are those of module `steps`, on the prompts of one part at a time, and at equal length by both
judges; beside them stands the share of replies that ended by themselves.

    found = steps_by_part({"base": tables, "sft": tables, "dpo": tables}, labels)
    found.metrics["parts.helpful.dpo_base.judge_win_rate_length_controlled"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhf_hw.experiments.data_parts import part_key, parts_of, rows_shown
from rlhf_hw.experiments.replies import RepliesCompared, compare
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.set_damage import damage_of_sets
from rlhf_hw.experiments.steps import (
    STEPS,
    Replicates,
    by_both_at_equal_length,
    step_claims,
    step_metrics,
    step_values,
)
from rlhf_hw.stats.replicates import replicated_rate


@dataclass(frozen=True, kw_only=True)
class PartSteps(Result):
    """The steps part by part; `numbers` holds them by part, `<pair>.<number>` and `<policy>.finished`."""

    numbers: dict[str, dict[str, float]]


def compare_parts(
    sets: Mapping[str, Mapping[str, Replicates]],
    metas: Sequence[Mapping] = (),
    *,
    data_parts: str = "",
    show_texts: str = "all",
    seed: int = 0,
    **settings,
) -> RepliesCompared:
    """What `compare` finds, the same steps on each part of mixed data, and what is damaged in the replies.

    Texts that are not shown are left out.

    Args:
        sets: As in `compare`, and so are `seed` and `settings`.
        metas: `meta` of the pair that each validation prompt is of, whose `source` tells its part.
        data_parts: Names of the parts, see module `data_parts`; empty: none are judged apart.
        show_texts: Whose texts may be shown (`data_parts.rows_shown`).
    """
    metas = metas or [{}] * len(sets["validation"]["base"][0])
    shown = rows_shown(metas, show_texts)
    found = compare(sets, shown=shown, seed=seed, **settings)
    parted = steps_by_part(sets["validation"], parts_of(metas, data_parts), seed)
    damage = damage_of_sets(sets, seed)
    known = {} if shown.all() else {"texts.shown": show_texts}
    return replace(
        found,
        metrics=found.metrics | parted.metrics | damage.metrics | known,
        claims=found.claims | parted.claims,
        tables=found.tables | parted.tables | damage.tables,
        by_part=parted.numbers,
    )


def steps_by_part(policies: Mapping[str, Replicates], labels: Sequence[str], seed: int = 0) -> PartSteps:
    """Compare the policies on the prompts of each part.

    Args:
        policies: "base", "dpo" and perhaps "sft" -> scored replies of each replicate, to the same prompts.
        labels: Part of each prompt; none: nothing is told apart.
        seed: Of resampling.

    Returns:
        Metrics `parts.<part>.<pair>.*`, the keys of `step_metrics` and
        `win_rate_length_controlled`, `judge_win_rate_length_controlled`; `parts.<part>.<policy>.finished`;
        `parts.<part>.prompts`. A table `part_steps`, one row for each part and pair. Claims of
        `step_claims` with `_<part>` at their end.
    """
    numbers, metrics, claims, rows = {}, {}, {}, []
    for part in dict.fromkeys(labels):
        places = np.flatnonzero(np.array(labels) == part)
        mine = {p: [t.iloc[places].reset_index(drop=True) for t in tables] for p, tables in policies.items()}
        steps = part_steps(mine, seed)
        numbers[part] = finished_shares(mine, seed) | {"prompts": len(places)}
        for pair, found in steps.items():
            numbers[part] |= prefixed(pair, found)
            step = " / ".join(policy.upper() if policy != "base" else policy for policy in STEPS[pair])
            rows.append({"part": part, "key": part_key(part), "pair": pair, "step": step})
        metrics |= prefixed(f"parts.{part_key(part)}", numbers[part])
        claims |= {f"{name}_{part_key(part)}": holds for name, holds in step_claims(steps).items()}
    tables = {"part_steps": rows} if rows else {}
    return PartSteps(metrics=metrics, claims=claims, tables=tables, numbers=numbers)


def part_steps(policies: Mapping[str, Replicates], seed: int = 0) -> dict[str, dict[str, float]]:
    """Pair -> the numbers of its step, for the pairs that there are."""
    prompts, found = policies["base"][0]["prompt_key"], {}
    for pair, both in STEPS.items():
        if not all(policy in policies for policy in both):
            continue
        first, second = (policies[policy] for policy in both)
        values = step_values(first, second)
        found[pair] = step_metrics(values, prompts, seed=seed)
        found[pair] |= by_both_at_equal_length(first, second, prompts, seed=seed)
    return found


def finished_shares(policies: Mapping[str, Replicates], seed: int = 0) -> dict[str, float]:
    """`<policy>.finished` with its intervals: the share of replies that ended before the limit."""
    found = {}
    for policy in [name for name in ("base", "sft", "dpo") if name in policies]:
        tables = policies[policy]
        if all("finished" in table for table in tables):
            ended = np.array([table["finished"].to_numpy(float) for table in tables])
            rate = replicated_rate(ended, tables[0]["prompt_key"], seed=seed)
            found |= rate.named(f"{policy}.finished")
    return found
