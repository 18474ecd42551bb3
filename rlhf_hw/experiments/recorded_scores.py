"""What the scores of a recorded run say in numbers: of pairs, of replies, of one model's beside the other's.

Pairs have `chosen_words` and `rejected_words` beside the columns of `score_files`, replies have `words`;
module `recorded` puts the numbers together.
"""

import numpy as np
import pandas as pd

from rlhf_hw.stats.intervals import mean_interval
from rlhf_hw.stats.length import RISE_NAMES, accuracy_by_length_gap, length_share, score_length_slope
from rlhf_hw.stats.pairs import preference_metrics
from rlhf_hw.stats.policies import compare_policies
from rlhf_hw.stats.text import reply_metrics


def accuracy_by_words(pairs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by how many words longer the chosen reply is."""
    longer = pairs["chosen_words"] - pairs["rejected_words"]
    return accuracy_by_length_gap(pairs["margin"], longer, pairs["prompt_key"].tolist())


def validation_metrics(pairs: pd.DataFrame) -> dict[str, float]:
    """`preference_metrics` of the pairs; `accuracy_strict` counts ties as wrong."""
    chosen, rejected = pairs["chosen_score"], pairs["rejected_score"]
    found = preference_metrics(
        chosen,
        rejected,
        prompts=pairs["prompt_key"].tolist(),
        chosen_lengths=pairs["chosen_words"],
        rejected_lengths=pairs["rejected_words"],
    )
    return found | {
        "accuracy_strict": float((chosen > rejected).mean()),
        "chosen_mean": float(chosen.mean()),
        "rejected_mean": float(rejected.mean()),
        "score_mean": float((chosen.mean() + rejected.mean()) / 2),
        "words_mean": float((pairs["chosen_words"].mean() + pairs["rejected_words"].mean()) / 2),
    }


def policy_metrics(replies: pd.DataFrame) -> dict[str, float]:
    """`reply_metrics` of one model's replies, and with scores the slope of score against length."""
    texts = replies["response"].tolist()
    if "score" not in replies:
        found = reply_metrics(texts, np.zeros(len(texts)))
        return {name: value for name, value in found.items() if not name.startswith("score")}
    slope = score_length_slope(replies["score"], replies["words"], replies["prompt_key"].tolist())
    return reply_metrics(texts, replies["score"]) | slope


def compare_with_base(dpo: pd.DataFrame, base: pd.DataFrame) -> dict[str, float]:
    """`compare_policies` with lengths in words; wins, losses and ties as shares of the prompts."""
    found = compare_policies(
        dpo["score"], base["score"], dpo["prompt_key"].tolist(), dpo["words"], base["words"]
    )
    return found | {name: found[name] / len(dpo) for name in ("wins", "losses", "win_ties")}


def rise_metrics(references: pd.DataFrame, replies: pd.DataFrame) -> dict[str, float]:
    """Rise of the mean score from reference replies to generated ones and the share that length accounts for.

    The keys of `length_share`, the reward for length learnt across all reference replies; those that end in
    `_within` learn it from the two replies to the same prompt only.
    """
    found: dict[str, float] = {}
    for ending, within in (("", False), ("_within", True)):
        part = length_share(
            references["score"],
            references["words"],
            replies["score"],
            replies["words"],
            references["prompt_key"].tolist(),
            replies["prompt_key"].tolist(),
            within_prompts=within,
        )
        for name in RISE_NAMES if not within else RISE_NAMES[1:]:
            if name in part:  # the share of a rise that may be none is left out
                found |= {f"{name}{ending}{end}": part[f"{name}{end}"] for end in ("", "_low", "_high")}
    return found


def gap_to_chosen(pairs: pd.DataFrame, replies: pd.DataFrame, name: str) -> dict[str, float]:
    """Generated minus chosen reply of the same prompt, over the prompts that have both."""
    chosen = replies["prompt_key"].map(pairs.groupby("prompt_key")["chosen_score"].mean())
    inside = chosen.notna()
    if not inside.any():
        return {}
    gap = (replies["score"] - chosen)[inside]
    return mean_interval(gap, replies["prompt_key"][inside].tolist()).named(name)
