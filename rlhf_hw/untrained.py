"""The reward model before training: many random heads on the base model's hidden states.

An untrained reward model is a random linear read-out of the last hidden state, r = w . h. A single draw of w
is no "model that knows nothing": it follows one random direction, which may go with length, style or quality
in either sense, and these with the preference. What can be said of *the* untrained model is the average over
draws, with an interval that resamples the draws too (`metrics.random_heads_accuracy`). The hidden states are
computed once; a head is one matrix product.

    margins, prompts = head_margins(RewardModel(base, seed=seed), preferences, heads=32, seed=seed)
    random_heads_accuracy(margins, prompts)
"""

from collections.abc import Sequence

import numpy as np
import torch

from rlhf_hw.batches import tokenize_preferences
from rlhf_hw.models import random_head
from rlhf_hw.scoring import RewardModel, end_states
from rlhf_hw.templates import Preference


def random_heads(width: int, heads: int, seed: int = 0) -> np.ndarray:
    """Heads as `models.load_reward_model` draws them from `seed`, `seed + 1`, ..., shape (width, heads)."""
    return torch.cat([random_head(width, seed + n) for n in range(heads)]).numpy().T


def head_margins(
    base: RewardModel, preferences: Sequence[Preference], heads: int = 32, seed: int = 0
) -> tuple[np.ndarray, list[tuple]]:
    """Margins of the pairs under random heads.

    Args:
        base: the base model, loaded as a reward model with a random head.
        preferences: the pairs; those that truncation makes equal are left out.
        heads: number of draws.
        seed: of the first; with that of `base` the first head is the one `base` scores with.

    Returns:
        Margins, shape (pairs, heads), and the prompt of each pair.
    """
    groups, kept, _ = tokenize_preferences(preferences, base.renderer)
    states = end_states(base.model, groups, base.renderer.pad_id, base.dtype)
    difference = states[:, 0].astype(float) - states[:, 1]
    return difference @ random_heads(states.shape[-1], heads, seed), [preferences[k].prompt for k in kept]
