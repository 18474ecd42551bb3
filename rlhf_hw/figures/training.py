"""Curves of training: accuracy, loss, rewards, log-probabilities, and accuracy against the number of pairs.

A curve is a list of points {"step": ..., "value": ...}, as the trainers log them; measured points may carry
"low" and "high", the ends of an interval.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlhf_hw.errors import InputError
from rlhf_hw.figures.narrow import also_narrow
from rlhf_hw.figures.style import (
    BLUE,
    CHOSEN,
    CYCLE,
    GREY,
    HALF,
    MARGIN,
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

Points = Sequence[Mapping[str, float]]
CHANCE = 0.5  # accuracy of a coin


def arrays(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve.

    Raises:
        ValueError: the curve has no points.
    """
    if not points:
        raise InputError("a curve needs at least one point: was anything logged?")
    return np.array([p["step"] for p in points], float), np.array([p["value"] for p in points], float)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean; at the ends over the part of the window that exists."""
    return pd.Series(values).rolling(window, center=True, min_periods=1).mean().to_numpy()


def draw_curve(axes: Axes, points: Points, colour: str, name: str, mark: str = "o", line="-") -> None:
    """Every logged value as a light point, and their running mean over a fifteenth of them as a line.

    Of fewer than 30 values that is a line from each point to the next.
    """
    steps, values = arrays(points)
    axes.plot(steps, values, mark, color=colour, alpha=0.55, markersize=4.5, markeredgewidth=0)
    axes.plot(steps, smooth(values, max(1, len(values) // 15)), color=colour, linestyle=line, label=name)


def dress(axes: Axes, ylabel: str, limits: tuple[float, float] | None) -> None:
    """Labels, whole-number steps, legend."""
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.02)
    if limits:
        axes.set_ylim(*limits)
    legend_below(axes, columns=1 if len(axes.get_legend_handles_labels()[0]) < 3 else 2)


@styled
def training_curve(
    points: Points,
    ylabel: str,
    *,
    chance: float | None = None,
    chance_name: str = "chance",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """One logged quantity over training: the raw values light, their running mean on top.

    Args:
        points: [{"step", "value"}, ...].
        ylabel: what the value is, with its unit: "accuracy (share of pairs)", "loss (nats)".
        chance: value of a model that knows nothing (1/2 for an accuracy, ln 2 for the loss), drawn dashed.
        chance_name: what the legend calls it.
        limits: range of the value axis; accuracies should get (0, 1) or say where they start.
    """
    figure, axes = canvas(width=HALF, height=TALL)
    draw_curve(axes, points, BLUE, "training batches")
    if chance is not None:
        note_line(axes, chance, f"{chance_name} ({chance:.3g})")
    dress(axes, ylabel, limits)
    return also_narrow(figure)


@styled
def evaluation_curve(
    points: Points,
    *,
    training: Points | None = None,
    others: Sequence[Points] = (),
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Accuracy measured now and then on held-out pairs, with its 95% interval, against training if given.

    Nothing is known between two measurements, so no line joins them.

    Args:
        points: of one training, with "low" and "high" where known.
        training: its accuracy on the batches that it learned from.
        others: curves of further trainings, drawn hollow.
        limits: range of the value axis.
    """
    figure, axes = canvas(width=HALF, height=TALL)
    steps, values = arrays(points)
    if training:
        draw_curve(axes, training, GREY, "training batches")
    known = all("low" in point for point in points)
    ends = [[p.get(end, p["value"]) for p in points] for end in ("low", "high")]
    name = "validation pairs, 95%" if known else "validation pairs"
    reach = whiskers(values, *ends) if known else None
    axes.errorbar(steps, values, yerr=reach, fmt="s", color=ORANGE, markersize=4, label=name, zorder=3)
    for number, curve in enumerate(others):
        name = "other trainings" if number == 0 else None
        hollow = {"markerfacecolor": "white", "markersize": 3.5, "linestyle": "none", "zorder": 4}
        axes.plot(*arrays(curve), color=ORANGE, marker="D", label=name, **hollow)
    note_line(axes, CHANCE, f"chance ({CHANCE:.3g})")
    dress(axes, "accuracy (share of pairs)", limits)
    return also_narrow(figure)


