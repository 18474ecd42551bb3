"""Tables of a report: declared once for both languages, and the run's own."""

from pathlib import Path

import pytest
from report_texts import VALUES

from rlhf_hw.paths import REPORT
from rlhf_hw.report import typesetting
from rlhf_hw.report.columns import LINE, column_widths
from rlhf_hw.report.fields import Facts, FieldError
from rlhf_hw.report.tables import CELL_LIMIT, markdown_table, read_tables
from rlhf_hw.report.text import fill
from rlhf_hw.world import gold

DECLARED = """\
quality:
  columns:
    - {en: Measure, zh: 指标, width: 10}
    - {en: Value, zh: 数值, width: 8, align: right, cell: "{{rm.<set>.<key>}}"}
  rows:
    - {en: "*Held out*", zh: "*验证*"}
    - {en: Accuracy, zh: 正确率, set: validation, key: "accuracy:.3f"}
    - {en: With interval, zh: 连同区间, cells: ["{{estimate:rm.validation.accuracy:.2f}}"]}
    - {en: Gold, zh: 真实奖励, if: [data.train, base.gold], set: validation, key: "gold:.3f"}
    - en: Pairs
      zh: 对数
      if: not base.gold
      cells: [{en: "{{data.train.pairs:,}} pairs", zh: "{{data.train.pairs:,}} 对"}]
scored:
  rows: replies
  columns:
    - {key: prompt, en: Question, zh: 问题}
    - {key: score, format: "+.2f", en: Score, zh: 得分}
    - {key: gold, if: base.gold, en: Gold, zh: 真实奖励}
"""
ROWS = [
    {"prompt": "a|b", "score": 1.5, "n": 3},
    {"prompt": "y" * (2 * CELL_LIMIT), "score": None, "n": 4},
]


def lines(tmp_path: Path, name: str, language: str = "en", declared: str = DECLARED) -> list[str]:
    (tmp_path / "tables.yaml").write_text(declared, encoding="utf-8")
    facts = Facts(VALUES, {"replies": ROWS}, language=language)
    return fill(
        f"{{{{table:{name}}}}}", facts, read_tables(tmp_path / "tables.yaml"), "report.md"
    ).splitlines()


def test_a_declared_table_speaks_both_languages(tmp_path):
    assert lines(tmp_path, "quality") == [
        "",
        "| Measure | Value |",
        "| :--------- | -------: |",
        "| *Held out* |  |",
        "| Accuracy | 0.712 |",
        "| With interval | 0.71 (0.68\xa0to\xa00.74) |",
        "| Pairs | 12,000 pairs |",
        "",
    ]
    assert lines(tmp_path, "quality", "zh")[3:-1] == [
        "| *验证* |  |",
        "| 正确率 | 0.712 |",
        "| 连同区间 | 0.71（0.68\xa0至\xa00.74） |",
        "| 对数 | 12,000 对 |",
    ]


def test_tables_of_a_run_choose_format_and_align_their_columns(tmp_path):
    shown = lines(tmp_path, "scored")
    assert shown[1] == "| Question | Score |"
    assert [part.strip().endswith(":") for part in shown[2].strip("|").split("|")] == [False, True]
    assert shown[3] == r"| a\|b | +1.50 |"
    assert shown[4].endswith(r"\[…\] |  |")
    assert lines(tmp_path, "scored", "zh")[1] == "| 问题 | 得分 |"
    assert lines(tmp_path, "replies")[1] == "| prompt | score | n |"


EACH = """\
each:
  rows: parts
  columns:
    - {key: part, en: Part, zh: 部分, width: 10}
    - {en: Accuracy, zh: 正确率, width: 12, cell: "{{estimate:rm.<key>.accuracy:.2f}}"}
    - {en: Words, zh: 词袋, width: 12, if: words.<key>.accuracy, cell: "{{words.<key>.accuracy:.2f}}"}
"""


