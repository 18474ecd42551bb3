"""Scored preference pairs as a table: made, read as arguments of the statistics, matched with another's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.score_files import read_pairs, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.baselines import bag_of_words_margins, length_margins
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.length import accuracy_by_length_gap
from rlhf_hw.stats.pairs import confident_mistakes, group_metrics
from rlhf_hw.world.annotators import best_possible_accuracy

BASELINES = ("length", "words")  # scorers that understand nothing, and do not see the prompt


def score_pairs(reward_model: RewardModel, preferences: Sequence[Preference], path: Path) -> pd.DataFrame:
    """Score preference pairs, write them as a score file, and return that file as a table.

    Args:
        reward_model: Scores the pairs.
        preferences: The pairs.
        path: The score file.
    """
    write_scores(path, reward_model.score_preferences(preferences))
    return read_pairs(path)


def right_orders(tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """Which pairs each replicate orders as labelled: 1, 0, or 1/2 for a tie, shape (replicates, pairs).

    Args:
        tables: The same pairs in the same order, scored by each replicate.

    Raises:
        InputError: the tables hold different pairs.
    """
    keys = ["prompt_key", "chosen", "rejected"]
    for number, table in enumerate(tables):
        if not table[keys].reset_index(drop=True).equals(tables[0][keys].reset_index(drop=True)):
            raise InputError(
                f"replicate {number} scored other pairs than replicate 0; score the same for all"
            )
    return np.stack([outcomes(table["margin"]) for table in tables])


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


def best_on_average(pairs: pd.DataFrame) -> float | None:
    """What `best_judge` reaches on average over all labels that annotators might give; None if unknown."""
    meta = list(pairs["meta"]) if "meta" in pairs else []
    if not meta or "probability" not in meta[0]:
        return None
    return best_possible_accuracy(m["probability"] for m in meta)


def best_judge(pairs: pd.DataFrame) -> np.ndarray | None:
    """Outcomes on these labels of a judge who knows the annotators' probabilities.

    Returns:
        Shape (pairs,): 1 where the chosen reply was the likelier one, 1/2 where neither was, else 0; None
        where the probabilities are unknown.
    """
    meta = list(pairs["meta"]) if "meta" in pairs else []
    if not meta or "probability" not in meta[0]:
        return None
    # `probability` is that of the first reply; `chosen_index`, 1 or 2, the reply that the annotator took.
    lead = np.array([(m["probability"] - 0.5) * (3 - 2 * m["chosen_index"]) for m in meta])
    return (np.sign(lead) + 1) / 2


def score_columns(pairs: pd.DataFrame) -> dict:
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


def accuracy_by_tokens(pairs: pd.DataFrame) -> pd.DataFrame | None:
    """Accuracy by how many tokens longer the chosen reply is, where tokens were counted."""
    if "chosen_tokens" not in pairs:
        return None
    longer = pairs["chosen_tokens"] - pairs["rejected_tokens"]
    return accuracy_by_length_gap(pairs["margin"], longer, pairs["prompt_key"])


def by_group(pairs: pd.DataFrame, group: str, seed: int = 0) -> pd.DataFrame | None:
    """Accuracy of each group that `meta[group]` names, the lowest first; None if a pair has none."""
    labels = [row.get(group) for row in pairs["meta"]] if group and "meta" in pairs else [None]
    if None in labels:
        return None
    table = group_metrics(pairs["margin"], labels, pairs["prompt_key"], seed=seed)
    return table.sort_values("accuracy")


def telling_pairs(pairs: pd.DataFrame, mistakes: int = 3) -> pd.DataFrame:
    """Pairs to read: the surest right one, the closest call, and the most confident mistakes."""
    margin = pairs["margin"].to_numpy()
    shown = ["prompt", "chosen", "rejected", "chosen_score", "rejected_score", "margin"]
    if not len(pairs):
        return pairs[shown]
    worst = list(confident_mistakes(margin, mistakes))
    kinds = ["surest right", "closest call", *["confident mistake"] * len(worst)]
    rows = [np.argmax(margin), np.argmin(np.abs(margin)), *worst]
    return pairs[shown].assign(**gold_columns(pairs)).iloc[rows].set_index(pd.Index(kinds))


def baseline_margins(train: Sequence[Preference], pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Margins of the two baselines on scored pairs: the reply's length, and its words.

    Neither sees the prompt: they cannot know whether a reply suits its question.

    Args:
        train: Pairs the baselines are fitted on; without any, both are always undecided (margin 0).
        pairs: Table with `chosen` and `rejected` texts.
    """
    if not train:
        return {"length": np.zeros(len(pairs)), "words": np.zeros(len(pairs))}
    texts = (
        [p.chosen for p in train],
        [p.rejected for p in train],
        list(pairs["chosen"]),
        list(pairs["rejected"]),
    )
    return {"length": length_margins(*texts), "words": bag_of_words_margins(*texts)}


def baseline_orders(train: Sequence[Sequence[Preference]], pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which pairs the baselines order as labelled, fitted to each replicate's training pairs.

    Returns:
        "length" and "words" -> outcomes as in `right_orders`, shape (replicates, pairs).
    """
    fitted = [baseline_margins(part, pairs) for part in train]
    return {name: np.stack([outcomes(margins[name]) for margins in fitted]) for name in fitted[0]}


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
