"""What a reward model says about preference pairs: scored, beside baselines, compared with other scorers.

Everything the analysis uses passes through a score file, so that recorded scores take the same way as fresh
ones and the figures can be drawn again without a model.

The reward model before training is many random heads on the base model's hidden states (`head_margins`). A
single draw of a head w, r = w . h, is no "model that knows nothing": it follows one random direction, which
may go with length, style or quality in either sense, and these with the preference. What can be said of *the*
untrained model is the average over draws, with an interval that resamples the draws too
(`pairs.random_heads_accuracy`). The hidden states are computed once; a head is one matrix product.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rlhf_hw.errors import InputError
from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.loading import random_head
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.score_files import read_pairs, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.baselines import bag_of_words_margins, length_margins
from rlhf_hw.stats.pairs import accuracy, compare_reward_models
from rlhf_hw.stats.text import reply_table


def score_pairs(reward_model, preferences: Sequence[Preference], path: Path) -> pd.DataFrame:
    """Score preference pairs, write them as a score file, and return that file as a table.

    Args:
        reward_model: A `scoring.RewardModel`.
        preferences: The pairs.
        path: The score file.
    """
    write_scores(path, reward_model.score_preferences(preferences))
    return read_pairs(path)


def gold_columns(pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """The true rewards of scored pairs as arguments of `preference_metrics`; empty where unknown."""
    meta = list(pairs["meta"]) if "meta" in pairs else []
    if not meta or "gold_1" not in meta[0]:
        return {}
    first = [m["gold_1"] for m in meta]
    second = [m["gold_2"] for m in meta]
    chosen_first = np.array([m["chosen_index"] == 1 for m in meta])
    return {
        "gold_chosen": np.where(chosen_first, first, second),
        "gold_rejected": np.where(chosen_first, second, first),
    }


def best_possible(pairs: pd.DataFrame) -> float | None:
    """Mean probability of the likelier label, where the annotators' probabilities are known."""
    meta = list(pairs["meta"]) if "meta" in pairs else []
    if not meta or "probability" not in meta[0]:
        return None
    probability = np.array([m["probability"] for m in meta])
    return float(np.maximum(probability, 1 - probability).mean())


def columns(pairs: pd.DataFrame) -> dict:
    """The columns of scored pairs as arguments of `preference_metrics`."""
    lengths = {}
    if "chosen_tokens" in pairs:
        lengths = {"chosen_lengths": pairs["chosen_tokens"], "rejected_lengths": pairs["rejected_tokens"]}
    return {
        "chosen": pairs["chosen_score"],
        "rejected": pairs["rejected_score"],
        "prompts": pairs["prompt_key"],
        **lengths,
        **gold_columns(pairs),
    }


def baseline_margins(train: Sequence[Preference], pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Margins of the two baselines on scored pairs: the reply's length, and its words.

    Args:
        train: Pairs the baselines are fitted on.
        pairs: Table with `chosen` and `rejected` texts.
    """
    texts = (
        [p.chosen for p in train],
        [p.rejected for p in train],
        list(pairs["chosen"]),
        list(pairs["rejected"]),
    )
    return {"length": length_margins(*texts), "words": bag_of_words_margins(*texts)}


def reply_lengths(pairs: pd.DataFrame) -> tuple[dict[str, pd.Series], str]:
    """Lengths of the chosen and of the rejected replies, and their unit: tokens where known, else words."""
    sides = ("chosen", "rejected")
    if "chosen_tokens" in pairs:
        return {side: pairs[f"{side}_tokens"] for side in sides}, "tokens"
    return {side: reply_table(pairs[side])["words"] for side in sides}, "words"


def accuracy_table(margins: Mapping[str, np.ndarray], prompts: Sequence) -> pd.DataFrame:
    """Accuracy with interval of several scorers on the same pairs, one row each."""
    rows = {name: accuracy(values, prompts) for name, values in margins.items()}
    return pd.DataFrame(rows).T[["accuracy", "accuracy_low", "accuracy_high", "pairs", "ties"]]


def same_pairs(pairs: pd.DataFrame, other: pd.DataFrame, name: str = "the other file") -> np.ndarray:
    """Margins of another reward model for these pairs, found by prompt and replies.

    Args:
        pairs, other: tables from `score_files.read_pairs`, in any order.
        name: of the other file, for the message.

    Returns:
        Shape (pairs,).

    Raises:
        ValueError: a pair is missing there, or stands there with different margins.
    """
    keys = ["prompt_key", "chosen", "rejected"]
    known = other.drop_duplicates([*keys, "margin"]).set_index(keys)["margin"]
    wanted = list(pairs[keys].itertuples(index=False, name=None))
    twice = known.index[known.index.duplicated()]
    missing = [row for row, key in enumerate(wanted, start=1) if key not in known.index]
    if missing or len(twice):
        what = (
            f"pair {missing[0]} is not there ({len(missing)} in all)"
            if missing
            else "one pair has two margins"
        )
        raise InputError(
            f"{name}: {what}; two reward models are compared on the same pairs, each scored once"
        )
    return known.loc[wanted].to_numpy()


def mcnemar_table(margins: Mapping[str, np.ndarray], prompts: Sequence, seed: int = 0) -> pd.DataFrame:
    """McNemar's test of the first scorer against each of the others on the same pairs, one row each.

    Args:
        margins: name -> margins, the reward model in question first.
        prompts: prompt of each pair.

    Returns:
        Index: the other scorer. Columns: `only_first`, `only_second` (pairs that one alone has right),
        `p_value`, `accuracy_difference` (+_low, _high).
    """
    first, *others = margins
    rows = {n: compare_reward_models(margins[first], margins[n], prompts, seed=seed) for n in others}
    names = ["only_first", "only_second", "p_value"]
    names += [f"accuracy_difference{end}" for end in ("", "_low", "_high")]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def verdict(row: Mapping[str, float]) -> str:
    """What a row of `mcnemar_table` allows to say of the first scorer: better, worse, no difference shown."""
    low, high = (row[f"accuracy_difference{end}"] for end in ("_low", "_high"))
    words = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return f"{words} [{low:+.3f}, {high:+.3f}]"


def random_heads(width: int, heads: int, seed: int = 0) -> np.ndarray:
    """Heads as `loading.load_reward_model` draws them from `seed`, `seed + 1`, ..., shape (width, heads)."""
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
