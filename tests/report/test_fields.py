"""Fields of a report: strict numbers, intervals in both languages, and texts that stay inert."""

import json

import pytest
from report_texts import HOSTILE, STARTS, VALUES

from rlhf_hw.report import typesetting
from rlhf_hw.report.fields import Facts, FieldError, escape


def filled(text: str, values: dict | None = None, language: str = "en") -> str:
    return Facts(VALUES if values is None else values, language=language).fill(text, "report.en.md:3")


# Fields -------------------------------------------------------------------------------------------


def test_fields_take_python_formats():
    text = "{{rm.validation.accuracy:.3f}} {{ rm.validation.accuracy:.1%}} {{data.train.pairs:,}}"
    assert filled(text) == "0.712 71.2% 12,000"
    assert filled("{{data.train.pairs}}") == "12000"


def test_zero_has_no_sign():
    values = {"a": -0.001, "b": 0.0004, "c": -0.006}
    text = "{{a:.2f}} {{b:+.2f}} {{a:.0%}} {{b:+.1%}} {{c:+.2f}}"
    assert filled(text, values) == "0.00 0.00 0% 0.0% -0.01"


def test_a_number_is_the_same_as_a_share_and_as_percent():
    values = {"a": 0.7225, "b": -0.125}
    assert filled("{{a:.3f}} {{a:.1%}} {{b:+.2f}} {{b:+.0%}}", values) == "0.723 72.3% -0.13 -13%"


def test_fields_report_what_they_used():
    facts = Facts(VALUES)
    facts.fill("{{data.train.pairs}}", "report.en.md:3")
    assert facts.used == {"data.train.pairs"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "{{rm.validation.acuracy:.3f}}",
            FieldError,
            r"report.en.md:3: .*unknown key 'rm.validation.acuracy' .did you mean rm.validation.accuracy",
        ),
        ("{{rm.trained_on.accuracy:.2f}}", FieldError, r"rm\.validation\.accuracy"),
        ("{{dpo.change}}", ValueError, r"report.en.md:3: .*say how to print it"),
        ("{{run.processor:.3f}}", ValueError, "number format"),
        ("{{data.train.pairs:q}}", ValueError, "report.en.md:3"),
        ("{{data.train.pairs", ValueError, "does not close"),
        ("text {{table:samples}}", ValueError, "alone on its line"),
        ("{{estimate:dpo.change:.1f}}", FieldError, "unknown key 'dpo.change_low'"),
        ("{{interval:rm.validation.accuracy}}", ValueError, "say how to print it"),
    ],
)
def test_wrong_fields_are_errors_with_their_place(text, error, message):
    with pytest.raises(error, match=message):
        filled(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, True])
def test_a_value_that_is_no_number_is_an_error(value):
    with pytest.raises(ValueError, match="not a number"):
        filled("{{a:.2f}}", {"a": value})


def test_a_field_error_prints_its_message_as_written():
    assert str(FieldError("report.md:1: it's so")) == "report.md:1: it's so"


ESTIMATES = [
    ("{{estimate:rm.validation.accuracy:.3f}}", "0.712 (0.680 to 0.743)", "0.712（0.680 至 0.743）"),
    ("{{estimate: a :+.1f}}", "+0.2 (-0.1 to 0.0)", "+0.2（-0.1 至 0.0）"),
    ("{{interval:rm.validation.accuracy:.0%}}", "68% to 74%", "68% 至 74%"),
]


@pytest.mark.parametrize(("text", "english", "chinese"), ESTIMATES)
def test_an_interval_is_one_field(text, english, chinese):
    values = VALUES | {"a": 0.2, "a_low": -0.1, "a_high": -0.04}
    assert (filled(text, values), filled(text, values, "zh")) == (english, chinese)


def test_words_may_stand_before_an_interval():
    assert (
        filled("{{estimate:rm.validation.accuracy:.2f|95% interval}}") == "0.71 (95% interval 0.68 to 0.74)"
    )
    assert (
        filled("{{estimate:rm.validation.accuracy:.2f|区间}}", language="zh") == "0.71（区间 0.68 至 0.74）"
    )


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
    expected = " ".join(text.split()).replace("\u202e", "\ufffd")
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


def test_a_headline_shows_both_intervals_where_there_are_two() -> None:
    one = {"a": 0.5, "a_low": 0.4, "a_high": 0.6}
    two = one | {"a_trainings_low": 0.3, "a_trainings_high": 0.7}
    assert Facts(one).fill("{{headline:a:.1f}}", "x") == "0.5 (0.4 to 0.6)"
    assert Facts(two).fill("{{headline:a:.1f}}", "x") == "0.5 (prompts 0.4 to 0.6; trainings 0.3 to 0.7)"
    chinese = Facts(two, language="zh").fill("{{headline:a:.1f}}", "x")
    assert chinese == "0.5（提示 0.4 至 0.6；训练 0.3 至 0.7）"
