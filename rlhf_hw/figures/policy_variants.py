"""Figures of policies trained with DPO's variants: gold against KL over rates, and all at their best."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from rlhf_hw.figures.replies import draw_whiskers
from rlhf_hw.figures.style import (
    BLUE,
    GOLD,
    GOLD_UNIT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    canvas,
    intervals_drawn,
    note_line,
    styled,
)
from rlhf_hw.stats.replicates import Replicated

LOSS_LOOKS = {
    "DPO": ("DPO", BLUE, "o"),
    "IPO": ("IPO", PURPLE, "^"),
    "cDPO": ("cDPO", ORANGE, "s"),
    "rDPO": ("rDPO", GREEN, "D"),
    "KTO": ("KTO", SKY, "v"),
    "SimPO": ("SimPO", GOLD, "P"),
    "ORPO": ("ORPO", ORANGE, "X"),
    "R_DPO": ("R-DPO", GREEN, "<"),
    "DPOP": ("DPOP", PURPLE, ">"),
    "DPO_NLL": ("DPO + likelihood", INK, "h"),
    "NLL": ("likelihood alone", GREY, "d"),
}
LABEL_LOOKS = {  # labels -> name, colour, mark, place beside the row's middle
    "honest": ("honest labels", BLUE, "o", 0.0),
    "flipped": ("flipped labels", ORANGE, "s", -0.22),
    "shuffled": ("labels at random (control)", GREY, "D", -0.44),
}
FRONTIER_COLUMNS = 4
OTHERS = {"color": GREY, "alpha": 0.35, "linewidth": 0.8}
LOWEST_GOLD = -1.5  # SD of base replies: where the frontier is cut off, some rates are far below
COLUMNS = {"gold": f"gold ({GOLD_UNIT})", "kl": "KL from the start (nats)", "words": "length (words)"}


@styled
def variant_frontiers(frontier: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Change of gold against KL from the start: a panel for each loss, in which the others are pale.

    Lines of several losses lie on each other where it matters, near the start. Gold below `LOWEST_GOLD` would
    press all of them together: an arrow stands for it at the lower edge, with its value.

    Args:
        frontier: Keys of `LOSS_LOOKS` -> points with `kl`, `gold` and `chosen`, in the order of the rates.
    """
    rows = -(-len(frontier) // FRONTIER_COLUMNS)
    columns = min(len(frontier), FRONTIER_COLUMNS)
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, panels = canvas(rows, columns, height=1.1 + 1.15 * rows, **shared)
    for axes, loss in zip(panels.ravel(), frontier, strict=False):
        for other in frontier:
            if other != loss:
                axes.plot(*_places(frontier[other]), **OTHERS, zorder=1)
        _draw_frontier(axes, frontier[loss], loss)
    for axes in panels.ravel()[len(frontier) :]:
        axes.set_visible(False)
    for axes in panels.ravel()[: len(frontier)][-columns:]:  # nothing below
        axes.tick_params(labelbottom=True)
    above = panels[0, 0]
    above.set_xscale("log")
    above.margins(x=0.08, y=0.12)
    above.yaxis.set_major_locator(MultipleLocator(0.5))
    golds = [gold for points in frontier.values() for gold in _places(points)[1]]
    if min(golds) < LOWEST_GOLD:
        above.set_ylim(LOWEST_GOLD, max(max(golds), 0.0) + 0.3)
    figure.supxlabel("KL from the start (nats a reply, log scale)", fontsize=8.5)
    figure.supylabel(f"mean gain in gold ({GOLD_UNIT})", fontsize=8.5)
    closer = {"ncols": 5, "columnspacing": 1.1, "handlelength": 1.5, "handletextpad": 0.5}
    figure.legend(handles=_frontier_marks(min(golds) < LOWEST_GOLD), loc="outside upper center", **closer)
    return figure


def _places(points: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    return [point["kl"] for point in points], [point["gold"] for point in points]


def _draw_frontier(axes: Axes, points: Sequence[Mapping[str, float]], loss: str) -> None:
    """One loss: its line, a ring at its chosen rate, an arrow for each point under the panel."""
    label, colour, mark = LOSS_LOOKS[loss]
    axes.set_title(label, fontsize=8.5, pad=3)
    axes.plot(
        *_places(points), color=colour, marker=mark, markersize=4.5, linewidth=1.0, label=label, zorder=3
    )
    taken = [point for point in points if point["chosen"]]
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
    axes.plot(*_places(taken), "o", **ring, zorder=4)
    note_line(axes, 0.0, "")
    for point in points:
        if point["gold"] < LOWEST_GOLD:
            lowest = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(
                "", (point["kl"], 0.0), (0, 15), **lowest, arrowprops={"arrowstyle": "-|>", "color": colour}
            )
            axes.annotate(
                f"{point['gold']:.1f}", (point["kl"], 0.0), (8, 16), **lowest, fontsize=8, ha="right"
            )


def _frontier_marks(cut: bool) -> list[Line2D]:
    """What the legend explains, in the colour of no loss."""
    marks = [
        Line2D([], [], color=INK, marker="o", markersize=4.5, linewidth=1.0, label="one loss, by rate"),
        Line2D(
            [], [], color=INK, marker="o", markersize=10, fillstyle="none", linewidth=0, label="chosen rate"
        ),
        Line2D([], [], **OTHERS, label="other losses"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label="start (SFT)"),
    ]
    below = Line2D([], [], color=INK, marker="v", markersize=6, linewidth=0, label="lower, with its value")
    return [*marks, below] if cut else marks


@styled
def variants_at_their_best(trained: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Changes of gold, KL and length at the chosen rates, one row a loss, one mark for each kind of labels.

    Args:
        trained: Keys of `LABEL_LOOKS` -> keys of `LOSS_LOOKS` -> numbers with `gold`, `kl`, `words` and their
            intervals.
    """
    losses = [loss for loss in LOSS_LOOKS if loss in trained["honest"]]
    rows = dict(zip(losses, np.arange(len(losses))[::-1], strict=True))
    figure, panels = canvas(1, len(COLUMNS), height=1.3 + 0.32 * len(losses))
    for panel, (key, name) in zip(panels, COLUMNS.items(), strict=True):
        for labels, (label, colour, mark, beside) in LABEL_LOOKS.items():
            for loss, numbers in trained.get(labels, {}).items():
                place = rows[loss] + beside
                number = Replicated.of(numbers, key)
                draw_whiskers(panel, above_zero(number) if key == "kl" else number, place, colour, mark)
            if key == "gold" and trained.get(labels):
                panel.plot([], [], mark, color=colour, markersize=5, label=label)
        note_line(panel, 0.0, "", vertical=True)
        panel.set_yticks(
            list(rows.values()), [LOSS_LOOKS[loss][0] if key == "gold" else "" for loss in losses]
        )
        panel.set_ylim(-0.75, len(losses) - 0.4)
        panel.grid(axis="y", visible=False)
        panel.set_xlabel(name)
    drawn = intervals_drawn(Replicated.of(numbers, "gold") for numbers in trained["honest"].values())
    figure.legend(loc="outside lower center", ncols=3, title=drawn, title_fontsize=8)
    return figure


def above_zero(number: Replicated) -> Replicated:
    """The number with its intervals cut at zero, below which a divergence cannot be."""
    prompts, trainings = (
        part and part._replace(low=max(part.low, 0.0)) for part in (number.prompts, number.trainings)
    )
    return number._replace(prompts=prompts, trainings=trainings)
