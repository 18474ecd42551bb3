"""One held-out pair for a reader to follow by hand: DPO's loss from four log-probabilities, and gold's parts.

The pair is the first one, not one that was picked. Texts are kept in the simulated world only, where none
can offend.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.loading import load_policy, pick_device
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.losses import dpo, implicit_rewards
from rlhf_hw.world.gold import SCALE, gold, gold_parts

SIDES = ("chosen", "rejected")


def worked_example(
    policy: Path,
    reference: Path,
    preferences: Sequence[Preference],
    beta: float,
    limits: Mapping[str, int],
    dtype: str = "auto",
    world: bool = False,
) -> Result:
    """What the first pair's loss is made of.

    Args:
        policy, reference: Checkpoints: DPO's policy, and what it began from.
        preferences: Pairs; the first counts.
        beta: DPO's.
        limits: max_prompt_tokens and max_reply_tokens.
        dtype: "auto", "bf16" or "fp32".
        world: The pair is of the simulated world.

    Returns:
        Under `worked`: `policy_<side>` and `reference_<side>` (log-probabilities of a whole reply, nats),
        `reward_<side>` (implicit), their difference `margin`, `loss`. In the world also the texts and
        `gold.<part>.<side>` of the parts that are not zero in both, in points, with `total`, `gold` and
        `scale`.
    """
    pair = preferences[0]
    renderer = Renderer.load(policy, **limits)
    groups, _, _ = tokenize_preferences([pair], renderer)
    found = {
        name: torch.as_tensor(
            log_probs_groups(load_policy(model).to(pick_device()), groups, renderer.pad_id, dtype)
        )
        for name, model in (("policy", policy), ("reference", reference))
    }
    found["reward"] = implicit_rewards(found["policy"], found["reference"], beta)
    numbers = {
        f"{name}_{side}": row[0, k].item() for name, row in found.items() for k, side in enumerate(SIDES)
    }
    numbers["margin"] = numbers["reward_chosen"] - numbers["reward_rejected"]
    numbers["loss"] = dpo(found["policy"], found["reference"], beta).item()
    return Result(metrics=prefixed("worked", numbers | (_in_the_world(pair) if world else {})))


def _in_the_world(pair: Preference) -> dict[str, float | str]:
    """The pair's texts, and what gold finds in its replies."""
    replies = {"chosen": pair.chosen, "rejected": pair.rejected}
    found: dict[str, float | str] = {"prompt": pair.question, **replies, "scale": SCALE}
    parts = {side: gold_parts(pair.question, reply) for side, reply in replies.items()}
    for side, reply in replies.items():
        found |= {
            f"gold.{part}.{side}": points for part, points in parts[side].items() if _either(parts, part)
        }
        found |= {
            f"gold.total.{side}": sum(parts[side].values()),
            f"gold.gold.{side}": gold(pair.question, reply),
        }
    return found


def _either(parts: Mapping[str, Mapping[str, float]], part: str) -> bool:
    return any(found[part] for found in parts.values())
