"""Figures of plural preferences: what is drawn where."""

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS

from rlhf_hw.figures.plural import RULE_MARKS, VOTERS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_every_model_has_a_mark_for_both_groups_and_every_rule_one():
    left, right = DRAWINGS["groups_served"]().axes
    marks = [line for line in left.lines if line.get_marker() in ("o", "s")]
    assert len(marks) == 2 * len(left.get_yticks()) and {m.get_xdata()[0] for m in marks} == {1.5}
    names = [text.get_text() for text in right.get_legend().get_texts()]
    assert names == ["mixture, every weight", *(name for name, _, _ in RULE_MARKS.values())]
    assert list(right.lines[0].get_xdata()) == [2.0, 1.5]


def test_what_is_found_stands_above_the_comparisons_that_it_took():
    left, right = DRAWINGS["comparisons_needed"]().axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "8"]
    assert [label.get_text() for label in right.get_xticklabels()] == ["0", "4"]
    assert len(right.get_legend().get_texts()) == 4


def test_disagreement_stands_against_what_was_foretold_beside_what_was_reported():
    left, right = DRAWINGS["people_disagree"]().axes
    assert list(left.lines[1].get_xdata()) == [0.3, 0.4] and list(left.lines[1].get_ydata()) == [0.6, 0.6]
    assert [label.get_text() for label in right.get_yticklabels()] == list(VOTERS.values())
    assert "reported, 2016" in [text.get_text() for text in right.get_legend().get_texts()]
