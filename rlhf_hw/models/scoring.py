"""A reward model that scores: rewards of replies, given as text or as token ids.

    RewardModel("runs/nano/reward_model").score(prompts, replies)  ->  array of shape (prompts, replies)

Each prompt is computed once for all of its replies, in batches of similar length.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from rlhf_hw.errors import InputError
from rlhf_hw.models.batches import TokenizedGroups, group_tokens, tokenize_preferences
from rlhf_hw.models.forward import inference, over_groups, score_batch
from rlhf_hw.models.loading import load_reward_model, pick_device
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.score_files import prompt_fields
from rlhf_hw.preferences.templates import Message, Preference


def score_groups(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, dtype: str = "auto"
) -> np.ndarray:
    """Rewards of tokenized replies.

    Args:
        model: A reward model.
        groups: G prompts with K replies each.
        pad_id: The tokenizer's padding id.
        dtype: "auto", "bf16" or "fp32".

    Returns:
        Rewards, shape (G, K).

    Raises:
        InputError: a reward is not finite, which a damaged model gives.
    """
    with inference(model, dtype):
        scores = over_groups(model, groups, pad_id, score_batch, "none", "scoring")
    if count := int((~np.isfinite(scores)).sum()):
        raise InputError(
            f"{model.config.name_or_path}: {count} of {scores.size} scores are not finite; look at "
            "config.json there, or take another checkpoint"
        )
    return scores


class RewardModel:
    """A reward model with its renderer: scores conversations and replies given as text.

    Args:
        path: Checkpoint folder or hub id.
        dtype: "auto", "bf16" or "fp32".
        seed: Seed of a random head.
        reads_at: For another system's model, where it reads its score, see `models.foreign`.
        untrained: Whether a model without a head gets a random one.
        limits: `max_prompt_tokens`, `max_reply_tokens` of the renderer.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: str = "auto",
        seed: int = 0,
        reads_at: str | None = None,
        untrained: bool = False,
        **limits: int,
    ):
        self.path, self.dtype = str(path), dtype
        self.renderer = Renderer.load(path, reads_at=reads_at, **limits)
        self.model = load_reward_model(path, seed=seed, untrained=untrained).to(pick_device())

    def tokenize(
        self, prompts: Sequence[Sequence[Message]], replies: Sequence[Sequence[str]]
    ) -> TokenizedGroups:
        """Render G prompts with K replies each."""
        flat = iter(self.renderer.reply_ids([text for group in replies for text in group]))
        return group_tokens(self.renderer.prompt_ids(prompts), [[next(flat) for _ in g] for g in replies])

    def score(self, prompts: Sequence[Sequence[Message]], replies: Sequence[Sequence[str]]) -> np.ndarray:
        """Rewards of G prompts with K replies each, shape (G, K)."""
        return score_groups(self.model, self.tokenize(prompts, replies), self.renderer.pad_id, self.dtype)

    def score_ids(self, prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> np.ndarray:
        """Rewards of replies given as ids, one a prompt, shape (G,); read at each reply's last token."""
        groups = group_tokens(prompts, [[r] for r in replies])
        return score_groups(self.model, groups, self.renderer.pad_id, self.dtype)[:, 0]

    def score_preferences(self, preferences: Sequence[Preference]) -> list[dict]:
        """Score pairs; returns one record each in the layout of pair score files (see `score_files`)."""
        return list(self.score_places(preferences).values())

    def score_places(self, preferences: Sequence[Preference]) -> dict[int, dict]:
        """The records of `score_preferences` by place; pairs that truncation makes equal have none."""
        groups, kept, _ = tokenize_preferences(preferences, self.renderer)
        scores = score_groups(self.model, groups, self.renderer.pad_id, self.dtype)
        rows = pair_records([preferences[k] for k in kept], groups, scores)
        return dict(zip(kept.tolist(), rows, strict=True))


def pair_records(
    preferences: Sequence[Preference], groups: TokenizedGroups, scores: np.ndarray
) -> list[dict]:
    """Records of scored pairs in the layout of pair score files (see `score_files`).

    Args:
        preferences: The pairs.
        groups: The same, tokenized.
        scores: Of chosen and rejected reply, shape (pairs, 2).
    """
    lengths = groups.reply_lengths
    return [
        {
            "id": p.row,
            **prompt_fields(p.prompt, p.question),
            "chosen": p.chosen,
            "rejected": p.rejected,
            "chosen_score": float(scores[i, 0]),
            "rejected_score": float(scores[i, 1]),
            "chosen_tokens": int(lengths[i, 0]),
            "rejected_tokens": int(lengths[i, 1]),
            "meta": dict(p.meta),
        }
        for i, p in enumerate(preferences)
    ]
