"""The report: checks that stop an incomplete document, and whole builds by each route."""

import contextlib
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from report_texts import HOSTILE, STARTS, VALUES

from rlhf_hw.figures.diagrams import DIAGRAMS, draw_all
from rlhf_hw.report import build, glyphs, shown, tex, typesetting
from rlhf_hw.report.fields import Facts, FieldError

BIBLIOGRAPHY = (
    "@article{gao2023scaling, title={Scaling Laws}, author={Gao, Leo}, journal={Journal}, year={2023}}\n"
)


# Checks of a whole document -----------------------------------------------------------------------

TEXT = {
    "en": """\
---
title: A small report
abstract: |
  On {{run.processor}}.
---

# Start {#sec:start}

Accuracy {{rm.validation.accuracy:.3f}}, change {{dpo.change:.1f}}, β ≥ 0. See @fig:one, @fig:two,
@tbl:samples, @eq:loss, @sec:start and @gao2023scaling. Code: `rlhf_hw.report.build_report`.

$$ \\mathcal{L} = -\\log\\sigma(r_w - r_l) $$ {#eq:loss}

![One figure.](fig/one.pdf){#fig:one width=50%}

::: {.figures #fig:two}
![](fig/one.pdf){width=45%} ![](fig/one.pdf){width=45%}

Two figures.
:::

{{table:samples}}

: Replies. {#tbl:samples}

```python
assert "奖励" != "reward"
```
""",
    "zh": """\
---
title: 小报告
---

# 开始 {#sec:start}

准确率 {{rm.validation.accuracy:.3f}}，见@fig:one和@tbl:samples，
第二点在@sec:start。引用@gao2023scaling的结论，用 `code` 与“引号”。

$$ \\mathcal{L} = -\\log\\sigma(r_w - r_l) $$ {#eq:loss}

由 @eq:loss 可知。

![一张图。](fig/one.pdf){#fig:one width=50%}

{{table:samples}}

: 回答。 {#tbl:samples}
""",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A folder with the diagrams."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_all(folder)
    return folder


@pytest.fixture
def run(tmp_path, drawn) -> Path:
    """A finished run with one figure."""
    (tmp_path / "fig").mkdir()
    for suffix in (".svg", ".pdf"):
        shutil.copy(drawn / f"rm_loss_diagram{suffix}", tmp_path / "fig" / f"one{suffix}")
    (tmp_path / "references.bib").write_text(BIBLIOGRAPHY)
    (tmp_path / "metrics.json").write_text(json.dumps(VALUES))
    return tmp_path


def prepared(run: Path, text: str, language: str = "en", reply: str = HOSTILE) -> typesetting.Document:
    source = run / f"report.{language}.md"
    source.write_text(text, encoding="utf-8")
    tables = {"samples": [{"prompt": start, "reply": reply, "score": -1.0} for start in STARTS]}
    facts = Facts(shown.load_values(run), tables, shown.figures(run), language)
    return build.prepare(source, facts, run)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "![c](fig/other.pdf){#fig:other}",
            FieldError,
            "report.en.md:1: no figure 'other'; no notebook draws it",
        ),
        ("![c](other.png)", ValueError, "fig/NAME.pdf"),
        ("a\n\n@fig:other", FieldError, "report.en.md:3: @fig:other: no figure"),
        ("[@nobody2020]", FieldError, "@nobody2020: not in references.bib"),
        ("# A {#sec:a}\n\n[@sec:a; @gao2023scaling]", ValueError, "in one bracket"),
        ("$$a$$ {#eq:a}\n\n$$b$$ {#eq:a}", ValueError, "used twice"),
        ("see@sec:a", ValueError, "space is missing"),
        ("really??", ValueError, "open place"),
        ("$a = 5%$", ValueError, "write"),
        ("```\n" + "x" * 100 + "\n```", ValueError, "code wider"),
    ],
)
def test_an_incomplete_document_is_an_error(run, text, error, message):
    with pytest.raises(error, match=message):
        prepared(run, text)


def test_another_run_never_shows_the_default_profiles_figures(run, drawn, tmp_path, monkeypatch):
    shutil.copytree(drawn, tmp_path / "repository")
    shutil.copy(run / "fig" / "one.pdf", tmp_path / "repository" / "scores_validation.pdf")
    monkeypatch.setattr(shown, "FIG", tmp_path / "repository")
    assert set(shown.figures(run)) == {"one", *DIAGRAMS}


