"""The gaps and the planted trials of one replicate: its reward model, and the replies that it scored.

Each replicate is a training of its own, so this is done once for each, side by side:

    plans = [GapPlan(reward_model=..., replies=..., pairs=...) for k in range(replicates)]
    measured = in_workers(measure_replicate, [(plan,) for plan in plans])
    found = take_apart(measured)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhf_hw.experiments.score_gap.faults import make_faults, make_items
from rlhf_hw.experiments.score_gap.instruments import instruments_for
from rlhf_hw.experiments.score_gap.planted_trials import Trial, run_trials
from rlhf_hw.experiments.score_gap.policy_gap import PolicyGap, measure_gap, price_from_pairs
from rlhf_hw.experiments.score_gap.world_faults import make_world_faults
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.score_files import read_pairs, read_replies
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.world.gold import gold


@dataclass(frozen=True, kw_only=True)
class GapPlan:
    """What one replicate's gaps are measured on.

    Attributes:
        reward_model: Its checkpoint.
        replies: Policy ("base", "sft", "dpo") -> score file of its replies, scored by this reward model.
        pairs: Score file of ordinary pairs, which tell its price of gold.
        held_out: Data set, template and split whose prompts were answered; trials are made of its pairs.
        familiar: Arguments of `load_preferences` for pairs that the reward model was trained on: data set,
            template, split, how many (None: all), after how many others.
        world: The true reward is known.
        limits: Tokens of a prompt and of a reply.
        dtype: "auto", "bf16" or "fp32".
        trials: Planted trials of each fault; prompts: of a trial.
        number: Of the replicate; each has trials with prompts of its own.
        seed: Of the choice of prompts, the same for all replicates.
    """

    reward_model: Path
    replies: Mapping[str, Path]
    pairs: Path
    held_out: tuple[str, str, str]
    familiar: tuple[str, str, str, int | None, int]
    world: bool
    limits: tuple[int, int]
    dtype: str
    trials: int
    prompts: int
    number: int = 0
    seed: int = 0


@dataclass(frozen=True)
class ReplicateGaps:
    """What one replicate shows.

    Attributes:
        gaps: Policy -> its gap to the references.
        price: Points that the reward model pays for a unit of gold, or None.
        trials: With planted faults, and without.
        end_names: Names of the tokens at which scores were read, by side.
    """

    gaps: dict[str, PolicyGap]
    price: float | None
    trials: list[Trial]
    end_names: dict[str, list[str]]


def measure_replicate(plan: GapPlan) -> ReplicateGaps:
    """Measure the gaps of one replicate's policies, and try the same instruments on planted faults."""
    prompt_tokens, reply_tokens = plan.limits
    model = RewardModel(
        plan.reward_model, plan.dtype, max_prompt_tokens=prompt_tokens, max_reply_tokens=reply_tokens
    )
    held_out, _ = load_preferences(*plan.held_out)
    familiar, _ = load_preferences(*plan.familiar)
    price = price_from_pairs(read_pairs(plan.pairs)) if plan.world else None
    instruments = instruments_for(model, familiar, gold if plan.world else None, price)
    gaps = {
        policy: measure_gap(instruments, model.renderer, read_replies(path), held_out)
        for policy, path in plan.replies.items()
    }
    items = make_items(model.renderer, own_prompts(held_out, plan), plan.seed)
    faults = make_faults(model.renderer, items, instruments.ends)
    faults += make_world_faults(model.renderer, items, plan.seed) if plan.world else []
    trials = run_trials(items, faults, instruments, trials=plan.trials, prompts=plan.prompts)
    names = model.renderer.tokenizer.convert_ids_to_tokens
    read_at = {
        side: sorted({name for gap in gaps.values() for name in names(list(gap.read_at(side)))})
        for side in ("generated", "reference")
    }
    return ReplicateGaps(gaps, price, trials, read_at)


def own_prompts(held_out: Sequence[Preference], plan: GapPlan) -> list[Preference]:
    """The pairs of this replicate's trials: others than those of other replicates, where there are enough."""
    usable = [p for p in held_out if p.chosen.strip() and p.rejected.strip()]
    order = np.random.default_rng(plan.seed).permutation(len(usable))
    count = min(plan.trials * plan.prompts, len(usable))
    return [usable[order[n % len(usable)]] for n in range(plan.number * count, (plan.number + 1) * count)]
