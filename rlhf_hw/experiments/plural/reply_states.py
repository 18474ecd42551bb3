"""Replies as a language model reads them: features for reward models that nobody has told what counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlhf_hw.experiments.plural.crowd import WorldPairs, in_order
from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.paths import resolve
from rlhf_hw.preferences.templates import Preference

DIRECTIONS = 48  # of the states that are kept: those in which replies differ most


def pairs_of_states(
    model: str, sets: Sequence[Sequence[Preference]], limits: Mapping[str, Any], dtype: str = "auto"
) -> list[WorldPairs]:
    """`WorldPairs` whose features are the model's last hidden states at each reply's end token.

    Args:
        model: Folder, from the project's root, or hub id of a checkpoint; its weights stay as they are.
        sets: Comparisons of the world: directions and scale are those of the first set's replies. What
            truncation makes equal is left out.
        limits: `max_prompt_tokens`, `max_reply_tokens`.
        dtype: "auto", "bf16" or "fp32".
    """
    folder = resolve(model)
    reader = RewardModel(folder if folder.exists() else model, dtype=dtype, untrained=True, **limits)
    found: list[WorldPairs] = []
    middle = directions = None
    for preferences in sets:
        groups, kept, _ = tokenize_preferences(preferences, reader.renderer)
        states = end_states(reader.model, groups, reader.renderer.pad_id, reader.dtype).astype(float)
        rows = [preferences[k] for k in kept]
        if directions is None:
            flat = states.reshape(-1, states.shape[-1])
            middle = flat.mean(axis=0)
            directions = np.linalg.svd(flat - middle, full_matrices=False)[2][:DIRECTIONS].T
        tables = (states - middle) @ directions
        turned = np.array([in_order(row)[0] != row.chosen for row in rows])
        first, second = np.where(turned[:, None, None], tables[:, ::-1], tables).transpose(1, 0, 2)
        found.append(WorldPairs.of(rows, found[0].scale if found else None, (first, second)))
    return found
