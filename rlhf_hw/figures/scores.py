"""Figures of scored pairs: distributions, margins, length, calibration.

Histograms of one figure share their bins and count shares of the replies in percent, so that areas compare;
no tail is cut off.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import special

from rlhf_hw.figures.case_points import CaseAddresses, mark_cases
from rlhf_hw.figures.numbers import with_minus
from rlhf_hw.figures.style import (
    BLUE,
    CHOSEN,
    CYCLE,
    GREEN,
    GREY,
    HALF,
    INK,
    KNOWN_COLOURS,
    LIGHT,
    ORANGE,
    REJECTED,
    SHOWN_AS,
    TALL,
    canvas,
    legend_below,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.distributions import correlation, effect_size, overlap_coefficient
from rlhf_hw.stats.intervals import as_vector

SCORE = "reward-model score (points)"
SIDES = ("chosen", "rejected")
BINS = 8  # of equal mass, for means along the length


def common_bins(*samples: np.ndarray) -> np.ndarray:
    """Edges for histograms of several samples: Freedman and Diaconis' width of all of them, 15 to 60 bins."""
    pooled = np.concatenate(samples)
    if np.ptp(pooled) == 0:
        return pooled[0] + np.linspace(-0.5, 0.5, 16)
    spread = np.subtract(*np.quantile(pooled, [0.75, 0.25]))
    # counted, not made: few values far from all others would ask for more edges than fit into memory
    suggested = np.ceil(np.ptp(pooled) / (2 * spread * pooled.size ** (-1 / 3))) if spread else 30
    return np.linspace(pooled.min(), pooled.max(), int(np.clip(suggested, 15, 60)) + 1)


def percent(share: float, _: int | None = None) -> str:
    """A tick's label with the decimals it needs: one at 2.5 % that said 2 % would be wrong."""
    return with_minus(f"{round(100 * share, 3):g}%")


def draw_histogram(
    axes: Axes, values: np.ndarray, edges: np.ndarray, colour: str, label: str, *, dashed=False
):
    """A light filled histogram with an outline, and a vertical line at the mean."""
    weights, style = np.full(values.size, 1 / values.size), (0, (3, 2)) if dashed else "-"
    axes.hist(values, edges, weights=weights, color=colour, alpha=0.22)
    axes.hist(
        values,
        edges,
        weights=weights,
        color=colour,
        histtype="step",
        linewidth=1.2,
        linestyle=style,
        label=label,
    )
    axes.axvline(values.mean(), color=colour, linewidth=1.3, linestyle=style)
    axes.yaxis.set_major_formatter(percent)


def draw_pair(axes: Axes, chosen: np.ndarray, rejected: np.ndarray, edges: np.ndarray) -> None:
    """Chosen and rejected on one pair of axes; means in the legend."""
    draw_histogram(axes, rejected, edges, REJECTED, f"rejected, mean {rejected.mean():.2f}", dashed=True)
    draw_histogram(axes, chosen, edges, CHOSEN, f"chosen, mean {chosen.mean():.2f}")
    axes.set_xlabel(SCORE)


def separation(chosen: np.ndarray, rejected: np.ndarray) -> str:
    """Effect size and overlap in words; constant scores have neither."""
    if np.ptp(chosen) == 0 or np.ptp(rejected) == 0:
        return "constant scores"
    overlap = overlap_coefficient(chosen, rejected)
    return f"effect size {effect_size(chosen, rejected):.2f}, overlap {overlap:.0%}"


@styled
def score_distribution(chosen: ArrayLike, rejected: ArrayLike, *, title: str = "") -> Figure:
    """Scores of chosen and of rejected replies, overlaid; vertical lines at the means.

    Args:
        chosen, rejected: scores, shape (pairs,).
        title: of the panel; the effect size (Cohen's d) and the overlap of the densities are the legend's
            title.
    """
    chosen, rejected = as_vector(chosen, "chosen"), as_vector(rejected, "rejected")
    figure, axes = canvas(height=2.9)
    draw_pair(axes, chosen, rejected, common_bins(chosen, rejected))
    axes.set_ylabel("share of replies")
    axes.set_title(title)
    axes.legend(
        title=separation(chosen, rejected), loc="upper left", bbox_to_anchor=(1.0, 1.0), alignment="left"
    )
    return figure


