"""Damage of all replies that an experiment compares, and what its win rates are without the damaged ones.

found = damage_of_sets(sets)                    # every generated file of notebook 05
found.metrics["damage.validation.dpo.share"], found.tables["damage"]
"""

from collections.abc import Iterator, Mapping

import numpy as np

from rlhf_hw.experiments.reply_damage import named_rows, table_damage
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.steps import STEPS, Replicates, step_values
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.damage import damaged_rows
from rlhf_hw.stats.replicates import replicated_rate

# whose replies a policy's are held against, beside the references
OTHERS = {"base": ("dpo", "sft"), "sft": ("base",), "dpo": ("base",)}


def damage_of_sets(sets: Mapping[str, Mapping[str, Replicates]], seed: int = 0) -> Result:
    """Check every generated file: those of base, SFT and DPO, of each replicate and set of prompts.

    Args:
        sets: Set -> "base", "dpo" and perhaps "sft" and "reference" -> scored replies of each replicate.
        seed: Of resampling.

    Returns:
        Metrics `damage.files` (checked), `damage.signs` (files by sign that is damage),
        `damage.<set>.<policy>.share` (of damaged replies, mean over replicates), and where validation prompts
        have damaged replies, `damage.validation.<pair>.win_rate` without them, in both intervals, and
        `.prompts`, how many are left. Table `damage`: what is named, one row a file and sign.
    """
    metrics, rows, damaged = {"damage.files": 0}, [], {}
    for name, policy, number, mine, others in _files(sets):
        findings = table_damage(mine, *others)
        damaged.setdefault((name, policy), []).append(damaged_rows(findings, len(mine)))
        rows += named_rows(findings, set=name, policy=policy, training=number + 1)
        metrics["damage.files"] += 1
    metrics["damage.signs"] = sum(row["damage"] for row in rows)
    for (name, policy), masks in damaged.items():
        metrics[f"damage.{name}.{policy}.share"] = float(np.mean([mask.mean() for mask in masks]))
    metrics |= _without_damage(sets["validation"], damaged, seed)
    return Result(metrics=metrics, tables={"damage": rows} if rows else {})


def _files(sets: Mapping[str, Mapping[str, Replicates]]) -> Iterator[tuple]:
    """Set, policy, number of the replicate, its replies, and those to hold them against."""
    for name, policies in sets.items():
        for policy in [one for one in OTHERS if one in policies]:
            beside = next((other for other in OTHERS[policy] if other in policies), None)
            against = [policies[one] for one in (beside, "reference") if one in policies]
            seen: list[list[str]] = []
            for number, mine in enumerate(policies[policy]):
                texts = mine["response"].tolist()
                if texts not in seen:  # the base model's replies are the same in all replicates
                    seen.append(texts)
                    yield name, policy, number, mine, [tables[number] for tables in against]


def _without_damage(
    policies: Mapping[str, Replicates], damaged: Mapping[tuple[str, str], list[np.ndarray]], seed: int
) -> dict[str, float]:
    """Win rates on the validation prompts whose replies are sound in all trainings, where some are not."""
    found = {}
    for pair, both in STEPS.items():
        if not all(policy in policies for policy in both):
            continue
        sound = ~np.any([mask for policy in both for mask in damaged["validation", policy]], axis=0)
        if sound.all() or not sound.any():
            continue
        first, second = ([t[sound].reset_index(drop=True) for t in policies[policy]] for policy in both)
        won = np.array([outcomes(row) for row in step_values(first, second)["score"]])
        rate = replicated_rate(won, first[0]["prompt_key"], seed=seed)
        numbers = rate.named("win_rate") | {"prompts": int(sound.sum())}
        found |= prefixed(f"damage.validation.{pair}", numbers)
    return found
