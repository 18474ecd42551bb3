"""What each step of the training brought: SFT over the base model, DPO over SFT, both together.

Policies that answered the same prompts are compared pair by pair, over all replicates. Every number carries
two intervals, one over prompts and one over trainings (module `stats.replicates`), and a claim stands only
beyond both.

    values = step_values(tables["dpo"], tables["sft"])      # measure -> shape (replicates, prompts)
    step_metrics(values, prompts)["gold_difference"]
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from rlhf_hw.experiments.answers import JUDGE, gold_of, meta_column
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.length_control import length_controlled_win_rate
from rlhf_hw.stats.replicates import beyond, replicated, replicated_mean, replicated_rate
from rlhf_hw.stats.text import words

Replicates = Sequence[pd.DataFrame]  # one table of scored replies each, to the same prompts in one order
Parts = Callable[[str, str], Mapping[str, float]]  # (prompt, reply) -> parts of gold, in its units
STEPS = {"sft_base": ("sft", "base"), "dpo_sft": ("dpo", "sft"), "dpo_base": ("dpo", "base")}
BESIDE_REFERENCE = {f"{p}_reference": (p, "reference") for p in ("base", "sft", "dpo")}
PAIRS = STEPS | BESIDE_REFERENCE
# whom a claim is about; "dpo" alone always means: over SFT
SUBJECTS = {"sft": "sft_base", "dpo": "dpo_sft", "dpo_over_base": "dpo_base"}
JUDGES = ("score", "judge", "gold")  # the reward model, that of other pairs and seed, the truth


def replies_by(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What is known of scored replies, by judge and for their length in words; each of shape (replies,)."""
    known = {"score": table["score"].to_numpy(float), "length": word_counts(table["response"])}
    known |= {"judge": meta_column(table, JUDGE), "gold": gold_of(table)}
    return {name: values for name, values in known.items() if values is not None}


def word_counts(texts: Sequence[str]) -> np.ndarray:
    """Words of each text, shape (texts,); a Chinese character is a word."""
    return np.array([len(words(text)) for text in texts])


def step_values(
    first: Replicates, second: Replicates, kl: np.ndarray | None = None, parts: Parts | None = None
) -> dict[str, np.ndarray]:
    """Differences of the replies of two policies, prompt by prompt.

    Args:
        first, second: Scored replies of each replicate.
        kl: Divergence of the first policy from the second, shape (replicates, prompts) of all prompts or the
            first of them, or None.
        parts: What gold consists of, or None.

    Returns:
        `score`, `length`, and where they are known `judge`, `gold`, `kl` and `gold_<part>`: first minus
        second, each of shape (replicates, prompts).
    """
    sides = [[replies_by(table) for table in side] for side in (first, second)]
    names = [name for name in sides[0][0] if all(name in known for side in sides for known in side)]
    values = {
        name: np.array([a[name] - b[name] for a, b in zip(*sides, strict=True)], dtype=float)
        for name in names
    }
    if kl is not None:
        values["kl"] = np.asarray(kl, dtype=float)
    if parts is not None and "gold" in values:
        ours, theirs = ([part_table(table, parts) for table in side] for side in (first, second))
        for name in ours[0]:
            change = [a[name] - b[name] for a, b in zip(ours, theirs, strict=True)]
            values[f"gold_{name}"] = np.array(change, dtype=float)
    return values


def part_table(table: pd.DataFrame, parts: Parts) -> pd.DataFrame:
    """The parts of gold of each reply, one column a part."""
    return pd.DataFrame([parts(p, r) for p, r in zip(table["prompt"], table["response"], strict=True)])


def step_metrics(values: Mapping[str, np.ndarray], prompts: Sequence, *, seed: int = 0) -> dict[str, float]:
    """The numbers of one step with both intervals.

    Args:
        values: From `step_values`.
        prompts: Prompt of each row.
        seed: Of resampling.

    Returns:
        For each judge `<judge>_difference` and its win rate (`win_rate`, `judge_win_rate`,
        `gold_win_rate`), for the judge beside the reward model `win_rate_beyond_judge`, the difference of
        their win rates; `length_difference` in words, `kl` in nats a reply, `gold_<part>` in units of gold;
        `prompts`, their number.
    """
    found: dict[str, float] = {"prompts": values["score"].shape[1]}
    won = {name: np.array([outcomes(row) for row in values[name]]) for name in JUDGES if name in values}
    for name, rates in won.items():
        key = "win_rate" if name == "score" else f"{name}_win_rate"
        found |= replicated_rate(rates, prompts, seed=seed).named(key)
    if "judge" in won:
        more = won["score"] - won["judge"]
        found |= replicated_mean(more, prompts, seed=seed).named("win_rate_beyond_judge")
    for name, change in values.items():
        whole = name == "kl" or name.startswith("gold_")
        key = name if whole else f"{name}_difference"
        found |= replicated_mean(change, prompts[: change.shape[1]], seed=seed).named(key)
    return found