@styled
def dpo_rewards(chosen: Points, rejected: Points, margin: Points) -> Figure:
    """DPO's implicit rewards, beta * log(policy / reference): of both replies, and their difference."""
    figure, axes = canvas(width=HALF, height=TALL)
    for points, colour, name, *look in (
        (chosen, CHOSEN, "chosen", "o", "-"),
        (rejected, REJECTED, "rejected", "s", "--"),
        (margin, MARGIN, "chosen minus rejected", "D", "-."),
    ):
        draw_curve(axes, points, colour, name, *look)
    axes.axhline(0, color=GREY, linewidth=0.7)
    dress(axes, "implicit reward (nats)", None)
    return figure


@styled
def dpo_log_probabilities(chosen: Points, rejected: Points) -> Figure:
    """Change of the log-probability of the whole chosen and rejected replies against the reference model.

    Args:
        chosen, rejected: [{"step", "value"}, ...].
    """
    figure, axes = canvas(width=HALF, height=TALL)
    draw_curve(axes, chosen, CHOSEN, "chosen")
    draw_curve(axes, rejected, REJECTED, "rejected", "s", "--")
    note_line(axes, 0, "reference model")
    dress(axes, "change of log-probability (nats)", None)
    return also_narrow(figure)


@styled
def learning_curve(
    curves: Mapping[str, Sequence[Mapping[str, float]]], *, best: float | None = None
) -> Figure:
    """Validation accuracy against the number of training pairs (from 0, on a log scale), with intervals.

    Args:
        curves: name -> [{"pairs", "accuracy", "accuracy_low", "accuracy_high", with several trainings also
            "accuracy_trainings_low", "accuracy_trainings_high"}, ...]; the reward model first, with thick
            bars for the interval over prompts and thin ones for that over trainings; then baselines, whose
            intervals over prompts are bands.
        best: what the best possible judge reaches on these labels, where it is known.
    """
    figure, axes = canvas(width=HALF, height=TALL)
    (name, points), *baselines = curves.items()
    pairs, value, low, high = columns_of(points)
    axes.plot(pairs, value, color=BLUE, marker="o", markersize=4, label=name, zorder=3)
    bars = whiskers(value, low, high)
    axes.errorbar(pairs, value, yerr=bars, fmt="none", color=BLUE, elinewidth=2.2, capsize=0, zorder=3)
    several = [point for point in points if "accuracy_trainings_low" in point]
    if several:
        at, middle, *ends = columns_of(several, "accuracy_trainings")
        bars = whiskers(middle, *ends)
        axes.errorbar(at, middle, yerr=bars, fmt="none", color=BLUE, elinewidth=0.7, capsize=3, zorder=3)
    for (name, points), colour, look in zip(baselines, CYCLE[2:], ("s-.", "D--", "^:"), strict=False):
        at, value, low, high = columns_of(points)
        axes.plot(
            at, value, look, color=colour, markersize=3.5, linewidth=1.2, label=SHOWN_AS.get(name, name)
        )
        axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
    if best is not None:
        axes.axhline(best, color=ORANGE, linestyle=":", linewidth=1.4, label=f"best possible ({best:.2f})")
    note_line(axes, CHANCE, f"chance ({CHANCE:.3g})")
    trained = [n for n in pairs if n > 0]
    # 0 has no logarithm: up to the smallest training the axis is linear
    axes.set_xscale("symlog", linthresh=trained[0], linscale=0.6)
    axes.set_xlim(-0.15 * trained[0] if 0 in pairs else 0.8 * trained[0], 1.2 * trained[-1])
    axes.set_xticks(pairs, [f"{n:,.0f}" for n in pairs])
    axes.minorticks_off()
    axes.set_xlabel("training pairs (log scale)")
    axes.set_ylabel("accuracy (share of pairs)")
    legend_below(axes)
    return also_narrow(figure)


def columns_of(points: Sequence[Mapping[str, float]], interval: str = "accuracy") -> tuple[list[float], ...]:
    """Pairs, accuracies and both ends of their intervals over prompts, or of another one."""
    return tuple(
        [p[key] for p in points] for key in ("pairs", "accuracy", f"{interval}_low", f"{interval}_high")
    )
