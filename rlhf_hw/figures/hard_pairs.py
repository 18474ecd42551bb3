"""Figures of hard pairs beside easy ones, or of parts of the data: how far apart they are, who is right."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.figures.replies import draw_whiskers
from rlhf_hw.figures.style import (
    BLUE,
    GOLD_UNIT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SHOWN_AS,
    canvas,
    intervals_drawn,
    note_line,
    styled,
)
from rlhf_hw.stats.intervals import as_vector
from rlhf_hw.stats.replicates import Replicated

KINDS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (PURPLE, "^"))  # easy and hard pairs, or the parts
GAP_STYLES = ((BLUE, "-"), (ORANGE, (0, (5, 1))), (INK, (0, (1, 1))))


@styled
def gold_differences(gaps: Mapping[str, ArrayLike]) -> Figure:
    """Share of prompts whose two replies differ by at most so much in gold, one line a source of the replies.

    Args:
        gaps: source ("easy pairs", "hard pairs", "two samples of the base model") -> differences, 0 or more.
    """
    figure, axes = canvas(height=2.7)
    for (name, values), (colour, line) in zip(gaps.items(), GAP_STYLES, strict=False):
        ordered = np.sort(as_vector(values, name))
        shares = np.arange(1, ordered.size + 1) / ordered.size
        label = f"{name}, median {np.median(ordered):.2f}"
        axes.step(ordered, shares, where="post", color=colour, linestyle=line, label=label)
    note_line(axes, 0.5, "half of the prompts")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"difference of the two replies in gold ({GOLD_UNIT})")
    axes.set_ylabel("share of prompts (cumulative)")
    axes.legend(loc="lower right")
    return figure


@styled
def accuracy_by_kind(accuracies: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Accuracy of each judge on each kind of pairs; 1/2 is guessing.

    Thick whiskers are intervals over prompts, thin ones those over trainings.

    Args:
        accuracies: Kind ("easy", "hard"; or a part of the data) -> judge -> numbers with `accuracy` and its
            intervals.
    """
    judges = list(next(iter(accuracies.values())))
    figure, axes = canvas(height=1.1 + 0.42 * len(judges))
    rows = np.arange(len(judges))[::-1]
    drawn = []
    shifts = 0.24 * ((len(accuracies) - 1) / 2 - np.arange(len(accuracies)))
    for shift, kind, (colour, mark) in zip(shifts, accuracies, itertools.cycle(KINDS), strict=False):
        for row, judge in zip(rows, judges, strict=True):
            label = f"{kind} pairs" if row == rows[0] else None
            found = Replicated.of(accuracies[kind][judge], "accuracy")
            draw_whiskers(axes, found, row + shift, colour, mark, label=label)
            drawn.append(found)
    note_line(axes, 0.5, "guessing", vertical=True)
    axes.set_yticks(rows, [SHOWN_AS.get(judge, judge) for judge in judges])
    axes.set_ylim(-0.6, len(judges) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"share of pairs ordered as labelled\n{intervals_drawn(drawn)}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
