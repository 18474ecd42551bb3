"""Figures of choosing hard by a reward: what is drawn where."""

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS

from rlhf_hw.figures.reward_overoptimization import CASES, PROXIES, RULE_NAMES


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_gold_stands_beside_the_score_over_the_same_distances():
    left, right = DRAWINGS["gold_against_proxy"]().axes
    names = [text.get_text() for text in left.get_legend().get_texts()]
    assert names == [name for name, _, _ in PROXIES.values()]
    drawn = {line.get_label(): line for line in right.lines}
    assert list(drawn["with a bonus for length"].get_ydata()) == [0.0, 0.4, -0.2]
    assert list(drawn["with a bonus for length"].get_xdata()) == pytest.approx([0, 0.19**0.5, 0.64**0.5])
    assert sum(line.get_linestyle() == ":" and len(line.get_xdata()) == 3 for line in right.lines) == 2
    assert [label.get_text() for label in left.child_axes[0].get_xticklabels()] == ["1"]


def test_every_kind_of_model_and_every_rule_has_its_mark():
    left, right = DRAWINGS["labels_and_remedies"]().axes
    assert {text.get_text() for text in left.texts} - {""} == {"20", "600", "20%", "50%", "4"}
    assert [label.get_text() for label in right.get_yticklabels()] == list(RULE_NAMES.values())[::-1]
    marks = [line for line in right.lines if line.get_marker() in {mark for _, _, mark in CASES.values()}]
    assert len(marks) == 3 * len(CASES) + 1 and {mark.get_xdata()[0] for mark in marks} == {0.6}
