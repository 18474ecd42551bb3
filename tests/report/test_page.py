"""The report as a web page: what the file holds. `test_browser` tests how it behaves."""

import csv
import io
import re
import urllib.parse

import pytest
import yaml

from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, typesetting
from rlhf_hw.report.explorer import explorer_options


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_figure_of_the_report_has_a_text_for_those_who_cannot_see_it(language) -> None:
    texts = yaml.safe_load((REPORT / "alt.yaml").read_text(encoding="utf-8"))["alt"]
    sources = [path.read_text(encoding="utf-8") for path in REPORT.glob(f"*.{language}.md")]
    shown = {name for source in sources for name in re.findall(r"\]\(fig/([\w-]+)\.pdf\)", source)}
    assert len(shown) > 20 and shown - set(texts) == set()
    for name in shown:
        words = texts[name][language]
        assert 20 < len(words) and bool(re.search("[\u4e00-\u9fff]", words)) == (language == "zh"), name
    with_numbers = [name for name in texts if re.search(r"\d", texts[name][language].replace("ln 2", ""))]
    assert with_numbers == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_one_file_with_one_script_one_title_and_landmarks(pages, language) -> None:
    page = pages[language].read_text(encoding="utf-8")
    for tag in ("<script>", "<h1>", "<main ", "<nav "):
        assert page.count(tag) == 1, tag
    assert page.count("<script") == 1 and "<link" not in page and "@import" not in page
    sources = re.findall(r'(?:src|href)="([^"#]{1,60})', page)
    other = {"en": "report.zh.html", "zh": "report.en.html"}[language]
    assert {s for s in sources if not s.startswith(("data:", "https://"))} == {other, "explorer.html"}
    assert not re.findall(r'src="https?:', page)
    texts = yaml.safe_load((REPORT / "alt.yaml").read_text(encoding="utf-8"))["alt"]
    images = re.findall(r"<img [^>]*>", page)
    assert images and all(re.search(r' alt="[^"]{20,}', image) for image in images)
    assert texts["rm_margins"][language] in page.replace("’", "'")


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_lead_to_the_cases_that_they_count(pages, language) -> None:
    page = pages[language].read_text(encoding="utf-8")
    views = yaml.safe_load((REPORT / "explorer/views.yaml").read_text(encoding="utf-8"))["views"]
    links = re.findall(r'href="explorer\.html#lang=(\w+)&amp;([^"]+)"', page)
    rest = ["rm_calibration", "rm_margins", "rm_length"] if language == "en" else []
    wanted = ["rm_margins", *rest, "tbl:samples"]
    assert links == [(language, views[name].replace("&", "&amp;")) for name in wanted]
    assert page.count(f'href="explorer.html#lang={language}"') == 1


def test_a_page_without_an_explorer_beside_it_leads_to_none(tmp_path) -> None:
    assert explorer_options(tmp_path / "report.en.html") == []


def test_a_table_comes_as_csv_that_no_spreadsheet_takes_for_formulas(pages) -> None:
    page = pages["en"].read_text(encoding="utf-8")
    links = dict(re.findall(r'download="([\w.-]+)" href="data:text/csv;charset=utf-8,([^"]+)"', page))
    read = {name: urllib.parse.unquote(link).removeprefix("\ufeff") for name, link in links.items()}
    samples, numbers = (list(csv.reader(io.StringIO(read[f"{name}.csv"]))) for name in ("samples", "numbers"))
    assert samples[0] == ["prompt", "reply", "score", "note"] and "<script>alert(1)</script>" in samples[1][1]
    assert [row[2:] for row in samples[1:]] == [["-1.00", "'=1+1"], ["2.50", "+0.41 (0.22 to 0.60)"]]
    assert numbers[1:] == [["rows of words", *[""] * 9], ["a", "-1.25", *["10,000,000"] * 3, *["1"] * 5]]


def test_heads_of_tables_have_a_scope(pages) -> None:
    page = pages["en"].read_text(encoding="utf-8")
    scopes = re.findall(r"<th\b[^>]*?scope=\"(\w+)\"", page)
    assert len(scopes) == page.count("<th ") and set(scopes) == {"col", "row", "rowgroup"}
    assert not re.findall(r"<td[^>]*scope=", page)


WITH_HEADING = """\
| Rate | $\\beta$ | Words |
|:-----|:--------|:------|
| *All of it* |  |  |
| a | 0.1 | b |
"""


def test_a_heading_within_a_table_runs_over_it_and_labels_hold_no_tex() -> None:
    filters = [f"--lua-filter={REPORT / name}" for name in ("tables.lua", "xref.lua", "page.lua")]
    options = ["--from", "markdown", "--to", "html5", "--mathml", "--metadata=report-language:en", *filters]
    page = typesetting.pandoc(options, WITH_HEADING).replace("\n", " ")
    assert re.search(r'<th colspan="3"[^>]*scope="rowgroup"><em>All of it</em></th>\s*</tr>', page)
    assert 'data-label="β">0.1' in page and "%CE%B2" in page  # in the CSV, too
