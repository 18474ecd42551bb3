"""Figures of the earlier run's replies: the riddle and its parts at one look, and what its sign goes with.

`found` is an `experiments.earlier_run.riddle.EarlierReplies`, or anything with its fields.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_hw.figures.replies import draw_whiskers
from rlhf_hw.figures.style import (
    BLUE,
    GOLD_UNIT,
    GREEN,
    GREY,
    INK,
    KNOWN_COLOURS,
    LIGHT,
    ORANGE,
    PAIRS,
    PURPLE,
    WIDTH,
    canvas,
    intervals_drawn,
    show,
    show_kept,
    styled,
)
from rlhf_hw.paths import FIG
from rlhf_hw.stats.calibration import equal_mass_bins
from rlhf_hw.stats.replicates import Replicated

BINS = 8
LEARNED = {"harmless": "harmless pairs", "helpful": "helpful pairs", "both": "pairs of both kinds"}
SERIES = {  # what is drawn against length: colour, mark, line
    "own pairs": (INK, "s", (0, (1, 1))),
    "pairs": (PAIRS, "D", "-"),
    "DPO": (KNOWN_COLOURS["DPO"], "o", "-"),
    "base": (KNOWN_COLOURS["base"], "^", "-"),
}
SAID = {"own pairs": "held-out pairs of the judge", "pairs": "pairs of the run"}
ROWS = ("gap", "length", "kind", "rest")
PART_WORDS = {"gap": "difference", "length": "length", "kind": "kind of text", "rest": "rest"}
GAPS = {"base_pairs": "base minus pairs", "dpo_base_test": "DPO minus base"}
KIND_LOOKS = {"harmless": GREEN, "helpful": ORANGE, "both": PURPLE}
RENDERED = {"plain": ("o", "plain rendering"), "chat": ("^", "chat template")}


@styled
def riddle_at_a_look(found, rendering: str = "plain") -> Figure:
    """Above: score against length, of pairs and of both models' replies. Below: differences and their parts.

    One column a kind of judge, by the pairs that it learned from. The large marks are means, the lines join
    means of bins of equally many replies, and the pale ground ends where 99% of the judge's own held-out
    replies do. Zero is the mean of the run's pairs or, without them, of base replies.

    Args:
        found: With `levels` and `parts`.
        rendering: Which of the judges' renderings is drawn; the first that there is if that is not there.
    """
    here = [one for one, _ in found.levels]
    rendering = rendering if rendering in here else here[0]
    kinds = [kind for one, kind in found.levels if one == rendering]
    figure, panels = canvas(2, len(kinds), width=WIDTH, height=5.4, squeeze=False)
    for column, kind in enumerate(kinds):
        above, below = panels[:, column]
        draw_levels(above, found.levels[rendering, kind])
        above.set_title(f"judge of {LEARNED[kind]}", fontsize=8)
        above.set_xlabel("words")
        draw_parts(below, found.parts[rendering, kind], names=column == 0)
    for row, axis in ((0, "y"), (1, "x")):
        ends = np.array([getattr(axes, f"get_{axis}lim")() for axes in panels[row]])
        for axes in panels[row]:
            axes.set(**{f"{axis}lim": (ends.min(), ends.max())})
    paired = all("pairs" in found.levels[rendering, kind] for kind in kinds)
    zero = "the run's pairs" if paired else "base replies"
    panels[0, 0].set_ylabel(f"score above {zero}\n({GOLD_UNIT})")
    over = intervals_drawn([found.parts[rendering, kinds[0]]["dpo_base_test"]["gap"]])
    figure.supxlabel(f"score ({GOLD_UNIT})\n{over}", fontsize=8.5)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def draw_levels(axes: Axes, levels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Score against words, one line a source."""
    if "own pairs" in levels:
        axes.axvspan(
            0, np.quantile(levels["own pairs"][0], 0.99), color=LIGHT, alpha=0.5, linewidth=0, zorder=0
        )
    axes.axhline(0, color=GREY, linewidth=0.9)
    for name, (colour, mark, line) in SERIES.items():
        if name not in levels:
            continue
        lengths, scores = levels[name]
        codes = equal_mass_bins(lengths, BINS)
        table = pd.DataFrame({"words": lengths, "score": scores}).groupby(codes).mean()
        axes.plot(table["words"], table["score"], color=colour, linestyle=line, linewidth=1.2)
        look = {"markersize": 7, "markeredgecolor": "white", "zorder": 4, "linestyle": "none"}
        axes.plot(lengths.mean(), scores.mean(), mark, color=colour, label=SAID.get(name, name), **look)
    axes.set_xlim(0, 420)