def test_figures_of_the_kept_recorded_run_stand_beside_kept_numbers_only(run, drawn, tmp_path, monkeypatch):
    shutil.copytree(drawn, tmp_path / "repository")
    shutil.copy(run / "fig" / "one.pdf", tmp_path / "repository" / "recorded_length.pdf")
    monkeypatch.setattr(shown, "FIG", tmp_path / "repository")
    assert "recorded_length" in shown.figures(run)
    (run / "metrics.json").write_text(json.dumps({"recorded.runs.1.name": "another"}))
    assert "recorded_length" not in shown.figures(run)


def test_values_come_from_metrics_record_and_recorded_run(run):
    (run / "run.json").write_text(
        json.dumps({"seconds": 3.5, "machine": {"threads": 2}, "run.dtype": "bf16"})
    )
    (run / "recorded.json").write_text(json.dumps({"gap": 1.0}))
    values = shown.load_values(run, run / "recorded.json")
    expected = {"run.seconds": 3.5, "run.machine.threads": 2, "run.dtype": "bf16", "recorded.gap": 1.0}
    assert values == VALUES | expected


def test_recorded_numbers_of_the_run_itself_count_more_than_kept_ones(run):
    (run / "metrics.json").write_text(json.dumps({"recorded.gap": 2.0}))
    (run / "recorded.json").write_text(
        json.dumps({"recorded.gap": 1.0, "recorded.claims.gain": 1.0, "cases": []})
    )
    values = shown.load_values(run, run / "recorded.json")
    assert values["recorded.gap"] == 2.0 and "recorded.claims.gain" not in values


def test_unknown_languages_formats_and_engines_are_errors():
    for wrong in ({"languages": ["fr"]}, {"formats": ["docx"]}):
        with pytest.raises(ValueError, match="is not one of"):
            build.build_report("none", **wrong)
    with pytest.raises(ValueError, match="is not one of"):
        typesetting.pdf_engines("word", None)


def test_a_missing_font_or_tex_is_one_clear_line(run, monkeypatch, caplog):
    monkeypatch.setattr(typesetting, "has_tex", lambda: False)
    monkeypatch.setattr(glyphs, "SYSTEM_FONTS", False)
    assert typesetting.pdf_engines("auto", prepared(run, "English, and 奖励.")) == ["typst"]
    assert caplog.records == []
    assert typesetting.pdf_engines("both", prepared(run, "奖励", "zh")) == []
    assert [record.message.count("\n") for record in caplog.records] == [0, 0]
    assert "apt-get install texlive-xetex" in caplog.text and "apt-get install fonts-noto-cjk" in caplog.text


def test_the_tex_log_tells_of_missing_references_and_glyphs():
    tex_log = (
        "LaTeX Warning: There were undefined references.\n"
        "Missing character: There is no ก in font lmroman!\n"
        "Overfull \\hbox (1.0pt too wide)\n"
    )
    assert len(tex.latex_problems(tex_log)) == 2


# Whole builds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_html_is_one_page_with_numbers_figures_and_formulas(run, language):
    document = prepared(run, TEXT[language], language)
    page = build.typeset(document, run / "report", ["html"], "auto")[0].read_text(encoding="utf-8")
    assert 'lang="zh-CN"' in page if language == "zh" else 'lang="en"' in page
    assert "0.712" in page and "<math" in page and "data:image/svg+xml;base64," in page
    assert "<script>alert" not in page and 'src="fig' not in page and 'rel="stylesheet"' not in page
    words = {
        "en": ("Figure\u00a01</a>", "Table\u00a01</a>", "Section\u00a01</a>", "Equation\u00a0(1)</a>"),
        "zh": ("图\u00a01</a>", "表\u00a01</a>", "第\u00a01\u00a0节</a>", "式\u00a0(1)</a>"),
    }
    assert [word for word in words[language] if word not in page] == []


def test_a_new_page_begins_in_print_only(run):
    document = prepared(run, "# A\n\n::: {.newpage}\n:::\n\n# B\n")
    written = [typesetting.pandoc(["--to", form, str(document.tree)]) for form in ("latex", "typst", "html5")]
    assert ["\\clearpage" in written[0], "#pagebreak" in written[1], "pagebreak" in written[2]] == [1, 1, 0]


def test_chinese_text_has_no_spaces_around_references_and_real_minus_signs(run):
    text = TEXT["zh"] + "\n见 @fig:one。为 @sec:start\n服务（-0.1，-0.2）。\n"
    document = prepared(run, text, "zh")
    page = build.typeset(document, run / "report", ["html"], "auto")[0].read_text(encoding="utf-8")
    seen = re.sub(r"<[^>]*>", "", page)
    assert "见图\u00a01。" in seen and "为第\u00a01\u00a0节服务" in seen and "（−0.1，−0.2）" in seen


