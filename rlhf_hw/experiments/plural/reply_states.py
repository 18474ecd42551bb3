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
from rlhf_hw.workers import in_workers

SHARE = 500  # comparisons that one process reads before it takes the next
DIRECTIONS = 48  # of the states that are kept: those in which replies differ most


def found_model(model: str) -> str:
    """A folder, looked up from the project's root, as an absolute path; a hub id as it is."""
    folder = resolve(model)
    return str(folder) if folder.exists() else model


def frozen_reader(model: str, limits: Mapping[str, Any], dtype: str) -> RewardModel:
    """The model whose states stand for texts."""
    return RewardModel(found_model(model), dtype=dtype, untrained=True, **limits)


def states_of_pairs(
    reader: RewardModel, preferences: Sequence[Preference]
) -> tuple[list[Preference], np.ndarray, np.ndarray]:
    """Comparisons as the reader sees them; what truncation makes equal is left out.

    Returns:
        Those that are left, P of them; last hidden states at the end tokens, the chosen reply's first, shape
        (P, 2, D); whether the chosen reply is the row's second, shape (P,).
    """
    groups, kept, _ = tokenize_preferences(preferences, reader.renderer)
    states = end_states(reader.model, groups, reader.renderer.pad_id, reader.dtype).astype(float)
    rows = [preferences[k] for k in kept]
    return rows, states, np.array([in_order(row)[0] != row.chosen for row in rows])


def main_directions(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of states, shape (N, D) to (D,), and the directions in which they differ most, (D, 48)."""
    middle = states.mean(axis=0)
    return middle, np.linalg.svd(states - middle, full_matrices=False)[2][:DIRECTIONS].T


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
    found: list[WorldPairs] = []
    middle = directions = None
    shares = [[part[k : k + SHARE] for k in range(0, len(part), SHARE)] for part in sets]
    calls = [(model, share, limits, dtype) for parts in shares for share in parts]
    read = iter(in_workers(_read_share, calls, "reading"))
    for parts in shares:
        each = [next(read) for _ in parts]
        rows = [row for one in each for row in one[0]]
        states, turned = (np.concatenate([one[place] for one in each]) for place in (1, 2))
        if directions is None:
            middle, directions = main_directions(states.reshape(-1, states.shape[-1]))
        tables = (states - middle) @ directions
        first, second = np.where(turned[:, None, None], tables[:, ::-1], tables).transpose(1, 0, 2)
        found.append(WorldPairs.of(rows, found[0].scale if found else None, (first, second)))
    return found


def _read_share(
    model: str, preferences: Sequence[Preference], limits: Mapping[str, Any], dtype: str
) -> tuple[list[Preference], np.ndarray, np.ndarray]:
    return states_of_pairs(frozen_reader(model, limits, dtype), preferences)
