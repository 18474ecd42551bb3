"""What DPO did to the probabilities of held-out pairs: order, change of each reply, displacement.

The log-ratio of a reply is log pi(y|x) - log pi_start(y|x), summed over its tokens, where pi_start is what
DPO began from; times beta it is the implicit reward (Rafailov et al. 2023). If the chosen replies' mean
log-ratio is negative, training has made the very replies it was shown as good less likely: likelihood
displacement (Razin et al. 2025).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.loading import load_policy, pick_device
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.replicates import beyond, replicated_mean, replicated_rate
from rlhf_hw.training.reference import reference_log_probs


def log_ratios(
    policy: Path,
    start: Path,
    preferences: Sequence[Preference],
    limits: Mapping[str, int],
    dtype: str = "auto",
) -> np.ndarray:
    """Log-ratios of both replies of pairs, in nats, shape (pairs, 2); pairs made equal by truncation are out.

    Args:
        policy, start: Checkpoints.
        preferences: The pairs.
        limits: max_prompt_tokens and max_reply_tokens.
        dtype: "auto", "bf16" or "fp32".
    """
    renderer = Renderer.load(policy, **limits)
    groups, _, _ = tokenize_preferences(preferences, renderer)
    before = reference_log_probs(start, groups, renderer.pad_id, dtype)
    return log_probs_groups(load_policy(policy).to(pick_device()), groups, renderer.pad_id, dtype) - before


def describe_ratios(ratios: Sequence[np.ndarray], beta: float) -> Result:
    """Numbers of held-out pairs over the replicates.

    Args:
        ratios: From `log_ratios`, one a replicate, same pairs.
        beta: DPO's.

    Returns:
        Under `dpo.held_out`, with intervals over pairs and over trainings: accuracy (share of pairs whose
        chosen reply has the higher implicit reward), margin (of implicit rewards), chosen_logp_change and
        rejected_logp_change (nats a reply); loss (DPO's, nats a pair); pairs. Claims: displacement,
        no_displacement.
    """
    table = np.stack(ratios)  # (replicates, pairs, 2)
    margins = table[..., 0] - table[..., 1]
    right = np.stack([outcomes(row) for row in margins])
    numbers = replicated_rate(right).named("accuracy") | replicated_mean(beta * margins).named("margin")
    numbers["loss"] = float(np.logaddexp(0, -beta * margins).mean())
    for column, side in enumerate(("chosen", "rejected")):
        numbers |= replicated_mean(table[..., column]).named(f"{side}_logp_change")
    side = beyond(numbers, "chosen_logp_change")
    return Result(
        metrics=prefixed("dpo.held_out", numbers | {"pairs": table.shape[1]}),
        claims={"displacement": side < 0, "no_displacement": side > 0},
    )