def test_the_rows_of_a_run_fill_the_cells_of_a_declared_table(tmp_path):
    (tmp_path / "tables.yaml").write_text(EACH, encoding="utf-8")
    declared = read_tables(tmp_path / "tables.yaml")
    rows = {"parts": [{"part": "a|b", "key": "validation"}]}
    shown = fill("{{table:each}}", Facts(VALUES, rows), declared).splitlines()
    assert shown[1] == "| Part | Accuracy |" and shown[3] == "| a\\|b | 0.71 (0.68\xa0to\xa00.74) |"
    values = VALUES | {"words.validation.accuracy": 0.5}
    chinese = fill("{{table:each}}", Facts(values, rows, language="zh"), declared).splitlines()
    assert chinese[1] == "| 部分 | 正确率 | 词袋 |" and chinese[3].endswith("| 0.50 |")
    with pytest.raises(FieldError, match="unknown key 'rm.test.accuracy"):
        fill("{{table:each}}", Facts(VALUES, {"parts": [{"part": "x", "key": "test"}]}), declared)
    with pytest.raises(ValueError, match="the row has no 'key'"):
        fill("{{table:each}}", Facts(VALUES, {"parts": [{"part": "x"}]}), declared)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("accuracy:.3f", "acuracy:.3f", FieldError, r"tables.yaml:7: .*did you mean rm.validation.accuracy"),
        ('set: validation, key: "acc', 'key: "acc', ValueError, "tables.yaml:7: the row has no 'set'"),
        ("zh: 正确率, ", "", ValueError, "tables.yaml:7: words missing for zh"),
        ('cells: ["{{e', 'cells: [1, "{{e', ValueError, "tables.yaml:8: 2 cells for 1 columns"),
        (
            "key: score,",
            "key: scores,",
            FieldError,
            r"tables.yaml:18: unknown column 'scores'; .*prompt, score, n",
        ),
        (
            "rows: replies",
            "rows: reply",
            FieldError,
            r"report.md:1: unknown table 'reply' .did you mean replies",
        ),
        ("  rows: replies\n", "", ValueError, "tables.yaml:15: table 'scored' needs columns and rows"),
    ],
)
def test_a_wrong_declaration_is_an_error_with_its_line(tmp_path, old, new, error, message):
    name = "scored" if "score" in old or "replies" in old else "quality"
    with pytest.raises(error, match=message):
        lines(tmp_path, name, declared=DECLARED.replace(old, new))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("rows", "kept"), [(5, True), (60, False)])
def test_a_table_stays_on_one_page_by_the_same_rule_in_both_pdfs(rows, kept, language):
    tree = typesetting.parse("| a | b |\n|---|---|\n" + "| one | two |\n" * rows + "\n: Said.\n", language)
    options = [f"--lua-filter={REPORT / name}" for name in ("tables.lua", "placement.lua")]
    options.append(f"--metadata=report-language:{language}")
    latex, typst = (
        typesetting.pandoc(["--from", "json", "--to", to, "--standalone", *options], tree)
        for to in ("latex", "typst")
    )
    assert ("\\begin{floatingtable}{\\caption{Said.}}{@{}ll@{}}" in latex) == kept
    assert ("\\nofigurewaits\\keepfree{" in latex) == ("\\begin{longtable}" in latex) == (not kept)
    assert latex.count("one & two") == rows and latex.count("a & b") == (1 if kept else 2)
    assert ("#set figure(placement: auto)" in typst) == kept


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_heading_within_a_table_stays_with_the_row_below_it_in_both_pdfs(language):
    long = " and so on" * 9  # longer than a line of pandoc's
    rows = f"| *two [x]{long}* | |\n| one | “said” |\n| again | 1 |\n" * 20
    tree = typesetting.parse(f"| a | b |\n|---|---|\n{rows}\n: Said.\n", language)
    options = [f"--lua-filter={REPORT / name}" for name in ("tables.lua", "placement.lua")]
    latex, typst, page = (
        typesetting.pandoc(
            ["--from", "json", "--to", to, *options, f"--metadata=report-language:{language}"], tree
        )
        for to in (f"latex{typesetting.WRITER_SUFFIX[language]}", "typst", "html5")
    )
    assert latex.count("\\noalign{\\nobreak}one &") == latex.count("\\noalign{\\nobreak}") == 20
    assert "\nagain &" in latex
    headed = f"table.header(level: 2, repeat: false, table.cell(colspan: 2)[#emph[two \\[x\\]{long}]]),"
    assert typst.count(headed) == 20 and "[one], [“said”]," in typst
    assert page.count('<td colspan="2"><em>two [x]') == 20 and "headed" not in page


def test_intervals_of_a_run_do_not_break_and_its_powers_of_ten_are_written_as_such():
    rows = [{"rate": "2e-04", "gain": "+0.53 [-0.19, +0.87]", "reply": "1, 2 [a, b] 2e-04"}]
    line = markdown_table(rows, [(key, "", key) for key in rows[0]], "test")[3]
    plain = line.replace("\\", "").replace("\u200b", "")
    rate, gain, reply = (cell.strip() for cell in plain.strip("| ").split("|"))
    assert (rate, gain, reply) == ("2·10^−4^", "+0.53 [-0.19,\xa0+0.87]", "1, 2 [a, b] 2e-04")


@pytest.mark.parametrize("to", ["latex", "typst"])
def test_short_code_stays_with_its_sentence(to):
    code = "```\n" + "a = 1\n" * 3 + "```\n"
    options = ["--from", "json", "--to", to, f"--lua-filter={REPORT / 'placement.lua'}"]
    written = typesetting.pandoc(
        options, typesetting.parse(f"Before.\n\nThis way:\n\n{code}\nAfter.\n", "en")
    )
    kept = {"latex": ("\\begin{samepage}", "\\end{samepage}"), "typst": ("#block(breakable: false)[", "]")}[
        to
    ]
    start, end = written.index(kept[0]), written.rindex(kept[1])
    assert written.index("Before") < start < written.index("This way") < written.index("a = 1") < end
    assert end < written.index("After")