@styled
def side_by_side(
    sets: Mapping[str, tuple[ArrayLike, ArrayLike]], *, same_model: Collection[str] = ()
) -> Figure:
    """Score distributions of several sets of pairs, one panel each.

    Scores of different reward models have no common zero or unit, so their panels have axes of their own;
    what can be compared is the separation, given above each panel. Panels of the same model share both axes.

    Args:
        sets: title -> (chosen scores, rejected scores), for instance untrained, validation, training set.
        same_model: titles of the panels that one model scored.
    """
    samples = {
        title: tuple(as_vector(part, f"{title}: {name}") for part, name in zip(pair, SIDES, strict=True))
        for title, pair in sets.items()
    }
    figure, panels = canvas(1, len(sets), height=2.9, squeeze=False, sharey=False)
    first = None
    for axes, (title, pair) in zip(panels[0], samples.items(), strict=True):
        together = [part for name in same_model for part in samples[name]] if title in same_model else pair
        if title in same_model and first is not None:
            axes.sharex(first)
            axes.sharey(first)
        first = axes if title in same_model and first is None else first
        draw_pair(axes, *pair, common_bins(*together))
        axes.set_title("\n".join([title, *separation(*pair).split(", ")]), fontsize=8)
        legend_below(axes, columns=1)
    panels[0][0].set_ylabel("share of replies")
    return figure


@styled
def margin_histogram(margins: ArrayLike) -> Figure:
    """Differences r(chosen) - r(rejected) of the pairs; those below zero are ordered wrongly."""
    margins = as_vector(margins, "margins")
    figure, axes = canvas(width=HALF, height=TALL + 0.6)
    edges = common_bins(margins)
    # Zero must be an edge, or one bar would hold right and wrong pairs.
    edges = edges - edges[np.abs(edges).argmin()]
    edges = np.append(edges, edges[-1] + np.diff(edges[:2])) if edges[-1] < margins.max() else edges
    edges = np.insert(edges, 0, edges[0] - np.diff(edges[:2])) if edges[0] > margins.min() else edges
    for inside, colour, name in ((margins > 0, CHOSEN, "right"), (margins < 0, REJECTED, "wrong")):
        weights = np.full(int(inside.sum()), 1 / margins.size)
        axes.hist(
            margins[inside],
            edges,
            weights=weights,
            color=colour,
            alpha=0.75,
            label=f"{name}: {inside.mean():.1%}",
        )
    axes.plot([], [], " ", label=f"ties: {(margins == 0).mean():.1%}")
    axes.axvline(margins.mean(), color=INK, linewidth=1.2, linestyle=":", label=f"mean {margins.mean():.2f}")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.yaxis.set_major_formatter(percent)
    axes.set_xlabel("score of chosen minus rejected (log-odds)")
    axes.set_ylabel("share of pairs")
    legend_below(axes)
    return figure


