"""Figures of generated replies: distributions, win rates, gold against reward."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.figures.scores import SCORE, common_bins, draw_histogram
from rlhf_hw.figures.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    HALF,
    KNOWN_COLOURS,
    TALL,
    canvas,
    legend_below,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.intervals import Estimate, as_vector


@styled
def inference_distributions(groups: Mapping[str, ArrayLike], *, title: str = "") -> Figure:
    """Scores of replies to the same prompts: base model, DPO model, and the references of the data set.

    Vertical lines stand at the means.

    Args:
        groups: name -> scores; the names "base", "DPO" and "reference" keep their colours in all figures.
        title: of the panel.
    """
    samples = {name: as_vector(values, name) for name, values in groups.items()}
    figure, axes = canvas(width=HALF, height=TALL)
    edges = common_bins(*samples.values())
    for (name, values), colour in zip(samples.items(), CYCLE, strict=False):
        colour = KNOWN_COLOURS.get(name, colour)
        draw_histogram(
            axes, values, edges, colour, f"{name}, mean {values.mean():.2f}", dashed=name == "reference"
        )
    axes.set_xlabel(SCORE)
    axes.set_ylabel("share of replies")
    axes.set_title(title)
    legend_below(axes)
    return figure


def draw_forest(
    axes: Axes, labels: Sequence[str], estimates: Sequence[Estimate], colour: str, form: str
) -> None:
    """One row an estimate, the first on top; the numbers stand at the right edge."""
    rows = np.arange(len(labels))[::-1]
    value, low, high = zip(*estimates, strict=True)
    axes.errorbar(value, rows, xerr=whiskers(value, low, high), fmt="o", color=colour, markersize=5)
    axes.set_yticks(rows, labels)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="y", visible=False)
    for row, estimate in zip(rows, estimates, strict=True):
        text = format(estimate, form)
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)


@styled
def win_rate_forest(
    rows: Mapping[str, Estimate], *, xlabel: str = "share of prompts won (ties one half)"
) -> Figure:
    """Win rates with their intervals; 1/2 is no difference.

    Args:
        rows: label -> Estimate (value, low, high).
    """
    figure, axes = canvas(height=0.9 + 0.34 * len(rows))
    draw_forest(axes, list(rows), list(rows.values()), BLUE, ".3f")
    note_line(axes, 0.5, "no difference", vertical=True)
    ends = [end for estimate in rows.values() for end in estimate]
    axes.set_xlim(min(0.4, min(ends) - 0.02), max(0.6, max(ends) + 0.02))
    axes.set_xlabel(f"{xlabel}; 95% intervals")
    return figure


@styled
def gold_gain(
    score_gain: Mapping[str, Estimate], gold_change: Mapping[str, Estimate], *, unit: str = "its own units"
) -> Figure:
    """What DPO gained by the reward model (left) and by the true reward (right), for the same comparisons.

    Args:
        score_gain, gold_change: label -> Estimate of the mean paired difference; the same labels in both.
        unit: of both, for instance "standard deviations of the base model's replies".
    """
    if list(score_gain) != list(gold_change):
        raise InputError(
            f"the panels must have the same rows, not {list(score_gain)} and {list(gold_change)}"
        )
    figure, panels = canvas(1, 2, height=1.1 + 0.36 * len(score_gain), sharex=True, sharey=True)
    titles = ("by the reward model", "by the gold reward")
    for axes, rows, title, colour in zip(
        panels, (score_gain, gold_change), titles, (BLUE, GREEN), strict=True
    ):
        draw_forest(axes, list(rows), list(rows.values()), colour, "+.2f")
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.set_title(title)
    figure.supxlabel(f"mean gain over the same prompts ({unit}); 95% intervals", fontsize=8.5)
    return figure
