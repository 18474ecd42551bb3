"""Figures of DPO in exact worlds: what is drawn where."""

import numpy as np
import pytest
from drawings import named

from rlhf_hw.figures.dpo_variants import LOWEST_SHARE, beside_rlhf, what_variants_change


def test_dots_of_a_class_are_cut_off_not_lost() -> None:
    distances = {
        name: {n: named("distance", value) for n in (100, 400)}
        for name, value in {"everything": 0.1, "chain": 0.2, "islands": 0.4}.items()
    }
    reached = {"whole": np.ones((2, 3)), "small": np.array([[0.5, -7.0, 1.0], [0.2, 0.3, 0.4]])}
    left, right = beside_rlhf(distances, reached).axes
    assert [line.get_ydata()[0] for line in left.lines] == pytest.approx([0.1, 0.2, 0.4])
    small = right.lines[1].get_xdata()
    assert len(small) == 6 and min(small) == LOWEST_SHARE and min(small) > right.get_xlim()[0]


def test_variants_have_a_line_each() -> None:
    regrets = {s: {n: named("regret", 0.3) for n in (50, 100)} for s in ("offline", "iterative", "uniform")}
    changes = {0.0: named("change", 1.5), 0.9: named("change", -0.5)}
    anchored = {name: named("change", 0.2) for name in ("DPO", "DPO + NLL", "DPOP")}
    shares = {"rDPO": 1, "IPO": 0.6, "DPO": 0.5, "cDPO": 0.3}
    kept = {name: [1.0, share] for name, share in shares.items()}
    left, middle, right = what_variants_change(regrets, changes, anchored, (0.0, 0.2), kept).axes
    assert len(left.lines) == 3
    assert list(middle.lines[0].get_ydata()) == [1.5, -0.5]
    assert [line.get_label() for line in right.lines] == ["rDPO", "IPO", "DPO", "cDPO"]
    assert [line.get_ydata()[1] for line in right.lines] == [1, 0.6, 0.5, 0.3]