@styled
def score_against_length(
    groups: Mapping[str, tuple],
    *,
    unit: str = "tokens",
    cases: Mapping[str, CaseAddresses] = MappingProxyType({}),
) -> Figure:
    """Score of each reply against its length, one panel a group, with the mean scores in bins of equal mass.

    The means have 1.96 standard errors; no line runs through them, since what length adds may level off.
    The titles give Spearman's correlation of score and length.

    Args:
        groups: name -> (scores, lengths) or more, of which no use is made; the names of `KNOWN_COLOURS` keep
            their colours in all figures.
        unit: of the lengths.
        cases: name -> what its points lead to in the reply explorer (`experiments.case_addresses`).
    """
    figure, panels = canvas(1, len(groups), height=2.8, squeeze=False, sharex=True, sharey=True)
    for axes, (name, (scores, lengths, *_)), colour in zip(panels[0], groups.items(), CYCLE, strict=False):
        scores, lengths = as_vector(scores, f"{name}: scores"), as_vector(lengths, f"{name}: lengths")
        colour = KNOWN_COLOURS.get(name, colour)
        axes.plot(
            lengths, scores, ".", color=colour, alpha=0.35, markersize=3.5, markeredgewidth=0, rasterized=True
        )
        if name in cases:
            mark_cases(axes, lengths, scores, cases[name])
        draw_binned_means(axes, lengths, scores)
        flat = np.ptp(lengths) == 0 or np.ptp(scores) == 0
        found = (
            "all of one length or score" if flat else f"rank correlation {correlation(scores, lengths):.2f}"
        )
        axes.set_title(f"{SHOWN_AS.get(name, name)}\n{found}", fontsize=8)  # narrow panels stand side by side
        axes.set_xlabel(f"length ({unit})")
    panels[0][0].set_ylabel(SCORE)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def draw_binned_means(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Mean of y in equal-mass bins of x, with 1.96 standard errors."""
    groups = pd.DataFrame({"x": x, "y": y}).groupby(
        pd.qcut(x, min(BINS, x.size), labels=False, duplicates="drop")
    )
    table = groups.agg(x=("x", "mean"), y=("y", "mean"), error=("y", "sem")).fillna(0)
    axes.errorbar(
        table["x"],
        table["y"],
        yerr=1.96 * table["error"],
        fmt="o",
        color=INK,
        markersize=3.5,
        linewidth=1.2,
        label="mean of a bin, 95%",
    )


@styled
def accuracy_by_length(table: pd.DataFrame, *, unit: str = "tokens") -> Figure:
    """Accuracy against how much longer the chosen reply is.

    Args:
        table: from `stats.length.accuracy_by_length_gap`.
    """
    figure, axes = canvas(height=2.7)
    error = whiskers(table["accuracy"], table["accuracy_low"], table["accuracy_high"])
    axes.errorbar(
        table["gap"],
        table["accuracy"],
        yerr=error,
        fmt="o",
        color=BLUE,
        markersize=4,
        label="accuracy in a bin, 95%",
    )
    note_line(axes, 0.5, "chance (0.5)")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(
        f"length of chosen minus length of rejected ({unit}; means of bins of equally many pairs)"
    )
    axes.set_ylabel("accuracy (share of pairs)")
    axes.legend(loc="lower right")
    return figure


@styled
def calibration_curve(curves: Mapping[str, pd.DataFrame], margins: ArrayLike) -> Figure:
    """Share right against stated confidence, with intervals; below, how the confidences are spread.

    Args:
        curves: name -> table from `stats.calibration.reliability_curve` (as trained, after scaling).
        margins: of the pairs, for the lower panel.
    """
    figure, (axes, counts) = canvas(2, 1, width=HALF, height=TALL + 0.6, sharex=True, height_ratios=[3.2, 1])
    axes.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    for (name, table), colour, mark in zip(curves.items(), (BLUE, ORANGE, GREEN), "osD", strict=False):
        error = whiskers(table["accuracy"], table["accuracy_low"], table["accuracy_high"])
        axes.errorbar(
            table["confidence"],
            table["accuracy"],
            yerr=error,
            fmt=mark,
            color=colour,
            markersize=4,
            markerfacecolor=colour if mark == "o" else "none",
            label=name,
        )
    confidence = special.expit(np.abs(as_vector(margins, "margins")))
    counts.hist(confidence, np.linspace(0.5, 1, 26), color=LIGHT, edgecolor=GREY, linewidth=0.5)
    counts.set_ylabel("pairs")
    counts.set_xlabel("stated confidence: sigmoid(|margin|)")
    axes.set_ylabel("share in the right order")
    axes.set_xlim(0.49, 1.01)
    figure.legend(loc="outside lower center")  # inside it would lie on the curves
    return figure
