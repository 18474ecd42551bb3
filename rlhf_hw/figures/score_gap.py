"""Figures of the score gap taken apart: its parts as a waterfall, and where planted faults ended up."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.figures.scores import SCORE
from rlhf_hw.figures.style import BLUE, GREY, INK, ORANGE, canvas, styled, whiskers
from rlhf_hw.stats.intervals import Estimate

# What figures call the parts of a gap that have short names in the metrics
PART_NAMES = {
    "readout": "read-out",
    "quality": "true quality",
    "ood": "unfamiliar text",
    "rest": "unexplained rest",
}


@styled
def waterfall(gap: Mapping[str, Estimate], *, total_name: str = "gap") -> Figure:
    """A difference (first bar) and the parts it consists of, each starting where the one before ended.

    Args:
        gap: "gap", the difference that is explained, and its parts in the order drawn, which sum to it.
        total_name: what the figure calls the difference.

    Raises:
        ValueError: the parts do not sum to the total.
    """
    parts = dict(gap)
    total = parts.pop("gap")
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
    axes.set_ylabel(f"{SCORE} (95% intervals)")
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