def draw_parts(axes: Axes, parts: Mapping[str, Mapping[str, Replicated]], names: bool) -> None:
    """Each difference as a bar that stands on zero, and below it its parts; with their names, or without."""
    place, places, said = 0.0, [], []
    for gap, title in GAPS.items():
        for row in ROWS if gap in parts else ():
            number, whole = parts[gap][row], row == "gap"
            colour = GREY if whole else BLUE if number.value >= 0 else ORANGE
            axes.barh(place, number.value, color=colour, height=0.62, alpha=0.55, linewidth=0)
            draw_whiskers(axes, number, place, INK, "|")
            places.append(place)
            said.append(title if whole else PART_WORDS[row])
            place += 1
        place += 0.6 if gap in parts else 0
    axes.axvline(0, color=GREY, linewidth=0.9)
    axes.set_yticks(places, said if names else [""] * len(said))
    axes.set_ylim(place - 1.1, -0.6)
    axes.grid(axis="y", visible=False)


@styled
def sign_and_slope(found) -> Figure:
    """Left: DPO minus base against what a judge pays for length. Right: who wins.

    What it pays is read from its own held-out pairs or, where not all judges have scored such, from samples
    of one model to one prompt.

    Args:
        found: With `signs`, one row a judge, and `metrics`.
    """
    figure, (left, right) = canvas(1, 2, width=WIDTH, height=3.5, width_ratios=(1, 1.15))
    own = bool(found.signs["slope"].notna().all())
    for (rendering, kind), rows in found.signs.groupby(["rendering", "kind"], sort=False):
        mark = RENDERED[rendering][0]
        fill = KIND_LOOKS[kind] if rendering == "plain" else "none"
        look = {"markersize": 5.5, "markerfacecolor": fill, "linestyle": "none", "zorder": 3}
        label = f"{LEARNED[kind]}, {RENDERED[rendering][1]}"
        left.plot(
            rows["slope" if own else "slope_here"],
            rows["difference"],
            mark,
            color=KIND_LOOKS[kind],
            label=label,
            **look,
        )
    left.axhline(0, color=GREY, linewidth=0.9)
    left.axvline(0, color=GREY, linewidth=0.9)
    left.set_xlabel(
        f"score for 100 more words,\n{'own pairs' if own else 'samples of one model'} ({GOLD_UNIT})"
    )
    left.set_ylabel(f"DPO minus base\n({GOLD_UNIT})")
    draw_wins(right, found.metrics, list(found.parts))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def draw_wins(axes: Axes, metrics: Mapping[str, float], groups: list[tuple[str, str]]) -> None:
    """Win rates of DPO on test prompts, as counted (filled) and at equal length (hollow)."""
    rows = np.arange(len(groups))[::-1]
    for row, (rendering, kind) in zip(rows, groups, strict=True):
        for key, shift, mark in (("win_rate", 0.16, "o"), ("win_rate_length_controlled", -0.16, "D")):
            number = Replicated.of(metrics, f"earlier.{rendering}.{kind}.test.{key}")
            colour = KIND_LOOKS[kind] if key == "win_rate" else INK
            draw_whiskers(axes, number, row + shift, colour, mark)
    axes.axvline(0.5, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_yticks(rows, [f"{LEARNED[kind]},\n{RENDERED[one][1]}" for one, kind in groups])
    axes.set_ylim(-0.6, len(groups) - 0.4)
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share that DPO wins: as counted (dots),\nat equal length (diamonds)")


DRAWN: dict[str, Callable[..., Figure]] = {
    "earlier_riddle": riddle_at_a_look,
    "earlier_signs": sign_and_slope,
}


def show_earlier(found, name: str, folder: Path) -> None:
    """Draw a figure, save it in `folder` and show it; without rows, show the kept one.

    Args:
        found: With `levels`, which are empty where only numbers were kept.
        name: One of `DRAWN`.
        folder: Where drawn figures go.
    """
    if found.levels:
        show(DRAWN[name](found), folder, name)
    else:
        show_kept(FIG, name)
