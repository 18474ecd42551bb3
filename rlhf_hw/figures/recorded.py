"""Figures of a recorded run, drawn from its rows where they are at hand and else shown as they were kept.

    show_recorded(found, "recorded_length", results.fig)

`found` is an `experiments.recorded.RecordedRun`, or anything with its fields.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rlhf_hw.figures.replies import inference_distributions, win_rate_forest
from rlhf_hw.figures.scores import accuracy_by_length, score_against_length
from rlhf_hw.figures.style import show, show_kept
from rlhf_hw.paths import FIG
from rlhf_hw.stats.intervals import Estimate

WIN_RATES = {
    f"{group}, {kind}": f"recorded.dpo.{part}{key}"
    for group, part in (
        ("all prompts", ""),
        ("no repetition", "not_repetitive."),
        ("repetition", "repetitive."),
    )
    for kind, key in (("as counted", "win_rate"), ("at equal length", "win_rate_length_controlled"))
}


def recorded_distributions(scores: Mapping[str, pd.Series]) -> Figure:
    """Scores of base and DPO replies, and of the chosen replies of the pairs ("reference")."""
    return inference_distributions(scores, title="recorded scores")


def recorded_accuracy(by_length: pd.DataFrame) -> Figure:
    """Accuracy against how much longer the chosen reply is, from `stats.length.accuracy_by_length_gap`."""
    return accuracy_by_length(by_length, unit="words")


def recorded_length(lengths: Mapping[str, tuple]) -> Figure:
    """Score against length: both replies of the pairs ("pairs"), replies of base and of DPO.

    Args:
        lengths: name -> (scores, words, prompts).
    """
    return score_against_length(lengths, unit="words")


def recorded_win_rate(metrics: Mapping[str, float]) -> Figure:
    """Win rates of DPO, as counted and at equal length: all prompts, and both sides of the split."""
    known = {label: key for label, key in WIN_RATES.items() if key in metrics}
    return win_rate_forest({label: Estimate.of(metrics, key) for label, key in known.items()})


DRAWINGS: dict[str, Callable[..., Figure]] = {
    "recorded_distributions": lambda found: recorded_distributions(found.scores),
    "recorded_accuracy": lambda found: recorded_accuracy(found.by_length),
    "recorded_length": lambda found: recorded_length(found.lengths),
    "recorded_win_rate": lambda found: recorded_win_rate(found.metrics),
}


def show_recorded(found, name: str, folder: Path) -> None:
    """Draw a figure, save it in `folder` and show it; where no rows are at hand, show the kept one.

    Args:
        found: `metrics`, and with rows `scores`, `by_length` and `lengths`; without, `scores` is empty.
        name: One of `DRAWINGS`.
        folder: Where drawn figures go.
    """
    if found.scores:
        show(DRAWINGS[name](found), folder, name)
    else:
        show_kept(FIG, name)
