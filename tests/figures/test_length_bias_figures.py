"""Figures of length bias: what is drawn where."""

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS, named

from rlhf_hw.figures.length_bias import (
    POLICY_ROWS,
    REMEDY_ROWS,
    WHOLE_ROWS,
    policies_from_labels,
    remedies_compared,
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_every_model_has_a_row_with_its_coefficient_and_its_gold():
    left, right = DRAWINGS["remedies_compared"]().axes
    assert len(left.get_yticks()) == len(REMEDY_ROWS) + len(WHOLE_ROWS)
    for axes, value in ((left, 1.5), (right, -0.5)):
        marks = [line for line in axes.lines if line.get_marker() in ("o", "D")]
        assert {mark.get_xdata()[0] for mark in marks} == {value}
        assert sum(mark.get_marker() == "D" for mark in marks) == len(WHOLE_ROWS)


def test_rows_that_were_not_tried_are_left_out():
    one = named("coefficient", 0.2) | named("gold", 0.5)
    left, _ = remedies_compared({"none": one, "control": one}, {}).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == [REMEDY_ROWS["control"], REMEDY_ROWS["none"]]


def test_strength_and_share_have_a_point_each():
    left, right = DRAWINGS["bias_and_strength"]().axes
    assert list(left.lines[0].get_xdata()) == [0.0, 0.3]
    assert [list(line.get_ydata()) for line in right.lines[:2]] == [[1.5] * 3, [-0.5] * 3]


def test_every_policy_has_a_row_with_length_gold_and_gold_at_equal_length():
    panels = DRAWINGS["policies_from_labels"]().axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == list(POLICY_ROWS.values())
    for panel, value in zip(panels, (1.0, -0.5, 1.5), strict=True):
        marks = [line for line in panel.lines if line.get_marker() == "o"]
        assert [mark.get_xdata()[0] for mark in marks] == [value] * len(POLICY_ROWS)
    some = named("words", 1.0) | named("gold", 0.5) | named("equal", 0.25)
    names = [label.get_text() for label in policies_from_labels({"DPO": some}).axes[0].get_yticklabels()]
    assert names == [POLICY_ROWS["DPO"]]
