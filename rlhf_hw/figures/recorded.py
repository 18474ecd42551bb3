"""Figures of a recorded run (notebook 07), and how its numbers are printed.

Where the rows are at hand the figures are drawn and saved; elsewhere the kept ones are shown.

    saved = RecordedFigures(rows, metrics, folder)
    saved.show("recorded_length")
    saved.estimate("dpo.win_rate", ".2f")   "0.58 [0.54, 0.61]"
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from IPython.display import Image, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from rlhf_hw.experiments.recorded import Recorded
from rlhf_hw.figures.replies import inference_distributions, win_rate_forest
from rlhf_hw.figures.scores import accuracy_by_length, score_against_length
from rlhf_hw.figures.style import SAVED_DPI, SCREEN_DPI, save
from rlhf_hw.paths import FIG
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.length import accuracy_by_length_gap

WIN_RATES = {
    f"{group}, {kind}": f"dpo.{part}{key}"
    for group, part in (
        ("all prompts", ""),
        ("no repetition", "not_repetitive."),
        ("repetition", "repetitive."),
    )
    for kind, key in (("as counted", "win_rate"), ("at equal length", "win_rate_length_controlled"))
}


def estimate_of(metrics: Mapping[str, float], key: str) -> Estimate:
    """The number under `recorded.<key>` with its interval."""
    return Estimate.of(metrics, f"recorded.{key}")


def recorded_distributions(rows: Recorded) -> Figure:
    """Scores of base and DPO replies, and of the chosen replies of the pairs."""
    groups = {"base": rows.base["score"], "DPO": rows.dpo["score"], "reference": rows.pairs["chosen_score"]}
    return inference_distributions(groups, title="recorded scores; reference: chosen replies")


def recorded_accuracy(rows: Recorded) -> Figure:
    """Accuracy against how much longer the chosen reply is."""
    pairs = rows.pairs
    gap = pairs["chosen_words"] - pairs["rejected_words"]
    return accuracy_by_length(
        accuracy_by_length_gap(pairs["margin"], gap, pairs["prompt_key"].tolist()), unit="words"
    )


def recorded_length(rows: Recorded) -> Figure:
    """Score against length: both replies of the pairs, replies of base and of DPO."""
    tables = {"pairs": rows.references, "base": rows.base, "DPO": rows.dpo}
    groups = {name: (t["score"], t["words"], t["prompt_key"].tolist()) for name, t in tables.items()}
    return score_against_length(groups, unit="words")


def recorded_win_rate(metrics: Mapping[str, float]) -> Figure:
    """Win rates of DPO, as counted and at equal length: all prompts, and both sides of the split."""
    known = {label: key for label, key in WIN_RATES.items() if f"recorded.{key}" in metrics}
    return win_rate_forest({label: estimate_of(metrics, key) for label, key in known.items()})


@dataclass(frozen=True)
class RecordedFigures:
    """The figures and numbers of a recorded run, from its rows or from what was kept of them.

    Attributes:
        rows: the rows, or None where they are not at hand.
        metrics: the aggregates, flat under `recorded.*`.
        folder: where drawn figures go.
    """

    rows: Recorded | None
    metrics: Mapping[str, float]
    folder: Path

    def estimate(self, key: str, form: str = "+.2f") -> str:
        """The number under `recorded.<key>` with its interval, as text."""
        return format(estimate_of(self.metrics, key), form)

    def show(self, name: str) -> None:
        """Draws and saves a figure; without rows, shows the kept one as large as a drawn one would be."""
        if self.rows is None:
            path = FIG / f"{name}.png"
            width = round(plt.imread(path).shape[1] * SCREEN_DPI / SAVED_DPI)
            display(Image(path, width=width))
            return
        save(self.draw(name), self.folder, name)
        plt.show()

    def draw(self, name: str) -> Figure:
        """One of the four figures by its name."""
        drawings: dict[str, Callable[[], Figure]] = {
            "recorded_distributions": lambda: recorded_distributions(self.rows),
            "recorded_accuracy": lambda: recorded_accuracy(self.rows),
            "recorded_length": lambda: recorded_length(self.rows),
            "recorded_win_rate": lambda: recorded_win_rate(self.metrics),
        }
        return drawings[name]()
