"""Figures of choosing hard by a reward: gold against proxy, small reward models, ensembles."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlhf_hw.figures.naming import name_marks
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
    canvas,
    legend_below,
    note_line,
    styled,
    whiskers,
)
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import Replicated

PROXIES = {
    "model": ("reward model", BLUE, "o"),
    "bonus": ("with a bonus for length", ORANGE, "s"),
    "gold": ("gold itself (control)", GOLD, "D"),
}
CASES = {
    "own": ("the run's reward models", BLUE, "o"),
    "noisy": ("few, noisy pairs", GREEN, "D"),
    "biased": ("one bias in all", ORANGE, "s"),
}
RULE_NAMES = {
    "mean": "mean",
    "worst": "worst case",
    "uncertainty": "priced spread",
    "averaged": "weights averaged",
}
EVERY = 3  # n of the upper axis that are named


@styled
def gold_against_proxy(curves: Mapping[str, pd.DataFrame], fitted: int) -> Figure:
    """Best of n: what the score that chooses says (left), and what gold says of the same replies (right).

    Bands are intervals over prompts. Thin dotted lines: parabolas fitted to gold up to n = `fitted`.

    Args:
        curves: Proxy of `PROXIES` -> rows with `n`, `formula`, `forecast`, and `own`, `gold` with `_low`,
            `_high`.
        fitted: The largest n that the parabolas saw.
    """
    figure, panels = canvas(1, 2, height=3.3)
    for axes, key in zip(panels, ("own", "gold"), strict=True):
        for proxy, rows in curves.items():
            name, colour, mark = PROXIES[proxy]
            across = np.sqrt(rows["formula"])
            axes.fill_between(
                across, rows[f"{key}_low"], rows[f"{key}_high"], color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(across, rows[key], f"{mark}-", color=colour, markersize=3.5, label=name)
            if key == "gold" and proxy != "gold":
                axes.plot(across, rows["forecast"], ":", color=colour, linewidth=1)
        axes.axhline(0, color=GREY, linewidth=0.9)
        axes.set_xlabel("distance from the policy, √KL (√nats)")
        above, rows = axes.secondary_xaxis("top"), next(iter(curves.values()))
        named = rows.iloc[::EVERY]
        above.set_xticks(np.sqrt(named["formula"]).tolist(), [f"{n}" for n in named["n"]])
        above.set_xlabel("n, replies to choose from")
    right = panels[1]
    bound = np.sqrt(next(iter(curves.values())).set_index("n")["formula"][fitted])
    right.axvline(bound, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    right.plot([], [], ":", color=INK, linewidth=1, label="parabola, fitted left of the line")
    panels[0].set_ylabel("gain in the score (its SD)")
    right.set_ylabel(f"gain in gold ({GOLD_UNIT})")
    legend_below(panels[0], columns=1)
    handles, names = right.get_legend_handles_labels()
    legend_below(right, columns=1, handles=handles[-1:], labels=names[-1:])
    return figure


@styled
def labels_and_remedies(
    by_pairs: Mapping[int, Mapping[str, float]],
    by_flips: Mapping[float, Mapping[str, float]],
    by_directions: Mapping[int, Mapping[str, float]],
    favoured: Mapping[str, float],
    remedies: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Left: accuracy of small reward models against the gold of choosing by them. Right: what ensembles add.

    Args:
        by_pairs, by_flips, by_directions: Number of pairs, share of flips, number of directions seen ->
            `accuracy`, and `gold_most` with intervals. The largest of the first and the last are one model.
        favoured: The same of one whose labels favour length.
        remedies: Case of `CASES` -> `<rule>.lead` with intervals.
    """
    figure, (left, right) = canvas(1, 2, height=3.5, width_ratios=(1.2, 1))
    flips = {f"{rate:.0%}": found for rate, found in by_flips.items() if rate > 0}
    seen = {f"{count}": found for count, found in list(by_directions.items())[:-1]}
    kinds = (
        ("by number of pairs", BLUE, "o", {f"{size:,}": found for size, found in by_pairs.items()}),
        ("by share of flipped labels", PURPLE, "^", flips),
        ("by directions of the states seen", GREEN, "v", seen),
        ("labels that favour length", ORANGE, "s", {"": favoured}),
    )
    names, marks, lines = [], [], []
    for name, colour, mark, found in kinds:
        gold = [Estimate.of(numbers, "gold_most") for numbers in found.values()]
        across, up = [numbers["accuracy"] for numbers in found.values()], [one.value for one in gold]
        reach = whiskers(*zip(*gold, strict=True))
        left.errorbar(across, up, yerr=reach, fmt="none", ecolor=colour, elinewidth=0.8, capsize=0, alpha=0.6)
        left.plot(across, up, mark, color=colour, markersize=5, label=name, zorder=4)
        names += found
        marks += zip(across, up, strict=True)
        lines += [[(at, one.low), (at, one.high)] for at, one in zip(across, gold, strict=True)]
    left.axhline(0, color=GREY, linewidth=0.9)
    left.set_xlabel("accuracy on held-out pairs")
    left.set_ylabel(f"gain in gold\n({GOLD_UNIT})")
    left.margins(x=0.12)
    legend_below(left, columns=1)
    rows = {rule: place for place, rule in enumerate(reversed(RULE_NAMES))}
    for shift, (case, found) in zip((0.2, 0.0, -0.2), remedies.items(), strict=False):
        name, colour, mark = CASES[case]
        for rule, place in rows.items():
            if f"{rule}.lead" in found:
                label = name if rule == "mean" else None
                number = Replicated.of(found, f"{rule}.lead")
                draw_whiskers(right, number, place + shift, colour, mark, label=label)
    note_line(right, 0, "one model", vertical=True)
    right.set_yticks(list(rows.values()), [RULE_NAMES[rule] for rule in rows])
    right.set_ylim(-0.6, len(rows) - 0.4)
    right.grid(axis="y", visible=False)
    right.set_xlabel(f"gold beyond one model's\n({GOLD_UNIT})")
    legend_below(right, columns=1)
    name_marks(left, names, marks, lines=lines)
    return figure
