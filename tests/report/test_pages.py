"""Where text leaves its place on a page: told by TeX's log, or measured in a PDF."""

import logging

import pytest

from rlhf_hw.errors import RunFailed
from rlhf_hw.report.pages import Word, misplaced_words, overfull_boxes, report_places

TEX_LOG = """\
[1] [2{/fonts/enc.enc}]
Overfull \\hbox (1.35pt too wide) in paragraph at lines 7--8
[]\\TU/lmr/m/n/9 less than a letter

Overfull \\hbox (7.86pt too wide) in paragraph at lines 166--167
[]\\TU/lmr/m/n/9 Donaudampfschiffahrt

[3]
Overfull \\vbox (12.0pt too high) has occurred while \\output is active []
"""


def test_the_tex_log_tells_page_lines_and_text_of_what_is_too_wide():
    assert overfull_boxes(TEX_LOG) == [
        "page 3: 7.86 pt too much in paragraph at lines 166--167 Donaudampfschiffahrt",
        "page 4: 12.0 pt too much has occurred while \\output is active []",
    ]
    assert len(overfull_boxes(TEX_LOG, tolerance=1)) == 3


def test_what_does_not_fit_is_an_error_only_where_strict(caplog):
    report_places("report.en", [], strict=True)
    places = [f"page {n}: 'x' in the margin" for n in range(8)]
    with pytest.raises(RunFailed, match=r"report.en: text does not fit: page 0.* and 3 more"):
        report_places("report.en", places, strict=True)
    with caplog.at_level(logging.WARNING):
        report_places("report.en", places, strict=False)
    assert "page 4" in caplog.text and "page 5" not in caplog.text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([(80, 100, 120, 110, "one"), (121, 100, 160, 110, "two")], []),
        ([(80, 100, 130, 110, "one"), (121, 100, 160, 110, "two")], ["'one' and 'two' upon each other"]),
        ([(80, 100, 130, 110, "（"), (121, 100, 160, 110, "two")], []),  # an empty half
        ([(80, 100, 130, 110, "one"), (121, 109, 160, 119, "two")], []),  # the line below
        ([(40, 100, 130, 110, "left")], ["'left' in the margin"]),
        ([(480, 100, 540, 110, "right")], ["'right' in the margin"]),
        ([(300, 790, 305, 800, "7"), (310, 790, 340, 800, "low")], ["'low' in the margin"]),
    ],
)
def test_words_in_the_margin_or_upon_each_other_are_found(monkeypatch, tmp_path, words, found):
    laid = [Word(1, 595.3, 841.9, *word) for word in words]
    monkeypatch.setattr("rlhf_hw.report.pages._words", lambda pdf: laid)
    monkeypatch.setattr("rlhf_hw.report.pages.shutil.which", lambda name: name)
    assert misplaced_words(tmp_path / "a.pdf", 2.5) == [f"page 1: {place}" for place in found]
