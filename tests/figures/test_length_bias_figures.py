"""Figures of length bias: what is drawn where."""

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS, named

from rlhf_hw.figures.length_bias import REMEDY_ROWS, WHOLE_ROWS, remedies_compared


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
