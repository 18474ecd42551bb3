"""The figures that the data card states of the simulated world's files: a test computes them again."""

from collections.abc import Mapping, Sequence
from statistics import mean, median, pstdev

from rlhf_hw.world.annotators import best_possible_accuracy
from rlhf_hw.world.gold import gold


def describe(splits: Mapping[str, Sequence[dict]], hard: Mapping[str, Sequence[dict]]) -> dict[str, float]:
    """Figures for the data card: gold of the sft replies; noise, length bias and spread of the comparisons.

    Args:
        splits: those of `build`.
        hard: those of `build_hard`; their figures are named `hard.<split>.<figure>`.
    """
    values = [gold(row["prompt"], row["response"]) for row in splits["sft"]]
    facts = {"sft.gold.mean": mean(values), "sft.gold.sd": pstdev(values)}
    for name in ("train", "validation", "ood"):
        facts |= {f"{name}.{key}": value for key, value in _figures(splits[name]).items()}
    for name, rows in hard.items():
        facts |= {f"hard.{name}.{key}": value for key, value in _figures(rows).items()}
    return facts


def _figures(rows: Sequence[dict]) -> dict[str, float]:
    """Best possible accuracy, share of wins of the longer reply, and distance of replies in gold."""
    lengths = [(len(row["response_1"].split()), len(row["response_2"].split()), row) for row in rows]
    gaps = [abs(row["metadata"]["gold_1"] - row["metadata"]["gold_2"]) for row in rows]
    return {
        "best_possible_accuracy": best_possible_accuracy(row["metadata"]["probability"] for row in rows),
        "longer_wins": mean((a > b) == (row["overall_response"] == 1) for a, b, row in lengths if a != b),
        "gold_difference": median(gaps),
        "within_half": mean(gap < 0.5 for gap in gaps),
    }
