"""What models wrote in any script: shown, or one sign for each character that no font has; and it fits."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from rlhf_hw.errors import RunFailed
from rlhf_hw.report import glyphs, tex, typesetting
from rlhf_hw.report.fields import escape
from rlhf_hw.report.tables import markdown_table

UNKNOWN = "\U00012000"  # cuneiform
REPLIES = {
    "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 9,
    "Emoji": "So happy \U0001f600\u2764\ufe0f " * 20 + UNKNOWN * 3,
    "Wide": "W" * 2000,
    "Wide words": ("W" * 18 + " ") * 9,
    "Letters": "ж" * 2000,
    "Greek": "Ἐν ἀρχῇ ἦν ὁ λόγος: α→β ≥ ∮",
}
JAPANESE = "吾輩は猫である。名前はまだ無い。" * 30


def document(folder: Path, rows: list[dict], language: str = "en") -> typesetting.Document:
    """A report that is one table of replies."""
    columns = [(key, "", key.capitalize()) for key in rows[0]]
    text = "\n".join(
        ["---\ntitle: Replies\n---\n", *markdown_table(rows, columns, "test"), ": Replies. {#tbl:r}"]
    )
    tree = folder / f"report.{language}.json"
    tree.write_text(typesetting.parse(text, language), encoding="utf-8")
    bibliography = folder / "references.bib"
    bibliography.write_text("")
    return typesetting.Document(tree, language, folder, bibliography, strict=True)


def shown(pdf: Path) -> str:
    if not shutil.which("pdftotext"):
        pytest.skip("needs poppler-utils")
    done = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True)
    return "".join(done.stdout.split()).replace("\u200b", "")


@pytest.mark.parametrize("route", ["xelatex", "typst"])
def test_replies_in_any_script_are_shown_and_fit(tmp_path, route, caplog):
    if route == "xelatex" and not tex.has_tex():
        pytest.skip(f"needs {tex.TEX_PACKAGES}")
    rows = [{"prompt": name, "reply": reply, "score": -1.0} for name, reply in REPLIES.items()]
    if glyphs.typst_lacks(JAPANESE, tmp_path) == set():
        rows.append({"prompt": "Japanese", "reply": JAPANESE, "score": 2.0})
    write = typesetting.write_xelatex if route == "xelatex" else typesetting.write_typst
    write(document(tmp_path, rows), tmp_path / "out.pdf")  # raises where text leaves its place
    text = shown(tmp_path / "out.pdf")
    assert "Съешьжеещё" in text and "\U0001f600" in text and "λόγος" in text and "W" * 18 in text
    assert "猫である" in text or len(rows) == len(REPLIES)
    assert UNKNOWN not in text and text.count(glyphs.SIGN) == 3 and "[U+" not in text
    assert [UNKNOWN in record.message and "apt-get" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("route", ["xelatex", "typst"])
def test_text_that_leaves_its_column_stops_a_strict_report(tmp_path, route, monkeypatch):
    if route == "xelatex" and not tex.has_tex():
        pytest.skip(f"needs {tex.TEX_PACKAGES}")
    if route == "typst" and not shutil.which("pdftotext"):
        pytest.skip("needs poppler-utils")
    monkeypatch.setattr("rlhf_hw.report.fields.WORD_LIMIT", 10**6)
    monkeypatch.setattr("rlhf_hw.report.tables.escape", lambda text: text)  # no place to break
    report = document(tmp_path, [{"reply": "x" * 300, "again": "y" * 300, "score": 0.5}])
    write = typesetting.write_xelatex if route == "xelatex" else typesetting.write_typst
    with pytest.raises(RunFailed, match=r"report.en.*: text does not fit: page 1: .*xxx"):
        write(report, tmp_path / "out.pdf")
    assert not (tmp_path / "out.pdf").exists()
    if route == "typst":  # the other takes seconds
        write(replace(report, strict=False), tmp_path / "out.pdf")
        assert (tmp_path / "out.pdf").exists()


def test_a_font_with_the_right_name_and_no_glyphs_is_found_out(tmp_path, monkeypatch, caplog):
    report = document(tmp_path, [{"reply": "奖励模型", "score": 0.5}], "zh")
    laid = glyphs.lay_fonts(tmp_path)
    font = TTFont(laid / "DejaVuSerif.ttf")
    for record in font["name"].names:
        if record.nameID in (1, 16):
            record.string = "Noto Serif CJK SC"
    font.save(laid / "Named.ttf")
    monkeypatch.setattr(glyphs, "SYSTEM_FONTS", False)
    assert typesetting.pdf_engines("typst", report) == []
    assert "4 of the report's Chinese characters (励型奖模)" in caplog.text
    assert "apt-get install fonts-noto-cjk" in caplog.text


def test_typst_says_which_characters_no_font_has(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "SYSTEM_FONTS", False)
    wanted = {"Ж", "\U0001f600", "\u0301", glyphs.SIGN, "字", UNKNOWN}
    assert glyphs.typst_lacks(wanted, tmp_path) == {"字", UNKNOWN}


def test_signs_stand_for_missing_characters_in_text_and_code():
    tree = json.loads(typesetting.parse("One 字 `字`\n\n```\n字\n```\n", "en"))
    assert glyphs.characters(tree) == {"字"}
    assert glyphs.characters(glyphs.without(tree, "字")) == {glyphs.SIGN}


def test_long_words_may_break_anywhere_but_not_between_a_letter_and_its_mark():
    assert escape("x" * 40).split("\u200b") == ["x"] * 40
    assert escape("q\u0308" * 30).split("\u200b") == ["q\u0308"] * 30
    assert escape("奖" * 40) == "奖" * 40
    assert escape("a\u202eb\ue000\x07") == f"a{glyphs.SIGN}b{glyphs.SIGN}{glyphs.SIGN}"
