"""The frontier of DPO's settings: what each gains by the reward models and by gold, against KL."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rlhf_hw.figures.naming import name_marks
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
        note_line(panel, 0, "start (SFT)")
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("KL from the start\n(nats a reply, log scale)")
        gold = names == ["gold"]
        panel.set_ylabel(f"mean gain in gold\n({GOLD_UNIT})" if gold else "mean gain in score\n(points)")
        panel.margins(x=0.3, y=0.2)
        left, right = panel.get_xlim()
        if found.budget < right:
            panel.axvspan(max(found.budget, left), right, color=GREY, alpha=0.12, label="beyond the budget")
            panel.set_xlim(left, right)
        legend_below(panel, columns=2)
    for panel, names in zip(axes[0], panels, strict=True):  # all in place
        name_settings(panel, found, names)
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
    for order in joined(found):
        axes.plot([kl[n] for n in order], [values[n] for n in order], color=colour, linewidth=0.8, alpha=0.5)
    at = found.chosen
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
    axes.plot(kl[at], values[at], "o", **ring, label="taken by the rule" if name != "judge" else None)


def name_settings(axes: Axes, found: Tried, names: Sequence[str]) -> None:
    """Learning rate and beta beside the mark of the first of the judges."""
    said = [
        rf"{powers_of_ten(f'{setting.learning_rate:.0e}', 'figure')}, $\beta$ {setting.beta:g}"
        for setting in found.settings
    ]
    lines, marks = [[(kl, 0.0) for kl in axes.get_xlim()]], {}
    for name in names:
        places = [ASIDE.get(name, 1.0) * kl for kl in found.kl]
        marks[name] = [(at, gain.value) for at, gain in zip(places, found.gains[name], strict=True)]
        ends = [(gain.low, gain.high) for gain in found.gains[name]]
        lines += [[(at, end) for end in pair] for at, pair in zip(places, ends, strict=True)]
        lines += [[marks[name][n] for n in order] for order in joined(found)]
    first, *rest = names
    name_marks(axes, said, marks[first], [at for name in rest for at in marks[name]], lines)


def joined(found: Tried) -> list[list[int]]:
    """Settings of one beta, in the order of their KL: a line joins them."""
    betas = sorted({setting.beta for setting in found.settings})
    near = sorted(range(len(found.settings)), key=lambda n: found.kl[n])
    return [[n for n in near if found.settings[n].beta == beta] for beta in betas]