def test_chinese_marks_have_no_space_beside_them(run):
    text = TEXT["zh"] + "\n**甲。** 变好。\nSFT 为 0.1（0 至 1） 奈特 [@gao2023scaling] 而见 `a` 与 `b`。\n"
    document = prepared(run, text, "zh", reply="「はい」。 Yes， it is")
    page = build.typeset(document, run / "report", ["html"], "auto")[0].read_text(encoding="utf-8")
    seen = re.sub(r"<[^>]*>", "", page)
    assert "甲。变好。SFT 为 0.1（0 至 1）奈特（Gao 2023）而见 a 与 b。" in seen
    assert "「はい」。 Yes， it is" in seen  # what a model wrote stays as it is


def inflated(pdf: bytes) -> bytes:
    """A PDF's objects, those in compressed streams too."""
    parts = [pdf]
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with contextlib.suppress(zlib.error):  # a picture or a font
            parts.append(zlib.decompressobj().decompress(stream))
    return b"\n".join(parts)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("route", ["xelatex", "typst"])
def test_pdf_is_complete_and_reproducible(run, route, language):
    document = prepared(run, TEXT[language], language)
    if typesetting.pdf_engines(route, document) != [route]:
        pytest.skip(f"{route} for {language} needs {tex.TEX_PACKAGES} or {typesetting.CJK_PACKAGE}")
    pdf = build.typeset(document, run / "report", ["pdf"], route)[0]
    first = pdf.read_bytes()
    assert first.startswith(b"%PDF") and pdf.name == f"report.{language}.pdf"
    build.typeset(document, run / "report", ["pdf"], route)
    assert pdf.read_bytes() == first
    inside = inflated(first)
    language_of_text = {"en": b"/Lang(en-US)", "zh": b"/Lang(zh-CN)"}[language]
    assert language_of_text in inside and b"/Outlines" in inside and b"/Title" in inside
    assert route == "xelatex" or (b"/StructTreeRoot" in inside and b"/Alt" in inside)
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
        text = "".join(text.split()).replace("\u200b", "")
        assert "0.712" in text and "<script>alert(1)</script>" in text and "\\input{/etc/passwd}" in text
        words = {
            "en": ("Figure1", "Figure2", "Table1", "Section1", "Equation(1)"),
            "zh": ("图1", "表1", "第1节", "式(1)"),
        }
        assert [word for word in words[language] if word not in text] == []


def test_both_routes_write_two_files(run):
    document = prepared(run, TEXT["en"].replace("奖励", "rewards"))
    if not tex.has_tex():
        pytest.skip(f"needs {tex.TEX_PACKAGES}")
    files = build.typeset(document, run / "report", ["pdf", "html"], "both")
    assert [path.name for path in files] == ["report.en.pdf", "report.en.typst.pdf", "report.en.html"]


def test_diagrams_are_drawn_the_same_each_time(tmp_path, drawn):
    second = {path.relative_to(tmp_path): path.read_bytes() for path in draw_all(tmp_path)}
    assert {path.stem for path in second} == set(DIAGRAMS)
    assert second == {path.relative_to(drawn): path.read_bytes() for path in drawn.rglob("*.*")}


def test_each_language_shows_its_own_figures_and_english_ones_where_it_has_none(run, caplog, monkeypatch):
    monkeypatch.setattr(shown, "FIG", run / "none")
    (run / "fig" / "zh").mkdir()
    for suffix in (".svg", ".pdf"):
        shutil.copy(run / "fig" / f"one{suffix}", run / "fig" / f"two{suffix}")
        (run / "fig" / "zh" / f"one{suffix}").write_text("Chinese /MediaBox [0 0 300 200]")
    assert shown.figures(run)["one"] == run / "fig" / "one.pdf" and caplog.text == ""
    found = shown.figures(run, "zh")
    assert found["one"] == run / "fig" / "zh" / "one.pdf" and found["two"] == run / "fig" / "two.pdf"
    assert "report.zh: English figures, none in its language: two" in caplog.text
    facts = build.Facts({}, {}, found, "zh")
    source = run / "report.zh.md"
    source.write_text("![一](fig/one.pdf){#fig:one} ![二](fig/two.pdf){#fig:two}", encoding="utf-8")
    tree = build.prepare(source, facts, run).tree.read_text(encoding="utf-8")
    assert "fig/zh/one.pdf" in tree and "fig/zh/two.pdf" in tree
    assert (run / "report" / "build" / "fig" / "zh" / "one.svg").read_text().startswith("Chinese")
