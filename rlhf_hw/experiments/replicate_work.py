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
STARTS = {"sft": "base", "dpo": "sft"}  # what a policy was trained from


@dataclass(frozen=True)
class AnswerSettings:
    """How policies are asked and reward models score; it travels to the workers.

    Attributes:
        limits: `max_prompt_tokens` and `max_reply_tokens` of the renderers.
        dtype: Of scoring, "auto", "bf16" or "fp32".
        sampling: Passed to `generation.generate`.
        best_of: Samples of the SFT policy to each of `best_of_prompts` validation prompts; 0 for none.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "auto"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    best_of: int = 0
    best_of_prompts: int = 0


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

    Each prompt is computed once for all replies to it.
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
        found = reward_model.score(texts, groups)
        parts = np.split(found, np.cumsum(each)[:-1], axis=1)
        scores |= {key: part.ravel() for key, part in zip(keys, parts, strict=True)}
    return scores


def divergences(
    checkpoints: Checkpoints,
    prompts: Prompts,
    written: Mapping[tuple[str, str], list[Reply]],
    settings: AnswerSettings,
) -> dict[tuple[str, str], np.ndarray]:
    """How far one replicate's policies have moved from where they started, and DPO's implicit rewards.

    Args:
        checkpoints: "base", "sft" and "dpo".
        prompts: Set -> prompts.
        written: (set, policy) -> the replies as drawn.
        settings: For `limits` and `dtype`.

    Returns:
        (set, "sft_base" and so on) -> exact KL on the first policy's replies, shape (prompts,); and
        ("validation", "implicit") -> log(dpo / sft) of the DPO reply minus that of the SFT reply,
        which is the change of DPO's implicit reward but for the factor beta.
    """
    names = ("base", *STARTS)
    policies = {name: load_policy(checkpoints[name]).to(pick_device()) for name in names}
    renderer = Renderer.load(checkpoints["dpo"], **settings.limits)
    pad, found = renderer.pad_id, {}
    sets = list(dict.fromkeys(name for name, _ in written))
    sizes = [len(prompts[name]) for name in sets]
    ids = renderer.prompt_ids([prompt for name in sets for prompt in prompts[name]])
    drawn = {policy: [reply.ids for name in sets for reply in written[name, policy]] for policy in names}
    for first, second in (*STARTS.items(), ("dpo", "base")):
        groups = group_tokens(ids, [[reply] for reply in drawn[first]])
        kl = exact_kl(policies[first], policies[second], groups, pad, settings.dtype)[:, 0]
        parts = np.split(kl, np.cumsum(sizes)[:-1])
        found |= {(name, f"{first}_{second}"): part for name, part in zip(sets, parts, strict=True)}
    both = reply_groups(renderer, prompts["validation"], [written["validation", p] for p in STARTS])
    ratios = [log_probs_groups(policies[p], both, pad, settings.dtype) for p in ("dpo", "sft")]
    implicit = ratios[0] - ratios[1]
    found["validation", "implicit"] = implicit[:, 1] - implicit[:, 0]
    return found


def reply_groups(
    renderer: Renderer, prompts: Sequence, replies: Sequence[Sequence[Reply]]
) -> TokenizedGroups:
    """Several replies to each prompt as tokens, exactly as drawn: a cut reply has no end token."""
    each = [[reply.ids for reply in group] for group in zip(*replies, strict=True)]
    return group_tokens(renderer.prompt_ids(prompts), each)
