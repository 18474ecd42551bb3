"""Figures of hard pairs: what is drawn where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlhf_hw.figures.hard_pairs import accuracy_by_kind, gold_differences


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_differences_are_drawn_as_shares_of_prompts_with_their_medians():
    gaps = {"easy pairs": np.array([1.0, 2.0, 3.0]), "hard pairs": np.array([0.5, 0.25])}
    (axes,) = gold_differences(gaps).axes
    lines = {line.get_label(): line for line in axes.lines}
    easy = lines["easy pairs, median 2.00"]
    assert list(easy.get_xdata()) == [1, 2, 3]
    assert list(easy.get_ydata()) == pytest.approx([1 / 3, 2 / 3, 1])
    assert "hard pairs, median 0.38" in lines


def test_every_judge_has_a_mark_on_both_kinds_of_pairs():
    numbers = {"accuracy": 0.8, "accuracy_low": 0.75, "accuracy_high": 0.85}
    several = numbers | {"accuracy_trainings_low": 0.7, "accuracy_trainings_high": 0.9}
    kinds = {"easy": {"best": numbers, "words": several}, "hard": {"best": numbers, "words": several}}
    (axes,) = accuracy_by_kind(kinds).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["best", "bag of words"]
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == ["easy pairs", "hard pairs", "guessing"]
    marks = [line for line in axes.lines if line.get_marker() in "os"]
    assert len(marks) == 4 and all(mark.get_xdata()[0] == 0.8 for mark in marks)


def test_parts_of_the_data_are_kinds_too():
    numbers = {"words": {"accuracy": 0.8, "accuracy_low": 0.75, "accuracy_high": 0.85}}
    (axes,) = accuracy_by_kind({part: numbers for part in ("a", "b", "c")}).axes
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == ["a pairs", "b pairs", "c pairs", "guessing"]
    places = [line.get_ydata()[0] for line in axes.lines if line.get_marker() in ("o", "s", "D")]
    assert places == sorted(places, reverse=True) and len(set(places)) == 3
