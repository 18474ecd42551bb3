"""The text of a report: conditional blocks, and errors that name their line."""

from pathlib import Path

import pytest
from report_texts import VALUES

from rlhf_hw.report.fields import Facts, FieldError
from rlhf_hw.report.text import fill


def filled(text: str, **more) -> str:
    return fill(text, Facts(VALUES, **more), source="report.en.md")


BLOCKS = """\
<!-- if rm.validation -->
yes
<!-- if not base.gold -->
inner
<!-- else -->
{{never.looked.up}}
<!-- endif -->
<!-- else -->
no
<!-- endif -->
<!-- a note to the author -->
<!-- if rm.valid -->
a prefix ends at a dot
<!-- endif -->
<!-- if figure:dpo_rewards -->
figure
<!-- endif -->
<!-- if table:samples -->
table
<!-- endif -->
"""


def test_conditional_blocks_nest_and_know_prefixes_figures_and_tables():
    assert filled(BLOCKS).split() == ["yes", "inner"]
    more = filled(BLOCKS, figures={"dpo_rewards": Path("dpo_rewards.pdf")}, tables={"samples": []})
    assert more.split() == ["yes", "inner", "figure", "table"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<!-- if a -->\nx", 1),
        ("x\n<!-- endif -->", 2),
        ("<!-- else -->", 1),
        ("<!-- if -->\n<!-- endif -->", 1),
    ],
)
def test_unbalanced_blocks_are_errors(text, line):
    with pytest.raises(ValueError, match=f"report.en.md:{line}:"):
        filled(text)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "a\n\n{{rm.validation.acuracy:.3f}}",
            FieldError,
            "report.en.md:3: .*did you mean rm.validation.accuracy",
        ),
        ("a\n{{table:samples}}", FieldError, "report.en.md:2: unknown table 'samples'"),
        ("a {{table:samples}}", ValueError, "report.en.md:1: .*alone on its line"),
    ],
)
def test_what_a_run_does_not_have_is_an_error_with_its_line(text, error, message):
    with pytest.raises(error, match=message):
        filled(text)
