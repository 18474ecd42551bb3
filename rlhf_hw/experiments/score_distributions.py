"""How the scores of chosen and rejected replies are distributed, before training and after it.

The reward model before training is many random heads on the base model's hidden states (`head_margins`). A
single draw of a head w, r = w . h, is no "model that knows nothing": it follows one random direction, which
may go with length, style or quality in either sense, and these with the preference. What can be said of *the*
untrained model is the average over draws, with an interval that resamples the draws too
(`stats.pairs.random_heads_accuracy`). The hidden states are computed once; a head is one matrix product.

    untrained = score_untrained(base, held_out, path)
    found = describe_scores({"untrained": untrained, "validation": ...}, head_margins(untrained))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.loading import random_head
from rlhf_hw.models.scoring import RewardModel, pair_records
from rlhf_hw.preferences.score_files import read_pairs, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.distributions import distribution_metrics
from rlhf_hw.stats.pairs import random_heads_accuracy
from rlhf_hw.stats.text import reply_table

SIDES = ("chosen", "rejected")
HEADS = "random_heads"  # in the `meta` of a score file of the untrained model


@dataclass(frozen=True, kw_only=True)
class ScoreDistributions(Result):
    """Scores of several sets of pairs, described.

    Attributes:
        numbers: By set, the keys of `distribution_metrics`.
        random_heads: The keys of `random_heads_accuracy`; empty without margins of random heads.
        by_length: By side, (scores, lengths, prompts) of the validation pairs.
        length_unit: Of these lengths.
    """

    numbers: dict[str, dict[str, float]]
    random_heads: dict[str, float]
    by_length: dict[str, tuple[pd.Series, pd.Series, pd.Series]]
    length_unit: str


def describe_scores(
    sets: Mapping[str, pd.DataFrame],
    heads: tuple[np.ndarray, Sequence] | None = None,
    seed: int = 0,
    *,
    beside: Result | None = None,
) -> ScoreDistributions:
    """Describe scored pairs.

    Args:
        sets: "untrained", "validation", "train" -> scored pairs; "validation" must be there.
        heads: From `head_margins`, or None.
        seed: Of resampling.
        beside: Another run on the same pairs, from `other_run.compare_runs`, or None.
    """
    numbers = {n: distribution_metrics(t["chosen_score"], t["rejected_score"]) for n, t in sets.items()}
    metrics = {k: v for name, found in numbers.items() for k, v in prefixed(f"scores.{name}", found).items()}
    guess, claims = {}, {}
    if heads is not None:
        guess = random_heads_accuracy(*heads, seed=seed)
        metrics |= prefixed("untrained.validation", guess)
        claims["untrained_covers_half"] = guess["accuracy_low"] <= 0.5 <= guess["accuracy_high"]
    if beside is not None:
        metrics, claims = metrics | beside.metrics, claims | beside.claims
    held_out = sets["validation"]
    lengths, unit = reply_lengths(held_out)
    return ScoreDistributions(
        metrics=metrics,
        claims=claims,
        numbers=numbers,
        random_heads=guess,
        by_length={s: (held_out[f"{s}_score"], lengths[s], held_out["prompt_key"]) for s in SIDES},
        length_unit=unit,
    )


def reply_lengths(pairs: pd.DataFrame) -> tuple[dict[str, pd.Series], str]:
    """Lengths of the chosen and of the rejected replies, and their unit: tokens where known, else words."""
    if "chosen_tokens" in pairs:
        return {side: pairs[f"{side}_tokens"] for side in SIDES}, "tokens"
    return {side: reply_table(pairs[side])["words"] for side in SIDES}, "words"


def random_heads(width: int, heads: int, seed: int = 0) -> np.ndarray:
    """Heads as `models.load_reward_model` draws them from `seed`, `seed + 1`, ..., shape (width, heads)."""
    return torch.cat([random_head(width, seed + n) for n in range(heads)]).numpy().T


def score_untrained(
    base: RewardModel, preferences: Sequence[Preference], path: Path, heads: int = 32, seed: int = 0
) -> pd.DataFrame:
    """Score pairs by random heads on the base model's hidden states, which are computed once.

    Args:
        base: The base model, loaded as a reward model.
        preferences: The pairs; those that truncation makes equal are left out.
        path: The score file: the scores of the first head, and in `meta` each pair's margin under every head.
        heads: Number of draws.
        seed: Of the first.

    Returns:
        The score file as a table.
    """
    groups, kept, _ = tokenize_preferences(preferences, base.renderer)
    states = end_states(base.model, groups, base.renderer.pad_id, base.dtype).astype(float)
    drawn = random_heads(states.shape[-1], heads, seed)
    rows = pair_records([preferences[k] for k in kept], groups, states @ drawn[:, 0])
    for row, margins in zip(rows, (states[:, 0] - states[:, 1]) @ drawn, strict=True):
        row["meta"][HEADS] = margins.tolist()
    write_scores(path, rows)
    return read_pairs(path)


def head_margins(untrained: pd.DataFrame) -> tuple[np.ndarray, pd.Series]:
    """Margins under each random head, shape (pairs, heads), and the prompt of each pair.

    Args:
        untrained: From `score_untrained`.
    """
    return np.array([meta[HEADS] for meta in untrained["meta"]]), untrained["prompt_key"]
