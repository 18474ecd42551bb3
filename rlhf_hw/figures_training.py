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

from rlhf_hw.figure_style import (
    BLUE,
    CHOSEN,
    CYCLE,
    GREY,
    MARGIN,
    ORANGE,
    REJECTED,
    WIDTH,
    canvas,
    note_line,
    styled,
    whiskers,
)

Points = Sequence[Mapping[str, float]]


def arrays(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve.

    Raises:
        ValueError: the curve has no points.
    """
    if not points:
        raise ValueError("a curve needs at least one point: was anything logged?")
    return np.array([p["step"] for p in points], float), np.array([p["value"] for p in points], float)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean; at the ends over the part of the window that exists."""
    return pd.Series(values).rolling(window, center=True, min_periods=1).mean().to_numpy()


def draw_curve(axes: Axes, points: Points, colour: str, name: str, window: int | None) -> None:
    """Every logged value as a light point, and their running mean as a line."""
    steps, values = arrays(points)
    window = window or max(1, len(values) // 15)
    if window == 1:
        axes.plot(steps, values, color=colour, marker="o", markersize=2.5, label=name)
        return
    axes.plot(steps, values, ".", color=colour, alpha=0.28, markersize=3.5, markeredgewidth=0)
    axes.plot(steps, smooth(values, window), color=colour, label=f"{name}, mean of {window} values")


def dress(axes: Axes, ylabel: str, limits: tuple[float, float] | None, **legend) -> None:
    """Labels, whole-number steps, legend."""
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.margins(x=0.02)
    if limits:
        axes.set_ylim(*limits)
    axes.legend(**legend)


@styled
def training_curve(
    points: Points,
    ylabel: str,
    *,
    name: str = "training batches",
    chance: float | None = None,
    limits: tuple[float, float] | None = None,
    window: int | None = None,
    size: tuple[float, float] = (WIDTH, 2.6),
) -> Figure:
    """One logged quantity over training: the raw values light, their running mean on top.

    Args:
        points: [{"step", "value"}, ...].
        ylabel: what the value is, with its unit: "accuracy (share of pairs)", "loss (nats)".
        chance: value of a model that knows nothing (1/2 for an accuracy, ln 2 for the loss), drawn dashed.
        limits: range of the value axis; accuracies should get (0, 1) or say where they start.
        window: values averaged; by default a fifteenth of them.
        size: in inches.
    """
    figure, axes = canvas(width=size[0], height=size[1])
    draw_curve(axes, points, BLUE, name, window)
    if chance is not None:
        note_line(axes, chance, f"chance ({chance:.3g})")
    dress(axes, ylabel, limits, loc="best")
    return figure


@styled
def evaluation_curve(
    points: Points,
    ylabel: str = "accuracy (share of pairs)",
    *,
    name: str = "validation pairs",
    training: Points | None = None,
    chance: float | None = 0.5,
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] = (WIDTH, 2.6),
) -> Figure:
    """A quantity measured now and then on held-out data, with its 95% interval, against training if given."""
    figure, axes = canvas(width=size[0], height=size[1])
    steps, values = arrays(points)
    if training:
        draw_curve(axes, training, GREY, "training batches", None)
    axes.plot(steps, values, color=ORANGE, marker="o", markersize=4, label=name)
    if all("low" in point for point in points):
        low, high = ([p[end] for p in points] for end in ("low", "high"))
        axes.fill_between(steps, low, high, color=ORANGE, alpha=0.2, linewidth=0, label="95% interval")
    if chance is not None:
        note_line(axes, chance, f"chance ({chance:.3g})")
    dress(axes, ylabel, limits, loc="best")
    return figure


@styled
def dpo_rewards(chosen: Points, rejected: Points, margin: Points, *, window: int | None = None) -> Figure:
    """DPO's implicit rewards, beta * log(policy / reference): of both replies, and their difference."""
    figure, (left, right) = canvas(1, 2, height=2.7)
    draw_curve(left, chosen, CHOSEN, "chosen", window)
    draw_curve(left, rejected, REJECTED, "rejected", window)
    draw_curve(right, margin, MARGIN, "margin", window)
    for axes, label in ((left, "implicit reward (nats)"), (right, "chosen $-$ rejected (nats)")):
        axes.axhline(0, color=GREY, linewidth=0.7)
        dress(axes, label, None, loc="best", fontsize=7)
    return figure


@styled
def dpo_log_probabilities(
    chosen: Points, rejected: Points, *, relative: bool = True, window: int | None = None
) -> Figure:
    """Log-probability of the whole chosen and rejected replies under the policy.

    Args:
        chosen, rejected: [{"step", "value"}, ...].
        relative: the values are changes against the reference model (0 at the start), not the
            log-probabilities themselves.
    """
    figure, axes = canvas(height=2.6)
    draw_curve(axes, chosen, CHOSEN, "chosen", window)
    draw_curve(axes, rejected, REJECTED, "rejected", window)
    if relative:
        note_line(axes, 0, "reference model")
    change = "change of the log-probability (nats)" if relative else "log-probability of a reply (nats)"
    dress(axes, change, None, loc="best")
    return figure


@styled
def learning_curve(
    points: Sequence[Mapping[str, float]],
    *,
    baselines: Mapping[str, float] | None = None,
    best: float | None = None,
) -> Figure:
    """Validation accuracy against the number of training pairs (log scale), with intervals.

    Args:
        points: [{"pairs", "accuracy", "low", "high"}, ...].
        baselines: name -> accuracy of methods that are drawn as lines.
        best: best possible accuracy under the label noise, where it is known.
    """
    figure, axes = canvas(height=2.8)
    pairs, value, low, high = ([p[key] for p in points] for key in ("pairs", "accuracy", "low", "high"))
    axes.errorbar(
        pairs,
        value,
        yerr=whiskers(value, low, high),
        color=BLUE,
        marker="o",
        markersize=4,
        label="reward model, 95%",
    )
    for (name, accuracy), colour in zip((baselines or {}).items(), CYCLE[2:], strict=False):
        axes.axhline(accuracy, color=colour, linestyle="-.", linewidth=1.1, label=f"{name} ({accuracy:.2f})")
    if best is not None:
        axes.axhline(best, color=ORANGE, linestyle=":", linewidth=1.3, label=f"best possible ({best:.2f})")
    note_line(axes, 0.5, "chance (0.5)")
    axes.set_xscale("log")
    axes.set_xticks(pairs, [f"{n:,.0f}" for n in pairs])
    axes.minorticks_off()
    axes.set_xlabel("training pairs (log scale)")
    axes.set_ylabel("validation accuracy (share of pairs)")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
