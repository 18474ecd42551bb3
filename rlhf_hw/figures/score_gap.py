"""Figures of the score gap taken apart: its parts as waterfalls, and where planted faults ended up."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.figures.style import BLUE, GREY, INK, ORANGE, canvas, styled, whiskers
from rlhf_hw.stats.replicates import Replicated

# What figures call the parts of a gap that have short names in the metrics
PART_NAMES = {
    "readout": "read-out",
    "quality": "true quality",
    "ood": "unfamiliar text",
    "rest": "unexplained rest",
}
UNPROVEN = "(?) not borne out by trials"  # of a part that the trials with planted faults do not bear out
HATCHED = {"alpha": 0.4, "hatch": "////", "edgecolor": "white"}
WHISKERS = {  # of the two intervals
    "prompts": {"linewidth": 4, "alpha": 0.35, "capsize": 0},
    "trainings": {"linewidth": 1},
}
ROOM, ROW = 1.1, 0.235  # inches: what lies around the bars; a bar
Parts = Mapping[str, Replicated]


@dataclass(frozen=True)
class Bar:
    """One bar of a waterfall: a total, which stands on zero, or a part, which starts where the last ended."""

    name: str
    number: Replicated
    start: float = 0.0
    total: bool = False
    unproven: bool = False


@styled
def waterfall(gap: Parts, *, total_name: str = "gap", unproven: Collection[str] = ()) -> Figure:
    """The parts of a difference, each starting where the one before ended, and their sum, the total, below.

    Args:
        gap: "gap", the difference that is explained, and its parts in the order drawn, which sum to it.
        total_name: what the figure calls the difference.
        unproven: parts that trials with planted faults do not bear out; they are hatched.

    Raises:
        ValueError: the parts do not sum to the total.
    """
    bars = [*part_bars(gap, 0.0, unproven), Bar(total_name, gap["gap"], total=True)]
    figure, axes = canvas(height=ROOM + ROW * len(bars))
    draw_bars(axes, bars)
    return figure


@styled
def step_waterfall(totals: Parts, steps: Mapping[str, Parts], *, unproven: Collection[str] = ()) -> Figure:
    """Policies in the order of training (totals), and between two of them the parts of the step.

    Args:
        totals: name of each policy -> its gap to the references.
        steps: name of each policy but the first -> "gap", its gain over the one before, and the parts of it.
            Parts that are zero in every replicate have no bar.
        unproven: as in `waterfall`.
    """
    bars: list[Bar] = []
    for name, total in totals.items():
        if name in steps:
            moving = {k: v for k, v in steps[name].items() if k == "gap" or not np.allclose(v.prompts, 0)}
            bars += part_bars(moving, bars[-1].number.value, unproven)
        bars.append(Bar(f"gap of {name}", total, total=True))
    figure, axes = canvas(height=ROOM + ROW * len(bars))
    draw_bars(axes, bars)
    return figure


def part_bars(parts: Parts, start: float, unproven: Collection[str]) -> list[Bar]:
    """Bars of parts, one on the other; they must sum to "gap"."""
    total, names = parts["gap"].value, [name for name in parts if name != "gap"]
    summed = sum(parts[name].value for name in names)
    if not np.isclose(summed, total, atol=1e-6 + 1e-6 * abs(total)):
        raise InputError(f"the parts sum to {summed}, the total is {total}")
    bars = []
    for name in names:
        bars.append(Bar(part_name(name), parts[name], start, unproven=name in unproven))
        start += parts[name].value
    return bars


def draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    """A row a bar, both intervals at its end: a thick pale line over prompts, a thin one over trainings."""
    for place, bar in enumerate(bars):
        end = bar.start + bar.number.value
        colour = GREY if bar.total else BLUE if bar.number.value >= 0 else ORANGE
        look = HATCHED if bar.unproven else {"alpha": 0.85}
        axes.barh(place, bar.number.value, left=bar.start, color=colour, height=0.66, linewidth=0, **look)
        for kind, interval in (("prompts", bar.number.prompts), ("trainings", bar.number.trainings)):
            if interval is not None:
                error = whiskers([end], [bar.start + interval.low], [bar.start + interval.high])
                label = f"95% interval over {kind}" if not place else None
                axes.errorbar(end, place, xerr=error, fmt="none", color=INK, label=label, **WHISKERS[kind])
        strong = {"weight": "bold"} if bar.total else {}
        number = (1.015, place), ("axes fraction", "data")
        axes.annotate(f"{bar.number.value:+z.2f}", number[0], xycoords=number[1], va="center", **strong)
        if place:
            level = end if bar.total else bar.start
            axes.plot([level, level], [place - 0.67, place + 0.33], color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.9)
    axes.set_yticks(range(len(bars)), [f"{bar.name} (?)" if bar.unproven else bar.name for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("score above the chosen replies (points)")
    handles, labels = axes.get_legend_handles_labels()
    if any(bar.unproven for bar in bars):
        handles.append(Patch(facecolor=BLUE, **HATCHED))
        labels.append(UNPROVEN)
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=3)


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
    figure, axes = canvas(width=min(6.3, 1.9 + 0.68 * len(attributed)), height=1.2 + 0.29 * len(planted))
    axes.imshow(shares, cmap="RdBu", vmin=-1.15, vmax=1.15, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        dark = abs(share) > 0.6
        axes.text(
            column, row, f"{share:z.0%}", ha="center", va="center", color="white" if dark else INK, fontsize=8
        )
    axes.set_xticks(range(len(attributed)), map(part_name, attributed), rotation=25, ha="right")
    axes.set_yticks(range(len(planted)), map(part_name, planted))
    axes.set_xlabel("part that it was booked on (share of the gap)")
    axes.set_ylabel("planted fault")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure
