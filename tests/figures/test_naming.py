"""Names beside marks: none on another name or mark, each inside its panel, joined where it stands away."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlhf_hw.figures.naming import name_marks
from rlhf_hw.figures.style import INK, canvas, styled

RADIUS = 2.5  # points, of the marks


@styled
def named(marks, names, lines=()):
    figure, axes = canvas(width=3.0, height=2.6)
    axes.plot(*np.transpose(marks), "o", markersize=2 * RADIUS)
    axes.margins(0.15)
    name_marks(axes, names, marks, lines=lines)
    return figure


def boxes(axes):
    axes.figure.canvas.draw()
    return [text.get_window_extent() for text in axes.texts if text.get_text()]


CROWDED = [(0.77, 0.05), (0.85, 0.43), (0.853, 0.4), (0.872, 0.38), (0.872, 0.5), (0.88, 0.63), (0.5, -0.8)]


@pytest.mark.parametrize("marks", [CROWDED, CROWDED[::-1], [(0, 0), (1, 1)]])
def test_names_lie_on_no_name_and_no_mark(marks):
    axes = named(marks, [f"{n}00%" for n in range(len(marks))]).axes[0]
    found, panel = boxes(axes), axes.get_window_extent()
    assert len(found) == len(marks)
    for one, other in itertools.combinations(found, 2):
        assert not one.overlaps(other)
    half = RADIUS * axes.figure.dpi / 72
    for (x, y), box in itertools.product(axes.transData.transform(marks), found):
        assert not (box.x0 < x + half and x - half < box.x1 and box.y0 < y + half and y - half < box.y1)
    assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in found)
    assert {text.get_color() for text in axes.texts if text.get_text()} == {INK}
    plt.close("all")


def test_a_name_leaves_a_whisker_free_and_an_empty_one_is_left_out():
    alone = named([(0, 0), (1, 1)], ["first", ""]).axes[0]
    (free,) = boxes(alone)
    x, y = (free.x0 + free.x1) / 2, (free.y0 + free.y1) / 2
    line = alone.transData.inverted().transform([(free.x0, y), (free.x1, y)])
    (box,) = boxes(named([(0, 0), (1, 1)], ["first", ""], lines=[line]).axes[0])
    assert not box.contains(x, y) and (box.y0 > y or box.y1 < y or box.x0 > free.x1 or box.x1 < free.x0)
    plt.close("all")


def test_a_name_that_stands_away_is_joined_to_its_mark():
    near = named([(0, 0), (1, 1)], ["first", "last"]).axes[0]
    assert not [text for text in near.texts if text.arrow_patch]
    crowd = [(0.5 + 0.02 * x, 0.5 + 0.02 * y) for x in range(4) for y in range(4)] + [(0, 0), (1, 1)]
    far = named(crowd, ["middle"] * 16 + ["", ""]).axes[0]
    assert [text for text in far.texts if text.arrow_patch]
    plt.close("all")
