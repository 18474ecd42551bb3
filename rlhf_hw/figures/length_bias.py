"""Figures of length bias: what each remedy leaves of it, how it grows with the labels, what policies do."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from rlhf_hw.figures.replies import draw_whiskers
from rlhf_hw.figures.style import (
    BLUE,
    GOLD_UNIT,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    canvas,
    intervals_drawn,
    legend_below,
    note_line,
    styled,
)
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import Replicated

REMEDY_ROWS = {
    "control": "honest labels (control)",
    "none": "no remedy",
    "balanced": "balanced",
    "bins": "balanced in bins",
    "experts": "product of experts",
    "penalty": "penalty, own slope",
    "two_heads": "two heads",
    "calibrated": "calibrated afterwards",
}
POLICY_ROWS = {
    "control": "DPO, honest labels (control)",
    "DPO": "DPO",
    "R_DPO": "R-DPO",
    "SimPO": "SimPO",
    "LD_DPO": "LD-DPO",
    "SamPO": "SamPO",
}
POLICY_COLUMNS = {
    "words": "length (words)",
    "gold": f"gold\n({GOLD_UNIT})",
    "equal": f"gold at equal length\n({GOLD_UNIT})",
}
PAID_UNIT = "at equal gold (SD per SD)"
WHOLE_ROWS = {"biased": "whole model, no remedy", "balanced": "whole model, balanced in bins"}


@styled
def remedies_compared(
    models: Mapping[str, Mapping[str, float]], whole: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Left: what length is worth at equal gold. Right: gold of the best of many. One row a model.

    Args:
        models: Keys of `REMEDY_ROWS` -> numbers with `coefficient` and `gold` and their intervals.
        whole: Keys of `WHOLE_ROWS` -> the same, of models that were trained as a whole; may be empty.
    """
    known = {REMEDY_ROWS[key]: (models[key], _colour(key), "o") for key in REMEDY_ROWS if key in models}
    known |= {WHOLE_ROWS[key]: (whole[key], _colour(key), "D") for key in WHOLE_ROWS if key in whole}
    figure, (left, right) = canvas(1, 2, height=1.3 + 0.26 * len(known))
    rows = np.arange(len(known))[::-1]
    for row, (numbers, colour, mark) in zip(rows, known.values(), strict=True):
        draw_whiskers(left, Replicated.of(numbers, "coefficient"), row, colour, mark)
        draw_whiskers(right, Replicated.of(numbers, "gold"), row, colour, mark)
    note_line(left, 0.0, "", vertical=True)
    left.set_yticks(rows, list(known))
    right.set_yticks(rows, [""] * len(rows))
    left.set_xlabel(f"score by length,\n{PAID_UNIT}")
    right.set_xlabel(f"gold of the best of many\n({GOLD_UNIT})")
    for axes in (left, right):
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="y", visible=False)
    drawn = [Replicated.of(numbers, "gold") for numbers, *_ in known.values()]
    figure.supxlabel(intervals_drawn(drawn), fontsize=8)
    return figure


def _colour(key: str) -> str:
    return {"control": GREEN, "none": ORANGE, "biased": ORANGE, "DPO": ORANGE}.get(key, BLUE)


@styled
def policies_from_labels(policies: Mapping[str, Mapping[str, float]]) -> Figure:
    """Changes against the start, one row a policy: words, gold, and gold at equal length.

    Args:
        policies: Keys of `POLICY_ROWS` -> numbers with `words`, `gold` and `equal` and their intervals.
    """
    known = [key for key in POLICY_ROWS if key in policies]
    figure, panels = canvas(1, len(POLICY_COLUMNS), height=1.3 + 0.28 * len(known))
    rows = np.arange(len(known))[::-1]
    for panel, (measure, name) in zip(panels, POLICY_COLUMNS.items(), strict=True):
        for row, key in zip(rows, known, strict=True):
            draw_whiskers(panel, Replicated.of(policies[key], measure), row, _colour(key), "o")
        note_line(panel, 0.0, "", vertical=True)
        panel.set_yticks(rows, [POLICY_ROWS[key] if panel is panels[0] else "" for key in known])
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.grid(axis="y", visible=False)
        panel.set_xlabel(name)
    drawn = [Replicated.of(policies[key], "gold") for key in known]
    figure.supxlabel(intervals_drawn(drawn), fontsize=8)
    return figure


@styled
def bias_and_strength(
    by_share: Mapping[float, Mapping[str, float]], by_strength: Mapping[float, Mapping[str, float]]
) -> Figure:
    """Left: the coefficient by the share of labels by length. Right: coefficient and gold by the penalty.

    Args:
        by_share: Share -> numbers with `coefficient` and its interval.
        by_strength: Strength -> numbers with `coefficient` and `gold` and their intervals.
    """
    figure, (left, right) = canvas(1, 2, height=3.2)
    _draw_over(left, by_share, "coefficient", ("no remedy", ORANGE, "-", "o"))
    left.axhline(0, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    left.set_xlabel("share of labels that length decides")
    left.set_ylabel(f"score by length,\n{PAID_UNIT}")
    _draw_over(right, by_strength, "coefficient", ("score by length", BLUE, "-", "o"))
    _draw_over(right, by_strength, "gold", ("gold of the best of many", PURPLE, (0, (5, 1)), "D"))
    note_line(right, 0.0, "nothing paid for length")
    right.set_xlabel("strength of the penalty (own slopes)")
    right.set_ylabel(f"score by length (SD per SD);\ngold ({GOLD_UNIT})")
    legend_below(right, columns=1)
    return figure


def _draw_over(axes, found: Mapping[float, Mapping[str, float]], key: str, style) -> None:
    label, colour, line, mark = style
    values = np.array([tuple(Estimate.of(numbers, key)) for numbers in found.values()])
    axes.plot(list(found), values[:, 0], color=colour, linestyle=line, marker=mark, markersize=4, label=label)
    axes.fill_between(list(found), *values[:, 1:].T, color=colour, alpha=0.15, linewidth=0)
