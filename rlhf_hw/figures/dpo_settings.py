"""The frontier of DPO's settings: what each gains by the reward models and by gold, against KL."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rlhf_hw.figures.numbers import powers_of_ten
from rlhf_hw.figures.style import (
    GOLD_UNIT,
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
ASIDE = {"judge": 1.12}  # the second score stands beside the first, whose place it shares


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
        name_settings(panel, found, names)
        note_line(panel, 0, "start (SFT)")
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("KL from the start (nats a reply, log scale)")
        gold = names == ["gold"]
        panel.set_ylabel(f"mean gain in gold\n({GOLD_UNIT})" if gold else "mean gain in score\n(points)")
        panel.margins(x=0.3, y=0.2)
        left, right = panel.get_xlim()
        if found.budget < right:
            panel.axvspan(max(found.budget, left), right, color=GREY, alpha=0.12, label="beyond the budget")
            panel.set_xlim(left, right)
        legend_below(panel, columns=2)
    return figure


def draw_gains(axes: Axes, found: Tried, name: str) -> None:
    """The gains by one judge, joined for settings of one beta."""
    colour, marker, label = LOOKS[name]
    gains, kl = found.gains[name], [ASIDE.get(name, 1.0) * place for place in found.kl]
    values, lows, highs = ([getattr(gain, end) for gain in gains] for end in ("value", "low", "high"))
    axes.errorbar(
        kl,
        values,
        yerr=whiskers(values, lows, highs),
        fmt=marker,
        color=colour,
        markersize=4,
        label=label,
    )
    for beta in {setting.beta for setting in found.settings}:
        line = sorted((kl[n], values[n]) for n, s in enumerate(found.settings) if s.beta == beta)
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.8, alpha=0.5)
    at = found.chosen
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
    axes.plot(kl[at], values[at], "o", **ring, label="taken by the rule" if name != "judge" else None)


def name_settings(axes: Axes, found: Tried, names: Sequence[str]) -> None:
    """Learning rate and beta above and below the intervals in turn: neighbours differ little in KL."""
    for turn, n in enumerate(sorted(range(len(found.settings)), key=lambda n: found.kl[n])):
        above = turn % 2 == 0
        ends = [found.gains[name][n].high if above else found.gains[name][n].low for name in names]
        setting = found.settings[n]
        axes.annotate(
            rf"{powers_of_ten(f'{setting.learning_rate:.0e}', 'figure')}, $\beta$ {setting.beta:g}",
            (found.kl[n], max(ends) if above else min(ends)),
            (0, 3 if above else -3),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
        )