def at_equal_length(
    first: Replicates, second: Replicates, prompts: Sequence, *, judge: str = "score", seed: int = 0
) -> dict[str, float]:
    """Length-controlled win rate of the first policy by score, or by the `judge`: of all replicates together,
    and its two intervals; `judge_` stands before the latter's key."""

    def rate(k: slice) -> dict[str, float]:
        sides = [[replies_by(table) for table in side[k]] for side in (first, second)]
        columns = [np.concatenate([one[name] for one in s]) for name in (judge, "length") for s in sides]
        return length_controlled_win_rate(*columns, list(prompts) * len(sides[0]), seed=seed)

    key = "win_rate_length_controlled"
    alone = [rate(slice(k, k + 1))[key] for k in range(len(first))] if len(first) > 1 else []
    together = Estimate.of(rate(slice(None)), key)
    known = replicated(together, alone or [together.value])
    if known.trainings is not None:  # of a rate
        low, high = np.clip(known.trainings[1:], 0, 1)
        known = known._replace(trainings=Estimate(known.value, float(low), float(high)))
    return known.named(key if judge == "score" else f"{judge}_{key}")


def by_both_at_equal_length(
    first: Replicates, second: Replicates, prompts: Sequence, *, seed: int = 0
) -> dict[str, float]:
    """`at_equal_length` by the reward model and, where it scored the replies, by the judge."""
    judged = all(meta_column(table, JUDGE) is not None for side in (first, second) for table in side)
    found: dict[str, float] = {}
    for judge in ("score", "judge") if judged else ("score",):
        found |= at_equal_length(first, second, prompts, judge=judge, seed=seed)
    return found


def step_claims(steps: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """What the numbers of the steps allow to say, beyond both intervals.

    Args:
        steps: Pair ("dpo_sft") -> numbers of `step_metrics`, for the pairs that there are.

    Returns:
        For SFT (over base), `dpo` (over SFT) and `dpo_over_base`: `<who>_raises_<judge>`,
        `<who>_lowers_<judge>`, `<who>_<judge>_open`, `<who>_longer`, `<who>_shorter`,
        `<who>_win_rate_beyond_judge`, and at equal length `<who>_length_controlled_survives` by score,
        `<who>_judge_length_controlled_survives` by the judge. For each policy
        `<policy>_above_reference_by_<judge>`, `<policy>_below_reference_by_<judge>`, and
        `dpo_above_reference_by_score_below_by_gold`.
    """
    claims = {}
    for who, pair in SUBJECTS.items():
        if pair not in steps:
            continue
        numbers = steps[pair]
        for judge in [name for name in JUDGES if f"{name}_difference" in numbers]:
            side = beyond(numbers, f"{judge}_difference")
            claims |= {f"{who}_raises_{judge}": side > 0, f"{who}_lowers_{judge}": side < 0}
            claims[f"{who}_{judge}_open"] = side == 0
        longer = beyond(numbers, "length_difference")
        claims |= {f"{who}_longer": longer > 0, f"{who}_shorter": longer < 0}
        if "win_rate_beyond_judge" in numbers:
            claims[f"{who}_win_rate_beyond_judge"] = beyond(numbers, "win_rate_beyond_judge") > 0
        for judge in [j for j in ("", "judge_") if f"{j}win_rate_length_controlled" in numbers]:
            survives = beyond(numbers, f"{judge}win_rate_length_controlled", 0.5) > 0
            claims[f"{who}_{judge}length_controlled_survives"] = survives
    for pair in [name for name in BESIDE_REFERENCE if name in steps]:
        policy, numbers = pair.removesuffix("_reference"), steps[pair]
        for judge in [name for name in JUDGES if f"{name}_difference" in numbers]:
            side = beyond(numbers, f"{judge}_difference")
            claims[f"{policy}_above_reference_by_{judge}"] = side > 0
            claims[f"{policy}_below_reference_by_{judge}"] = side < 0
    parted = ("dpo_above_reference_by_score", "dpo_below_reference_by_gold")
    claims["dpo_above_reference_by_score_below_by_gold"] = all(claims.get(name) for name in parted)
    return claims
