"""Join models, data and score files for the notebooks: score pairs and replies, write them, read them back.

Everything the analysis uses passes through a score file, so that recorded scores take the same way as fresh
ones and the figures can be drawn again without a model.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.baselines import bag_of_words_margins, length_margins
from rlhf_hw.metrics import accuracy, compare_reward_models
from rlhf_hw.score_files import read_pairs, write_scores
from rlhf_hw.templates import Preference


def prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The same metrics with `prefix.` before each key."""
    return {f"{prefix}.{key}": value for key, value in metrics.items()}


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


def reply_rows(
    prompts: Sequence[str],
    replies: Sequence,
    scores: np.ndarray,
    gold: Callable[[str, str], float] | None = None,
    **extra: Sequence,
) -> list[dict]:
    """Records of generated replies in the layout of reply score files.

    Args:
        prompts: The last user turns.
        replies: `generation.Reply` objects, one a prompt.
        scores: Their rewards, shape (P,).
        gold: The simulated world's true reward, or None.
        extra: Further values for `meta`, one a prompt each.
    """
    rows = []
    for number, (prompt, reply, score) in enumerate(zip(prompts, replies, scores, strict=True)):
        meta = {name: values[number] for name, values in extra.items()}
        if gold is not None:
            meta["gold"] = gold(prompt, reply.text)
        rows.append(
            {
                "id": number,
                "prompt": prompt,
                "response": reply.text,
                "score": float(score),
                "tokens": len(reply.ids),
                "finished": reply.finished,
                "meta": meta,
            }
        )
    return rows


def claims(**statements: bool) -> dict[str, bool]:
    """Flags for the report: only true statements become keys, `claims.<name>`."""
    return {f"claims.{name}": True for name, true in statements.items() if true}


def beats(first: np.ndarray, second: np.ndarray, prompts: Sequence) -> bool:
    """Whether one reward model's accuracy lies above another's on the same pairs beyond the interval."""
    return compare_reward_models(first, second, prompts)["accuracy_difference_low"] > 0


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
        raise ValueError(
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


def table_metrics(prefix: str, table: pd.DataFrame) -> dict[str, float]:
    """A table's numbers under `prefix.<row>.<column>`; spaces in the rows' names become underscores."""
    columns = {name: table[name].items() for name in table}
    return {f"{prefix}.{row.replace(' ', '_')}.{n}": v for n, items in columns.items() for row, v in items}
