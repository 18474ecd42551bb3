"""Fields, conditional blocks and tables of a report: strict, and its texts inert."""

import json

import pytest
from report_texts import HOSTILE, STARTS, VALUES

from rlhf_hw.report import typesetting
from rlhf_hw.report.fields import CELL_LIMIT, FieldError, escape, fill


def filled(text: str, **more) -> str:
    return fill(text, VALUES, source="report.en.md", **more)[0]


# Fields -------------------------------------------------------------------------------------------


def test_fields_take_python_formats():
    text = "{{rm.validation.accuracy:.3f}} {{ rm.validation.accuracy:.1%}} {{data.train.pairs:,}}"
    assert filled(text) == "0.712 71.2% 12,000\n"
    assert filled("{{data.train.pairs}}") == "12000\n"


def test_zero_has_no_sign():
    values = {"a": -0.001, "b": 0.0004, "c": -0.006}
    text = "{{a:.2f}} {{b:+.2f}} {{a:.0%}} {{b:+.1%}} {{c:+.2f}}"
    assert fill(text, values)[0] == "0.00 0.00 0% 0.0% -0.01\n"


def test_fields_report_what_they_used():
    assert fill("{{data.train.pairs}}\n", VALUES)[1] == {"data.train.pairs"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "a\n\n{{rm.validation.acuracy:.3f}}",
            FieldError,
            r"report.en.md:3: unknown key 'rm.validation.acuracy' .did you mean rm.validation.accuracy",
        ),
        ("{{rm.trained_on.accuracy:.2f}}", FieldError, r"rm\.validation\.accuracy"),
        ("{{dpo.change}}", ValueError, r"report.en.md:1: .*say how to print it"),
        ("{{run.processor:.3f}}", ValueError, "number format"),
        ("{{data.train.pairs:q}}", ValueError, "report.en.md:1"),
        ("{{data.train.pairs", ValueError, "does not close"),
        ("text {{table:samples}}", ValueError, "alone on its line"),
        ("{{table:samples}}", FieldError, "unknown table 'samples'"),
    ],
)
def test_wrong_fields_are_errors_with_their_place(text, error, message):
    with pytest.raises(error, match=message):
        filled(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, True])
def test_a_value_that_is_no_number_is_an_error(value):
    with pytest.raises(ValueError, match="not a number"):
        fill("{{a:.2f}}", {"a": value})


def test_a_field_error_prints_its_message_as_written():
    assert str(FieldError("report.md:1: it's so")) == "report.md:1: it's so"


# Conditional blocks -------------------------------------------------------------------------------

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
    more = filled(BLOCKS, figures={"dpo_rewards"}, tables={"samples": []})
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


# Texts are data -----------------------------------------------------------------------------------


def inlines(markdown: str, language: str = "en") -> list[dict]:
    blocks = json.loads(typesetting.parse(markdown, language))["blocks"]
    assert [block["t"] for block in blocks] == ["Para"], "a text became more than a paragraph"
    return blocks[0]["c"]


@pytest.mark.parametrize("text", [HOSTILE, *STARTS])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_escaped_texts_are_only_characters(text, language):
    parts = inlines(escape(text), language)
    assert {part["t"] for part in parts} <= {"Str", "Space"}
    shown = "".join(part.get("c", " ") for part in parts).replace("\u200b", "")
    expected = " ".join(text.split()).replace("\U0001f600", "[U+1F600]").replace("\u202e", "[U+202E]")
    assert shown == expected


@pytest.mark.parametrize("text", STARTS)
def test_texts_start_no_typst_markup(text):
    """pandoc's Typst writer leaves list and heading marks at the start of a cell unescaped."""
    tree = typesetting.parse(f"| a |\n|---|\n| {escape(text)} |\n", "en")
    code = typesetting.pandoc(["--from", "json", "--to", "typst", "--wrap=none"], tree)
    start = code.split("table.hline(),")[1].lstrip().removeprefix("[")
    assert start[0] not in "-+=/" and not start[0].isdigit()


def test_line_breaks_become_pilcrows_and_long_words_breakable():
    assert escape("one\n\n two \r\nthree") == "one ¶ two ¶ three"
    assert max(len(part) for part in escape("x" * 100).split("\u200b")) < 30


def test_tables_choose_format_and_align_their_columns():
    rows = [
        {"prompt": "a|b", "score": 1.5, "n": 3},
        {"prompt": "y" * (2 * CELL_LIMIT), "score": None, "n": 4},
    ]
    lines = filled("{{table:t|prompt=Question, score:+.2f=得分, n}}", tables={"t": rows}).split("\n")
    assert lines[1] == "| Question | 得分 | n |"
    assert [part.strip().endswith(":") for part in lines[2].strip("|").split("|")] == [False, True, True]
    assert lines[3] == r"| a\|b | +1.50 | 3 |"
    assert lines[4].endswith(r"\[…\] |  | 4 |")
    with pytest.raises(FieldError, match="unknown column 'reply'; the table has prompt, score, n"):
        filled("{{table:t|reply}}", tables={"t": rows})
