"""Figures of generated replies: distributions, win rates, gold against reward, the score gap taken apart."""

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
    INK,
    KNOWN_COLOURS,
    ORANGE,
    TALL,
    canvas,
    legend_below,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.intervals import Estimate, as_vector

# What figures call the parts of a gap that have short names in the metrics
PART_NAMES = {
    "readout": "read-out",
    "quality": "true quality",
    "ood": "unfamiliar text",
    "rest": "unexplained rest",
}


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


@styled
def waterfall(
    total: Estimate, parts: Mapping[str, Estimate], *, unit: str = SCORE, total_name: str = "gap"
) -> Figure:
    """A difference (first bar) and the parts it consists of, each starting where the one before ended.

    Args:
        total: the difference that is explained; the parts sum to it.
        parts: name -> Estimate, in the order drawn.

    Raises:
        ValueError: the parts do not sum to the total.
    """
    if not np.isclose(
        sum(part.value for part in parts.values()), total.value, atol=1e-6 + 1e-6 * abs(total.value)
    ):
        raise InputError(
            f"the parts sum to {sum(p.value for p in parts.values())}, the total is {total.value}"
        )
    figure, axes = canvas(height=3.1)
    names, estimates = [total_name, *map(part_name, parts)], [total, *parts.values()]
    starts = np.concatenate([[0, 0], np.cumsum([part.value for part in parts.values()])[:-1]])
    for place, (start, estimate) in enumerate(zip(starts, estimates, strict=True)):
        colour = GREY if place == 0 else BLUE if estimate.value >= 0 else ORANGE
        end = start + estimate.value
        axes.bar(place, estimate.value, bottom=start, color=colour, alpha=0.85, width=0.62)
        error = whiskers([end], [start + estimate.low], [start + estimate.high])
        axes.errorbar(place, end, yerr=error, fmt="none", color=INK, linewidth=1)
        top = max(start, end, start + estimate.high)
        axes.annotate(
            f"{estimate.value:+z.2f}",
            (place, top),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
        if place:
            axes.plot([place - 0.69, place + 0.31], [start, start], color=GREY, linewidth=0.6)
    axes.axhline(0, color=GREY, linewidth=0.9)
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", labelrotation=0 if len(names) <= 7 else 25)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)
    axes.set_ylabel(f"{unit} (95% intervals)")
    return figure


def part_name(name: str) -> str:
    """What a figure calls a part of the gap, or several joined by " + "."""
    return " + ".join(PART_NAMES.get(part, part) for part in name.split(" + "))


@styled
def planted_matrix(shares: ArrayLike, planted: Sequence[str], attributed: Sequence[str]) -> Figure:
    """Faults put in (rows) against the factors the decomposition blames (columns), in percent of the gap.

    Args:
        shares: shape (planted, attributed), 1 = the whole gap; below 0 where a part goes against the gap.
    """
    shares = np.asarray(shares, dtype=float)
    if shares.shape != (len(planted), len(attributed)):
        raise InputError(f"shares have shape {shares.shape}, expected {(len(planted), len(attributed))}")
    figure, axes = canvas(width=min(6.3, 1.9 + 0.68 * len(attributed)), height=1.2 + 0.34 * len(planted))
    axes.imshow(shares, cmap="RdBu", vmin=-1.15, vmax=1.15, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        dark = abs(share) > 0.6
        axes.text(
            column, row, f"{share:z.0%}", ha="center", va="center", color="white" if dark else INK, fontsize=8
        )
    axes.set_xticks(range(len(attributed)), map(part_name, attributed), rotation=25, ha="right")
    axes.set_yticks(range(len(planted)), map(part_name, planted))
    axes.set_xlabel("attributed to (share of the gap)")
    axes.set_ylabel("planted fault")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure
