"""The work that each replicate needs done once, as functions of checkpoints that worker processes can run.

Sampling replies, scoring them, and measuring how far policies have moved; `experiments.answers` hands it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_hw.models.batches import TokenizedGroups, group_tokens
from rlhf_hw.models.generation import Reply, generate
from rlhf_hw.models.loading import load_policy, pick_device
from rlhf_hw.models.log_probs import exact_kl, log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Message

Checkpoints = Mapping[str, Path]  # "sft", "dpo" and "reward_model" of one replicate
Prompts = Mapping[str, Sequence[Sequence[Message]]]  # set -> conversations
TOGETHER = 4  # replies behind one copy of their prompt: each also pays for masked places of the others
STARTS = {"sft": "base", "dpo": "sft"}  # what a policy was trained from


@dataclass(frozen=True)
class AnswerSettings:
    """How policies are asked and reward models score; it travels to the workers.

    Attributes:
        limits: `max_prompt_tokens` and `max_reply_tokens` of the renderers.
        dtype: Of scoring, "auto", "bf16" or "fp32".
        sampling: Passed to `generation.generate`.
        best_of: Samples of the SFT policy to each of `best_of_prompts` validation prompts; 0 for none.
        kl_prompts: Validation prompts on which divergences are measured; 0 for all.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "auto"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    best_of: int = 0
    best_of_prompts: int = 0
    kl_prompts: int = 0


def sample_sets(
    checkpoint: Path, sets: Prompts, samples: int, settings: AnswerSettings
) -> dict[str, list[Reply]]:
    """Replies of one policy to several sets of prompts, `samples` to each prompt, drawn together."""
    model = load_policy(checkpoint).to(pick_device())
    renderer = Renderer.load(checkpoint, **settings.limits)
    prompts = [prompt for texts in sets.values() for prompt in texts]
    replies = iter(generate(model, renderer, prompts, samples=samples, **settings.sampling))
    return {name: [next(replies) for _ in range(len(texts) * samples)] for name, texts in sets.items()}


def score_sets(
    checkpoint: Path, prompts: Prompts, written: Mapping, settings: AnswerSettings
) -> dict[tuple, np.ndarray]:
    """One reward model's scores of many replies, (set, policy, replicate) -> shape (replies,).

    Each prompt is computed once for several replies to it.
    """
    reward_model, scores = RewardModel(checkpoint, dtype=settings.dtype, **settings.limits), {}
    for name, texts in prompts.items():
        keys = [key for key in written if key[0] == name]
        each = [len(written[key]) // len(texts) for key in keys]
        groups = [
            [
                reply.text
                for key, n in zip(keys, each, strict=True)
                for reply in written[key][i * n : i * n + n]
            ]
            for i in range(len(texts))
        ]
        columns = np.array_split(np.arange(sum(each)), -(-sum(each) // TOGETHER))
        found = np.concatenate(
            [reward_model.score(texts, [[g[i] for i in part] for g in groups]) for part in columns], axis=1
        )
        parts = np.split(found, np.cumsum(each)[:-1], axis=1)
        scores |= {key: part.ravel() for key, part in zip(keys, parts, strict=True)}
    return scores


def divergences(
    checkpoints: Checkpoints,
    prompts: Sequence[Sequence[Message]],
    written: Mapping[str, list[Reply]],
    settings: AnswerSettings,
) -> dict[str, np.ndarray]:
    """How far one replicate's policies have moved from where they started, and DPO's implicit rewards.

    Args:
        checkpoints: "base", "sft" and "dpo".
        prompts: Conversations.
        written: Policy -> its replies to them, as drawn.
        settings: For `limits` and `dtype`.

    Returns:
        "sft_base", "dpo_sft", "dpo_base": exact KL on the first policy's replies; "implicit": log(dpo / sft)
        of the DPO reply minus that of the SFT reply, which is the change of DPO's implicit reward but for
        the factor beta. Each of shape (prompts,).
    """
    names = ("base", *STARTS)
    policies = {name: load_policy(checkpoints[name]).to(pick_device()) for name in names}
    renderer = Renderer.load(checkpoints["dpo"], **settings.limits)
    pad, found = renderer.pad_id, {}
    for first, second in (*STARTS.items(), ("dpo", "base")):
        groups = reply_groups(renderer, prompts, [written[first]])
        kl = exact_kl(policies[first], policies[second], groups, pad, settings.dtype)
        found[f"{first}_{second}"] = kl[:, 0]
    both = reply_groups(renderer, prompts, [written[policy] for policy in STARTS])
    ratios = [log_probs_groups(policies[policy], both, pad, settings.dtype) for policy in ("dpo", "sft")]
    implicit = ratios[0] - ratios[1]
    return found | {"implicit": implicit[:, 1] - implicit[:, 0]}


def reply_groups(
    renderer: Renderer, prompts: Sequence, replies: Sequence[Sequence[Reply]]
) -> TokenizedGroups:
    """Several replies to each prompt as tokens, exactly as drawn: a cut reply has no end token."""
    each = [[reply.ids for reply in group] for group in zip(*replies, strict=True)]
    return group_tokens(renderer.prompt_ids(prompts), each)
