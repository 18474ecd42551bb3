"""The report's page in Chromium: at three widths, by day and night, by keyboard, and without scripts.

Skipped where no Chromium is (Debian: `apt-get install chromium`).
"""

import io
import os

import matplotlib.pyplot as plt
import pytest
from in_browser import serious_findings

from rlhf_hw.paths import RUNS
from rlhf_hw.report import LANGUAGES

WIDTHS = (390, 820, 1440)  # a phone, a tablet, a desk
SCHEMES = ("light", "dark")


OUTSIDE = """() => [...document.querySelectorAll("main *, .bar > *")].filter((part) => {
  const box = part.getBoundingClientRect();
  const inner = part.parentElement.closest(".scroll, .formula, pre, .contents");
  return box.width && !inner && (box.right > innerWidth + 1 || box.left < -1);
}).map((part) => part.outerHTML.slice(0, 100))"""
# of a figure's smallest letters, 8 points where it is drawn
LETTERS = (
    "images => images.map((image) => 8 * 96 / 72 * image.getBoundingClientRect().width / image.naturalWidth)"
)
OVERPRINTED = """() => [...document.querySelectorAll(".equation")].filter((equation) => {
  const [formula, number] = [...equation.children].map((part) => part.getBoundingClientRect());
  return formula.right > number.left || number.right > innerWidth;
}).map((equation) => equation.id)"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_wider_than_the_screen(visit, pages, width, language) -> None:
    page = visit(pages[language], width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OUTSIDE) == [] and page.evaluate(OVERPRINTED) == []


def test_on_a_phone_panels_stack_tables_fold_or_scroll_and_long_formulas_scroll(visit, pages) -> None:
    page = visit(pages["en"])
    panels = [panel.bounding_box() for panel in page.locator("#fig\\:two img").all()]
    assert panels[1]["y"] >= panels[0]["y"] + panels[0]["height"]
    cell = page.locator("#tbl\\:samples td").first
    assert cell.evaluate("cell => getComputedStyle(cell).display") == "block"
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"reply: "'
    scrolls = "box => box.scrollWidth > box.clientWidth && box.tabIndex === 0"
    assert page.locator("#tbl\\:numbers .scroll").evaluate(scrolls)
    assert sum(page.locator(".formula").evaluate_all(f"boxes => boxes.map({scrolls})")) >= 3
    page.set_viewport_size({"width": 820, "height": 900})
    assert cell.evaluate("cell => getComputedStyle(cell).display") == "table-cell"


@pytest.mark.parametrize("width", WIDTHS)
def test_words_in_figures_stay_legible_and_what_is_wider_scrolls_in_its_box(visit, pages, width) -> None:
    page = visit(pages["en"], width)
    assert min(page.locator("figure img").evaluate_all(LETTERS)) >= 9
    boxes = [page.locator(f"#fig\\:{name} .panel").first for name in ("one", "wide")]
    scrolls = [
        box.evaluate("box => box.scrollWidth > box.clientWidth && box.tabIndex === 0") for box in boxes
    ]
    assert scrolls == [False, width == 390]


CASES = [("en", 390, "light"), ("en", 390, "dark"), ("en", 1440, "light"), ("en", 1440, "dark")]
CASES += [("zh", 820, scheme) for scheme in SCHEMES]


@pytest.mark.parametrize(("language", "width", "scheme"), CASES)
def test_axe_finds_nothing_serious(visit, pages, language, width, scheme) -> None:
    assert serious_findings(visit(pages[language], width, scheme)) == []


@pytest.mark.skipif(not os.environ.get("RLHF_HW_CHECK_RUN"), reason="see tests/test_nano_run.py")
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_default_runs_pages_fit_every_screen(visit, language) -> None:
    for path in (RUNS / "nano" / "report").glob(f"*.{language}.html"):
        for width, scheme in zip(WIDTHS, ("dark", "light", "dark"), strict=True):
            page = visit(path, width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(OUTSIDE) == [] and page.evaluate(OVERPRINTED) == []
            assert min(page.locator("figure img").evaluate_all(LETTERS)) >= 9
            assert serious_findings(page) == []


def test_the_keyboard_reaches_text_contents_and_citations(visit, pages) -> None:
    page = visit(pages["en"])
    focused = "document.activeElement.textContent.trim()"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the text"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Tab")
    assert page.locator(".contents").is_hidden()
    page.keyboard.press("Enter")
    assert page.locator(".contents").is_visible()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    page.keyboard.press("Escape")
    assert page.locator(".contents").is_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#sec:start" and page.locator(".contents").is_hidden()


def test_a_citation_shows_its_reference_and_gives_its_bibtex(visit, pages) -> None:
    page = visit(pages["en"], permissions=["clipboard-read", "clipboard-write"])
    card = page.locator("#card")
    page.locator(".citation a").first.focus()
    said = card.inner_text()
    assert said.startswith("Gao, Leo") and "Scaling Laws for Reward Model Overoptimization" in said
    assert page.evaluate(OUTSIDE) == []
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Copied").wait_for()
    entry = page.evaluate("navigator.clipboard.readText()")
    assert entry.startswith("@inproceedings{gao2023scaling,\n  title={Scaling Laws for")
    assert entry.endswith("}\n}\n") and "\n  year={2023}," in entry
    page.keyboard.press("Escape")
    assert card.is_hidden()
    page.locator(".citation a").first.hover()
    assert card.is_visible()
    page.mouse.move(0, 0)
    card.wait_for(state="hidden")


def test_the_other_language_opens_at_the_same_place(visit, pages) -> None:
    page = visit(pages["en"], 1440)
    language = page.locator("a.language")
    assert language.get_attribute("href") == "report.zh.html" and language.get_attribute("lang") == "zh-CN"
    page.evaluate("location.hash = 'fig:one'")
    page.wait_for_function("document.querySelector('a.language').hash === '#fig:one'")
    assert page.locator(".contents [aria-current]").get_attribute("href") == "#sec:start"
    language.click()
    assert page.url.endswith("report.zh.html#fig:one")
    assert 0 <= page.locator("#fig\\:one").bounding_box()["y"] < 450


@pytest.mark.parametrize("width", [390, 1440])
def test_without_scripts_everything_is_there(visit, pages, width) -> None:
    page = visit(pages["en"], width, java_script_enabled=False)
    contents = page.locator(".contents a").first
    if width == 390:
        assert contents.is_hidden()
        page.locator(".bar summary").click()
    assert contents.is_visible()
    summary = page.locator(".csl-entry summary").first
    summary.click()
    assert page.locator(".csl-entry pre").first.is_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_figures_follow_the_screen(visit, pages, scheme) -> None:
    page = visit(pages["en"], 820, scheme)
    image = io.BytesIO(page.locator("#fig\\:one img").screenshot())
    pixels = plt.imread(image)[..., :3]
    ground, darkest, lightest = pixels[0, 0].mean(), pixels.min(), pixels.max()
    if scheme == "light":
        assert ground > 0.9 and darkest < 0.2
    else:  # no words stay dark on the dark ground
        assert darkest > ground - 0.05 and ground < 0.15 and lightest > 0.8