def test_columns_hold_their_longest_word_and_share_the_rest_by_what_it_saves():
    rows = [{"model": "base", "reply": "word " * 60, "case": "incomprehensible thing " * 3, "score": 1.0}] * 2
    shown = markdown_table(rows, [(key, "", key) for key in rows[0]], "test")
    model, reply, case, _ = (part.strip().count("-") for part in shown[2].strip("|").split("|"))
    assert model < case < reply and case >= 2 * len("incomprehensible")
    assert markdown_table([{"a": 1}], [("a", "", "a")], "test")[2] == "| -----: |"


def test_a_short_heading_is_not_broken_in_chinese_neither():
    first, second = column_widths([["KL（奈特）", "得分"], ["0.68", "one word and another " * 9]])
    assert first == 11 and second == LINE - 11


def test_two_intervals_are_named_once_in_the_heading(tmp_path):
    declared = """\
wins:
  columns:
    - {en: Measure, zh: 指标, width: 9}
    - {en: Value, zh: 数值, width: 9, cell: "{{headline:rm.validation.<key>:.2f}}"}
  rows:
    - {en: Accuracy, zh: 正确率, key: accuracy}
"""
    text = {  # an interval does not break
        "en": "0.71 (0.68\xa0to\xa00.74; 0.60\xa0to\xa00.80)",
        "zh": "0.71（0.68\xa0至\xa00.74；0.60\xa0至\xa00.80）",
    }
    which = {"en": "Measure (intervals: prompts; trainings)", "zh": "指标（区间：提示；训练）"}
    (tmp_path / "tables.yaml").write_text(declared, encoding="utf-8")
    tables = read_tables(tmp_path / "tables.yaml")
    trained = {
        f"rm.validation.accuracy_trainings_{end}": value for end, value in (("low", 0.6), ("high", 0.8))
    }
    for language in ("en", "zh"):
        shown = fill("{{table:wins}}", Facts(VALUES | trained, language=language), tables)
        assert text[language] in shown and f"| {which[language]} |" in shown
        assert which[language] not in fill("{{table:wins}}", Facts(VALUES, language=language), tables)


def test_a_column_stands_in_brackets_behind_another_and_long_cells_are_shortened(tmp_path):
    declared = """\
scored:
  rows: replies
  columns:
    - {key: reply, en: reply, zh: 回复, limit: 12}
    - {key: parts, en: parts, zh: 组成, into: reply, words: {zh: {filler: 空话}}}
    - {key: score, en: score, zh: 得分}
"""
    (tmp_path / "tables.yaml").write_text(declared, encoding="utf-8")
    rows = [
        {"reply": "word by word by word", "parts": "filler -1", "score": 2},
        {"reply": "回" * 20, "parts": None, "score": 1},
    ]
    tables = read_tables(tmp_path / "tables.yaml")
    shown = {
        language: fill("{{table:scored}}", Facts({}, {"replies": rows}, language=language), tables).split(
            "\n"
        )
        for language in ("en", "zh")
    }
    assert shown["en"][1] == "| reply | score |"
    assert [line.split("|")[1] for line in shown["en"][3:5]] == [
        " word by word […] *(filler \\-1)* ".replace("[…]", "\\[…\\]"),
        f" {'回' * 12} […] ".replace("[…]", "\\[…\\]"),
    ]
    assert "*（空话 \\-1）*" in shown["zh"][3]


def test_words_of_a_run_are_said_in_the_language_of_the_report(tmp_path):
    declared = """\
scored:
  rows: replies
  columns:
    - {key: case, en: case, zh: 情形, words: {zh: {gains: 提高}}}
    - {key: parts, en: parts, zh: 组成, words: {zh: {off topic: 跑题, reasons: 理由}}}
"""
    (tmp_path / "tables.yaml").write_text(declared, encoding="utf-8")
    rows = [{"case": "gains: what gains?", "parts": "reasons 1.5, off topic -0.5, new 1"}]
    for language, said in (
        ("en", ["gains: what gains?", "reasons 1.5, off topic -0.5, new 1"]),
        ("zh", ["提高：what gains?", "理由 1.5、跑题 -0.5, new 1"]),
    ):
        facts = Facts({}, {"replies": rows}, language=language)
        table = fill(
            "{{table:scored}}", facts, read_tables(tmp_path / "tables.yaml"), "report.md"
        ).splitlines()
        assert table[3].replace("\\", "") == f"| {said[0]} | {said[1]} |"


def test_every_part_of_gold_and_kind_of_case_has_its_word():
    columns = {column["key"]: column for column in read_tables(REPORT / "tables.yaml")["samples"]["columns"]}
    parts = [part.replace("_", " ") for part in gold.PARTS]
    assert [part for part in parts if part not in columns["parts of gold"]["words"]["zh"]] == []
    assert {"gains", "losses", "ties"} <= set(columns["case"]["words"]["zh"])


def test_no_words_of_a_table_end_at_a_comma():
    """Unquoted, YAML takes what follows it for a further key, without a value."""
    tables = read_tables(REPORT / "tables.yaml").values()
    parts = [part for table in tables for side in ("columns", "rows") for part in table[side]]
    parts = [part for part in parts if isinstance(part, dict)]
    assert len(parts) > 100 and not [part for part in parts if None in part.values()]
