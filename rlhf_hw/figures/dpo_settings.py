"""The frontier of DPO's settings: what each gains by the reward models and by gold, against KL."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rlhf_hw.figures.style import (
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

LOOKS = {
    "score": (ORANGE, "o", "reward model"),
    "judge": (PURPLE, "s", "second reward model"),
    "gold": (GREEN, "D", "gold"),
}


class Tried(Protocol):
    """What `experiments.dpo_settings.choose` found."""

    settings: Sequence
    kl: Sequence[float]
    gains: Mapping[str, Sequence[Estimate]]
    chosen: int
    budget: float


@styled
def settings_frontier(found: Tried) -> Figure:
    """Mean gain over the start against KL, one point a setting; left by the scores, right by gold if known.

    Args:
        found: The settings tried.
    """
    panels = [[name for name in ("score", "judge") if name in found.gains]]
    panels += [["gold"]] if "gold" in found.gains else []
    figure, axes = canvas(1, len(panels), width=6.3, height=3.0, squeeze=False)
    for panel, names in zip(axes[0], panels, strict=True):
        for name in names:
            draw_gains(panel, found, name)
        note_line(panel, 0, "start (SFT)")
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("KL from the start (nats a reply, log scale)")
        panel.set_ylabel("mean gain (gold)" if names == ["gold"] else "mean gain (score)")
        panel.margins(x=0.45, y=0.15)
        left, right = panel.get_xlim()
        if found.budget < right:
            panel.axvspan(max(found.budget, left), right, color=GREY, alpha=0.12, label="beyond the budget")
            panel.set_xlim(left, right)
        legend_below(panel, columns=2)
    return figure


def draw_gains(axes: Axes, found: Tried, name: str) -> None:
    """The gains by one judge, joined for settings of one beta; learning rate and beta beside the points."""
    colour, marker, label = LOOKS[name]
    gains = found.gains[name]
    values, lows, highs = ([getattr(gain, end) for gain in gains] for end in ("value", "low", "high"))
    axes.errorbar(
        found.kl,
        values,
        yerr=whiskers(values, lows, highs),
        fmt=marker,
        color=colour,
        markersize=4,
        label=label,
    )
    for beta in {setting.beta for setting in found.settings}:
        line = sorted((found.kl[n], values[n]) for n, s in enumerate(found.settings) if s.beta == beta)
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.5)
    if name != "judge":  # the two scores share their points' places
        betas = sorted({setting.beta for setting in found.settings})
        for n, setting in enumerate(found.settings):
            right = betas.index(setting.beta) % 2 == 0  # settings of small rates differ little in place
            where = {
                "xytext": (5 if right else -5, 4),
                "ha": "left" if right else "right",
                "textcoords": "offset points",
                "fontsize": 7,
                "color": INK,
            }
            axes.annotate(f"{setting.learning_rate:.0e}, {setting.beta:g}", (found.kl[n], values[n]), **where)
    at = found.chosen
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
    axes.plot(found.kl[at], values[at], "o", **ring, label="chosen" if name != "judge" else None)
