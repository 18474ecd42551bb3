"""Sentences that hang on the seed are found."""

from rlhf_hw.report.agreement import lonely_lines
from rlhf_hw.report.fields import Facts
from rlhf_hw.report.text import kept_lines

TEXT = """Always.
<!-- if claims.better -->
It is better.
<!-- else -->
Better or not is open.
<!-- endif -->
"""


def test_a_line_is_lonely_that_most_other_runs_do_not_print() -> None:
    said, open_ = Facts({"claims.better": 1}), Facts({})
    sure, unsure = (dict(kept_lines(TEXT, facts, "report")) for facts in (said, open_))
    assert lonely_lines(TEXT, [sure, unsure, unsure, sure]) == [(3, 1, "It is better.")]
    assert lonely_lines(TEXT, [sure, sure, sure, unsure]) == []
    assert lonely_lines(TEXT, [unsure, sure, sure]) == [(5, 0, "Better or not is open.")]
