"""Figures of DPO in worlds that are computed exactly: where it ends beside RLHF, and what variants change."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    canvas,
    legend_below,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.intervals import Estimate

COVERAGE_LINES = {
    "everything": ("all pairs", BLUE, "-", "o"),
    "chain": ("a chain of pairs", GREEN, (0, (5, 1)), "D"),
    "islands": ("within two halves only", ORANGE, (0, (1, 1)), "s"),
}
CLASS_ROWS = {"whole": ("all policies", BLUE), "small": ("too small a class", ORANGE)}
SOURCE_LINES = {
    "offline": ("offline, reference", ORANGE, (0, (1, 1)), "s"),
    "iterative": ("iterative", BLUE, "-", "o"),
    "uniform": ("offline, all alike", GREEN, (0, (5, 1)), "D"),
}
ANCHOR_MARKS = {"DPO + NLL": ("DPO + likelihood", PURPLE, "^"), "DPOP": ("DPOP", GREEN, "D")}
NOISE_LINES = {
    "rDPO": (GREEN, "-", "D"),
    "IPO": (PURPLE, (0, (5, 1)), "^"),
    "DPO": (BLUE, "-", "o"),
    "cDPO": (ORANGE, (0, (1, 1)), "s"),
}
LOWEST_SHARE = -1.0  # where shares of a gain are cut off: some are far below


@styled
def beside_rlhf(
    distances: Mapping[str, Mapping[int, Mapping[str, float]]], reached: Mapping[str, ArrayLike]
) -> Figure:
    """Left: how far DPO is from RLHF's policy by labels. Right: what it reaches in a class too small.

    Args:
        distances: Which pairs are compared -> labels -> numbers with `distance` and its interval.
        reached: "whole" and "small" -> shares of the best gain that DPO reached, shape (worlds, mixes).
    """
    figure, (left, right) = canvas(1, 2, height=3.0)
    _draw_counts(left, distances, COVERAGE_LINES, "distance")
    left.set_ylim(bottom=0)
    left.set_ylabel("distance to RLHF's policy\n(total variation)")
    rows = np.arange(len(CLASS_ROWS))[::-1]
    for row, (kind, (_, colour)) in zip(rows, CLASS_ROWS.items(), strict=True):
        shares = np.clip(np.asarray(reached[kind], dtype=float), LOWEST_SHARE, None)
        offsets = np.linspace(-0.28, 0.28, len(shares))
        places = np.repeat(row + offsets, shares.shape[1])
        right.plot(shares.ravel(), places, ".", color=colour, markersize=4, alpha=0.6)
    note_line(right, 0.0, "reference model", vertical=True)
    right.axvline(1.0, color=INK, linewidth=0.9, zorder=1, label="RLHF's best of the class")
    right.set_yticks(rows, [name for name, _ in CLASS_ROWS.values()])
    right.set_ylim(-0.6, len(rows) - 0.4)
    right.set_xlim(LOWEST_SHARE - 0.08, 1.15)
    right.grid(axis="y", visible=False)
    right.set_xlabel("share of the gain that DPO reaches")
    legend_below(right)
    return figure


@styled
def what_variants_change(
    regrets: Mapping[str, Mapping[int, Mapping[str, float]]],
    changes: Mapping[float, Mapping[str, float]],
    anchored: Mapping[str, Mapping[str, float]],
    rates: Sequence[float],
    kept: Mapping[str, ArrayLike],
) -> Figure:
    """Three panels: where pairs come from, likelihood displacement, label noise.

    Args:
        regrets: Where pairs come from -> labels -> numbers with `regret` and its interval.
        changes: Similarity of the two replies -> numbers with `change` and its interval.
        anchored: Loss with an anchor -> numbers with `change` at the largest similarity and its interval.
        rates: Shares of flipped labels, shape (R,).
        kept: Loss -> the share of its margin without noise that it keeps, shape (R,).
    """
    figure, (left, middle, right) = canvas(1, 3, height=3.4)
    _draw_counts(left, regrets, SOURCE_LINES, "regret")
    left.set_ylim(bottom=0)
    left.set_ylabel("regret (units of reward)")
    _draw_band(middle, list(changes), list(changes.values()), "change", ("DPO", BLUE, "-", "o"))
    for name, (label, colour, mark) in ANCHOR_MARKS.items():
        one = Estimate.of(anchored[name], "change")
        bars = whiskers(*([value] for value in one))
        middle.errorbar(max(changes), one.value, yerr=bars, fmt=mark, color=colour, markersize=5, label=label)
    middle.axhline(0, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    middle.set_xlabel("similarity of the two replies")
    middle.set_ylabel("change of log π(chosen) (nats)")
    legend_below(middle, columns=1)
    for name, (colour, line, mark) in NOISE_LINES.items():
        right.plot(rates, kept[name], color=colour, linestyle=line, marker=mark, markersize=4, label=name)
    right.set_ylim(0, 1.05)
    right.set_xlabel("share of flipped labels")
    right.set_ylabel("share of the margin kept")
    legend_below(right, columns=1)
    return figure


def _draw_counts(axes, found: Mapping, lines: Mapping, key: str) -> None:
    """One line with a band for each way, over numbers of labels on a logarithmic axis."""
    for name, style in lines.items():
        _draw_band(axes, list(found[name]), list(found[name].values()), key, style)
    counts = list(next(iter(found.values())))[::-2][::-1]  # every second one has room for its name
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labels (log scale)")
    legend_below(axes, columns=1)


def _draw_band(axes, places: Sequence[float], numbers: Sequence[Mapping[str, float]], key, style) -> None:
    label, colour, line, mark = style
    values = np.array([tuple(Estimate.of(one, key)) for one in numbers])
    axes.plot(places, values[:, 0], color=colour, linestyle=line, marker=mark, markersize=4, label=label)
    axes.fill_between(places, *values[:, 1:].T, color=colour, alpha=0.15, linewidth=0)
