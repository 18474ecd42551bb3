"""Figures of generated replies: distributions, win rates, gains by score and in truth, best-of-n."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from rlhf_hw.figures.narrow import also_narrow
from rlhf_hw.figures.scores import SCORE, common_bins, draw_histogram
from rlhf_hw.figures.style import (
    BASE,
    BLUE,
    CYCLE,
    DPO,
    GOLD_UNIT,
    GREEN,
    GREY,
    HALF,
    INK,
    KNOWN_COLOURS,
    PURPLE,
    REFERENCE,
    SFT,
    SHOWN_AS,
    TALL,
    canvas,
    intervals_drawn,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.intervals import Estimate, as_vector
from rlhf_hw.stats.replicates import Replicated

JUDGED = {  # key of a win rate -> what its judge is called, colour and mark
    "win_rate": ("reward model", INK, "o"),
    "judge_win_rate": ("judge", PURPLE, "s"),
    "gold_win_rate": ("gold", GREEN, "D"),
}
STEP_COLOURS = (SFT, DPO, INK, REFERENCE, BASE)


@styled
def inference_distributions(groups: Mapping[str, ArrayLike], *, title: str = "") -> Figure:
    """Scores of replies to the same prompts, one below another: each model's, and the data set's references.

    Vertical lines stand at the means.

    Args:
        groups: name -> scores; the names "base", "SFT", "DPO" and "reference" keep their colours in all
            figures.
        title: of the figure.
    """
    samples = {name: as_vector(values, name) for name, values in groups.items()}
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, panels = canvas(len(samples), 1, width=HALF, height=TALL + 0.6, **shared)
    edges = common_bins(*samples.values())
    for axes, (name, values), colour in zip(panels[:, 0], samples.items(), CYCLE, strict=False):
        said = f"{SHOWN_AS.get(name, name)}, mean {values.mean():.2f}"
        colour = KNOWN_COLOURS.get(name, colour)
        draw_histogram(axes, values, edges, colour, said, dashed=name == "reference")
        axes.set_title(said, fontsize=8, loc="left", pad=2)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    panels[-1, 0].set_xlabel(SCORE)
    figure.supylabel("share of replies", fontsize=8.5)
    figure.suptitle(title, fontsize=9)
    return also_narrow(figure)


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
    names = [SHOWN_AS.get(name, name) for name in rows]
    draw_forest(axes, names, list(rows.values()), BLUE, ".3f")
    note_line(axes, 0.5, "no difference", vertical=True)
    ends = [end for estimate in rows.values() for end in estimate]
    axes.set_xlim(min(0.4, min(ends) - 0.02), max(0.6, max(ends) + 0.02))
    axes.set_xlabel(f"{xlabel}; 95% intervals")
    return figure


@styled
def judged_wins(steps: Mapping[str, Mapping[str, float]]) -> Figure:
    """Who wins, step by step and judge by judge; 1/2 is no difference.

    Thick whiskers are intervals over prompts, thin ones those over trainings.

    Args:
        steps: label -> numbers with `win_rate` (reward model), and perhaps `judge_win_rate`, `gold_win_rate`.
    """
    judges = [key for key in JUDGED if all(key in numbers for numbers in steps.values())]
    figure, axes = canvas(height=1.2 + 0.2 * len(steps) * len(judges))
    rows = np.arange(len(steps))[::-1]
    for number, key in enumerate(judges):
        name, colour, mark = JUDGED[key]
        places = rows + 0.22 * ((len(judges) - 1) / 2 - number)
        for place, numbers in zip(places, steps.values(), strict=True):
            label = name if place == places[0] else None
            draw_whiskers(axes, Replicated.of(numbers, key), place, colour, mark, label=label)
    axes.set_yticks(rows, map(step_name, steps))
    axes.set_ylim(-0.6, len(steps) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.axvline(0.5, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(0, 1)
    drawn = [Replicated.of(numbers, key) for numbers in steps.values() for key in judges]
    axes.set_xlabel(f"share of prompts that the first wins (ties one half)\n{intervals_drawn(drawn)}")
    figure.legend(loc="outside lower center", ncols=len(judges))
    return figure


def step_name(step: str) -> str:
    """What a figure calls a step that tables write as "DPO - SFT"."""
    return step.replace(" - ", " minus ")


def draw_whiskers(
    axes: Axes, found: Replicated, place: float, colour: str, mark: str, *, upright=False, label=None
) -> None:
    """A value at `place` with its interval over prompts (thick) and over trainings (thin, with caps)."""
    for estimate, width, cap in ((found.trainings, 0.8, 2.5), (found.prompts, 2.4, 0.0)):
        if estimate is None:
            continue
        reach = {"yerr" if upright else "xerr": whiskers([found.value], [estimate.low], [estimate.high])}
        at = (place, found.value) if upright else (found.value, place)
        axes.errorbar(*at, **reach, fmt="none", ecolor=colour, elinewidth=width, capsize=cap, zorder=3)
    at = (place, found.value) if upright else (found.value, place)
    axes.plot(*at, mark, color=colour, markersize=5, label=label, zorder=4)


@styled
def step_gains(steps: Mapping[str, Mapping[str, float]], *, price: float | None = None) -> Figure:
    """What each step of the training gained: by the reward model (up) and in truth (right).

    Without the truth, the judge's gain lies on the horizontal axis. Thick whiskers are intervals over
    prompts, thin ones those over trainings.

    Args:
        steps: label -> numbers with `score_difference`, and `gold_difference` or `judge_difference`.
        price: Points for a unit of gold: a line that gains in score follow that gold accounts for.
    """
    known = all("gold_difference" in numbers for numbers in steps.values())
    across = "gold_difference" if known else "judge_difference"
    name = f"gold ({GOLD_UNIT})" if known else "the judge's score (points)"
    figure, axes = canvas(height=3.3)
    axes.axhline(0, color=GREY, linewidth=0.9)
    axes.axvline(0, color=GREY, linewidth=0.9)
    if known and price is not None:
        text = f"what gold is worth: {price:.2f} points a unit"
        axes.axline((0, 0), slope=price, color=GREEN, linewidth=1, linestyle=(0, (4, 3)), label=text)
    for (label, numbers), colour, mark in zip(steps.items(), STEP_COLOURS, "osD^v", strict=False):
        first, second = Replicated.of(numbers, across), Replicated.of(numbers, "score_difference")
        draw_whiskers(axes, first, second.value, colour, mark, label=step_name(label))
        draw_whiskers(axes, second, first.value, colour, mark, upright=True)
    drawn = [Replicated.of(numbers, across) for numbers in steps.values()]
    axes.set_xlabel(f"mean gain in {name}\n{intervals_drawn(drawn)}")
    axes.set_ylabel("mean gain in score (points)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def best_of_n_curves(
    curves: pd.DataFrame,
    *,
    price: float | None = None,
    policies: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> Figure:
    """Gains of choosing the best of n samples by score: by that score, by the judge, and in gold at its
    price.

    Bands are intervals over prompts; hollow marks are trained policies at their divergence.

    Args:
        curves: One row for each n with `n`, `kl`, and for `score`, `judge`, `gold` the gain with `_low`,
            `_high`.
        price: Points for a unit of gold; gold is drawn in points where it is known.
        policies: label -> numbers with `kl`, `score_difference` and perhaps the other judges' differences.
    """
    figure, axes = canvas(height=3.1)
    for judge, (name, colour, mark) in zip(("score", "judge", "gold"), JUDGED.values(), strict=True):
        if judge not in curves or (judge == "gold" and price is None):
            continue
        scale = price if judge == "gold" else 1.0
        name = f"{name} × price" if judge == "gold" else name
        low, high = (scale * curves[f"{judge}_{end}"] for end in ("low", "high"))
        axes.fill_between(curves["kl"], low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(curves["kl"], scale * curves[judge], f"{mark}-", color=colour, markersize=4, label=name)
        for label, numbers in policies.items():
            place = (numbers["kl"], scale * numbers[f"{judge}_difference"])
            hollow = {"markerfacecolor": "none", "markersize": 7, "linestyle": "none", "zorder": 4}
            axes.plot(*place, color=colour, marker=mark, label=f"{label}, {name}", **hollow)
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(curves["kl"]), [f"{n}" for n in curves["n"]])
    above.set_xlabel("n, samples to choose from")
    axes.axhline(0, color=GREY, linewidth=0.9)
    axes.set_xlabel("divergence from the SFT policy (nats; for best of n its upper bound)")
    axes.set_ylabel("gain over one sample (points)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
