"""Join models, data and score files for the notebooks: score pairs and replies, write them, read them back.

Everything the analysis uses passes through a score file, so that recorded scores take the same way as fresh
ones and the figures can be drawn again without a model.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.baselines import bag_of_words_margins, length_margins
from rlhf_hw.intervals import Estimate, wilson_interval
from rlhf_hw.metrics import accuracy, compare_reward_models
from rlhf_hw.score_files import read_pairs, write_scores
from rlhf_hw.templates import Preference
from rlhf_hw.text_statistics import reply_table


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


def readable(metrics: Mapping[str, float]) -> pd.Series:
    """Metrics as text for a table; an interval stands behind its value: `0.633 [0.547, 0.711]`.

    Args:
        metrics: flat; `<name>_low` and `<name>_high` are the interval of `<name>`, where that is there too.

    Returns:
        One text a name; whole numbers (int) without decimals.
    """
    estimates = {name for name in metrics if f"{name}_low" in metrics and f"{name}_high" in metrics}
    inside = {f"{name}{end}" for name in estimates for end in ("_low", "_high")}
    shown = {}
    for name in (name for name in metrics if name not in inside):
        value = Estimate.of(metrics, name) if name in estimates else metrics[name]
        shown[name] = str(value) if isinstance(value, Integral) else f"{value:.3f}"
    return pd.Series(shown, dtype=str)


class TextTable:
    """A table of texts for Jupyter, aligned to the left in whole; pandas aligns cells to the right."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __repr__(self) -> str:
        return self.table.to_string()

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            html = self.table.to_html(justify="left", border=0)
        for cell in ("td", "th"):  # in the cell itself: Jupyter's own style counts more than the row's
            html = html.replace(f"<{cell}>", f'<{cell} style="text-align: left">')
        return html


def with_intervals(points: Sequence[Mapping[str, float]], pairs: int) -> list[dict[str, float]]:
    """Points of a curve of shares, measured on so many pairs, with the ends of their 95% intervals.

    Args:
        points: [{"step", "value"}, ...], from `TrainingResult.curve`.
        pairs: number of pairs each value is a share of.

    Returns:
        [{"step", "value", "low", "high"}, ...] for `figures.evaluation_curve`.
    """
    found = [wilson_interval(round(point["value"] * pairs), pairs) for point in points]
    return [dict(point) | {"low": e.low, "high": e.high} for point, e in zip(points, found, strict=True)]


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


def verdict(row: Mapping[str, float]) -> str:
    """What a row of `mcnemar_table` allows to say of the first scorer: better, worse, no difference shown."""
    low, high = (row[f"accuracy_difference{end}"] for end in ("_low", "_high"))
    words = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return f"{words} [{low:+.3f}, {high:+.3f}]"


def table_metrics(prefix: str, table: pd.DataFrame) -> dict[str, float]:
    """A table's numbers under `prefix.<row>.<column>`; spaces in the rows' names become underscores."""
    columns = {name: table[name].items() for name in table}
    return {f"{prefix}.{row.replace(' ', '_')}.{n}": v for n, items in columns.items() for row, v in items}
