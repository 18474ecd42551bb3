"""Figures of plural preferences: whom a reward serves, what can be known of whom, how people disagree."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.figures.replies import draw_whiskers
from rlhf_hw.figures.style import (
    BLUE,
    GOLD,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    canvas,
    legend_below,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import Replicated

GROUP_MARKS = {"thorough": ("majority", BLUE, "o"), "brief": ("minority", ORANGE, "s")}
MODEL_NAMES = {
    "single": "one reward",
    "mean and variance": "mean and variance",
    "mixture": "mixture (EM)",
    "known groups": "groups known",
    "shuffled labels": "shuffled labels",
    "alone": "own comparisons only",
    "low rank": "low-rank rewards",
    "user variable": "user variable",
}
RULE_MARKS = {
    "single": ("one reward", "X", INK),
    "mean": ("mean", "o", PURPLE),
    "nash": ("Nash", "^", GREEN),
    "maxmin": ("max-min", "s", ORANGE),
}
USER_LINES = {
    "single": (INK, (0, (1, 1)), "x"),
    "alone": (GREY, (0, (4, 2)), "v"),
    "low rank": (GREEN, "-", "D"),
    "user variable": (PURPLE, (0, (5, 1)), "o"),
}
REPORTED = (0.76, 0.78)  # accuracy on debates not seen, Habernal and Gurevych (2016)
VOTERS = {
    "accuracy": "model of other debates",
    "length_accuracy": "the longer one",
    "one_voter": "one voter, the others' majority",
    "shuffled_mean": "shuffled votes",
}


@styled
def groups_served(
    accuracies: Mapping[str, Mapping[str, Mapping[str, float]]],
    frontier: ArrayLike,
    rules: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> Figure:
    """Left: accuracy of each model for both groups on disputed pairs. Right: gains of both by best-of-n.

    Args:
        accuracies: Group -> model -> numbers with `accuracy` and its intervals.
        frontier: Mean gains of majority and minority for each weight of the mixture, shape (weights, 2).
        rules: Rule -> group -> numbers with `gain` and its intervals.
    """
    figure, (left, right) = canvas(1, 2, height=3.2, width_ratios=(1.15, 1))
    models = list(next(iter(accuracies.values())))
    rows = np.arange(len(models))[::-1]
    for shift, (group, found) in zip((0.13, -0.13), accuracies.items(), strict=True):
        name, colour, mark = GROUP_MARKS[group]
        for row, model in zip(rows, models, strict=True):
            label = name if row == rows[0] else None
            draw_whiskers(
                left, Replicated.of(found[model], "accuracy"), row + shift, colour, mark, label=label
            )
    note_line(left, 0.5, "guessing", vertical=True)
    left.set_yticks(rows, [MODEL_NAMES[model] for model in models])
    left.set_xlim(0, 1)
    left.grid(axis="y", visible=False)
    left.set_xlabel("accuracy on disputed pairs")
    legend_below(left, columns=3)
    line = np.asarray(frontier)
    right.plot(line[:, 0], line[:, 1], color=SKY, label="mixture, every weight", zorder=2)
    for rule, by_group in rules.items():
        name, mark, colour = RULE_MARKS[rule]
        across, up = (Estimate.of(by_group[group], "gain") for group in GROUP_MARKS)
        reach = {"xerr": whiskers(*([v] for v in across)), "yerr": whiskers(*([v] for v in up))}
        right.errorbar(across.value, up.value, **reach, fmt="none", ecolor=colour, elinewidth=0.8, capsize=0)
        right.plot(across.value, up.value, mark, color=colour, markersize=6, label=name, zorder=4)
    right.set_xlabel("gain of the majority (units of gold)")
    right.set_ylabel("gain of the minority (units of gold)")
    legend_below(right)
    return figure


@styled
def comparisons_needed(
    by_count: Mapping[int, Mapping[str, float]],
    by_context: Mapping[str, Mapping[int, Mapping[str, float]]],
) -> Figure:
    """Left: what EM finds by comparisons a user. Right: accuracy for new users by comparisons they show.

    Args:
        by_count: Comparisons -> numbers with `accuracy`, `members` and their intervals.
        by_context: Model -> comparisons shown -> numbers with `accuracy` and its intervals.
    """
    figure, (left, right) = canvas(1, 2, height=3.2, sharey=False)
    counts = list(by_count)
    for key, label, colour, mark in (
        ("accuracy", "minority's disputed pairs", ORANGE, "s"),
        ("members", "users put into their group", GREEN, "D"),
    ):
        found = [
            Estimate.of({f"{key}_low": n[key], f"{key}_high": n[key]} | n, key) for n in by_count.values()
        ]
        _draw_line(left, range(len(counts)), found, colour, "-", mark, label)
    left.set_xticks(range(len(counts)), [str(n) for n in counts])
    left.set_xlabel("comparisons a user, at equal votes")
    left.set_ylabel("share that is right")
    left.set_ylim(0.45, 1.02)
    note_line(left, 0.5, "guessing")
    legend_below(left, columns=1)
    for model, found in by_context.items():
        colour, line, mark = USER_LINES[model]
        values = [Estimate.of(numbers, "accuracy") for numbers in found.values()]
        _draw_line(right, range(len(found)), values, colour, line, mark, MODEL_NAMES[model])
    contexts = list(next(iter(by_context.values())))
    right.set_xticks(range(len(contexts)), [str(n) for n in contexts])
    right.set_ylim(0.45, 1.02)
    right.set_xlabel("comparisons that a new user shows")
    right.set_ylabel("accuracy for the user")
    legend_below(right)
    return figure


def _draw_line(axes, places, found: Sequence[Estimate], colour, line, mark, label) -> None:
    places = list(places)
    values = np.array([tuple(one) for one in found])
    axes.plot(places, values[:, 0], color=colour, linestyle=line, marker=mark, markersize=4, label=label)
    axes.fill_between(places, *np.clip(values[:, 1:].T, 0, 1), color=colour, alpha=0.15, linewidth=0)


@styled
def people_disagree(bins: Sequence[Mapping[str, float]], numbers: Mapping[str, float]) -> Figure:
    """Left: real against foretold disagreement of voters. Right: who tells the better argument.

    Args:
        bins: Rows of `foretold`, and `real` with its interval.
        numbers: Keys of `VOTERS` with their intervals.
    """
    figure, (left, right) = canvas(1, 2, height=2.9, width_ratios=(1, 1.15))
    foretold = [row["foretold"] for row in bins]
    real = [Estimate.of(row, "real") for row in bins]
    left.plot([0, 0.5], [0, 0.5], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label="as foretold")
    left.errorbar(
        foretold,
        [one.value for one in real],
        yerr=whiskers(*zip(*real, strict=True)),
        fmt="o",
        color=BLUE,
        markersize=4,
        label="voters, bins of pairs",
    )
    left.set_xlim(0, 0.55)
    left.set_ylim(0, 0.55)
    left.set_xlabel("foretold: two voters opposed")
    left.set_ylabel("real: two voters opposed")
    legend_below(left, columns=1)
    right.axvspan(*REPORTED, color=GOLD, alpha=0.3, linewidth=0, label="reported, 2016")
    rows = np.arange(len(VOTERS))[::-1]
    for row, key in zip(rows, VOTERS, strict=True):
        one = Estimate.of(numbers, key)
        right.errorbar(one.value, row, xerr=whiskers(*([v] for v in one)), fmt="o", color=BLUE, markersize=5)
    note_line(right, 0.5, "guessing", vertical=True)
    right.set_yticks(rows, list(VOTERS.values()))
    right.set_ylim(-0.6, len(VOTERS) - 0.4)
    right.set_xlim(0.4, 1)
    right.grid(axis="y", visible=False)
    right.set_facecolor("none")
    right.tick_params(axis="y", color=LIGHT)
    right.set_xlabel("share that tells the better argument;\n95% intervals over debates")
    legend_below(right)
    return figure
