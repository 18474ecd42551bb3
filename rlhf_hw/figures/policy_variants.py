"""Figures of policies trained with DPO's variants: gold against KL over rates, and all at their best."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

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
COLUMNS = {"gold": f"gold ({GOLD_UNIT})", "kl": "KL from the start (nats)", "words": "words"}


@styled
def variant_frontiers(frontier: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Change of gold against KL from the start, one line a loss and one mark a learning rate.

    Args:
        frontier: Keys of `LOSS_LOOKS` -> points with `kl`, `gold` and `chosen`, in the order of the rates.
    """
    figure, axes = canvas(height=3.9)
    for loss, points in frontier.items():
        label, colour, mark = LOSS_LOOKS[loss]
        places, values = ([point[name] for point in points] for name in ("kl", "gold"))
        look = {"color": colour, "marker": mark, "markersize": 5, "linewidth": 0.8}
        axes.plot(places, values, **look, label=label)
        taken = [(point["kl"], point["gold"]) for point in points if point["chosen"]]
        ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": colour, "linestyle": "none"}
        axes.plot(*zip(*taken, strict=True), "o", **ring)
    note_line(axes, 0.0, "start (SFT)")
    axes.set_xscale("log")
    axes.set_xlabel("KL from the start (nats a reply, log scale)")
    axes.set_ylabel(f"mean gain in gold\n({GOLD_UNIT})")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


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
                draw_whiskers(panel, Replicated.of(numbers, key), place, colour, mark)
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
