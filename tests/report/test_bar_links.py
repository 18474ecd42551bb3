"""Bars of figures lead to the cases that they count, by mouse and keyboard; nowhere without an explorer."""

import html
import re
import shutil
from urllib.parse import parse_qsl

import matplotlib.pyplot as plt
import pytest
from explored_rows import POLICIES, replies_of
from in_browser import count, serious_findings
from small_report import typeset_drawn, typeset_run

from rlhf_hw.experiments.case_addresses import margin_bars, pair_bars, reply_bars
from rlhf_hw.experiments.explored import explored_run
from rlhf_hw.experiments.replies import NAMES
from rlhf_hw.figures.case_bars import mark_bars
from rlhf_hw.figures.replies import inference_distributions
from rlhf_hw.figures.scores import margin_histogram, side_by_side
from rlhf_hw.figures.style import save
from rlhf_hw.preferences.score_files import read_pairs
from rlhf_hw.report import LANGUAGES

TEXT = """\
---
title: Small
---

# Start {#sec:start}

![Scores of pairs.](fig/scores_side_by_side.pdf){#fig:pairs width=90%}

![Margins.](fig/rm_margins.pdf){#fig:margins width=49%}

![Replies.](fig/inference_validation.pdf){#fig:replies width=49%}
"""
OPENED = """address => new Promise((done) => {
  addEventListener("hashchange", () => done(), { once: true });  // after the page's own
  location.hash = address;
})"""
# of a bar whose lower corner lies nearer to the middle of another: its number and that corner, inside
CORNER = """links => {
  const boxes = links.map((link) => link.querySelector("rect").getBoundingClientRect());
  const far = (box, x, y) => Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y);
  return boxes.map((box, n) => [n, box.x + 1, box.bottom - 1]).find(([n, x, y]) => {
    const nearest = Math.min(...boxes.map((box) => far(box, x, y)));
    const over = document.elementFromPoint(x, y)?.closest("a");
    return over === links[n] && nearest < 14 && nearest < far(boxes[n], x, y);
  });
}"""
SCORE = 1  # of a reply in the explorer's data


def draw_bars(run) -> None:
    """Three figures of histograms, as notebooks 03 and 05 draw them."""
    pairs = read_pairs(run / "scores/validation.jsonl")
    sides = (pairs["chosen_score"], pairs["rejected_score"])
    titles = ("one random head, held-out pairs", "trained model, held-out pairs")
    figures = {"scores_side_by_side": side_by_side(dict.fromkeys(titles, sides))}
    mark_bars(figures["scores_side_by_side"], pair_bars({"untrained": pairs, "validation": pairs}))
    figures["rm_margins"] = margin_histogram(pairs["margin"])
    mark_bars(figures["rm_margins"], margin_bars(pairs))
    scores = {NAMES[policy]: replies_of(run, policy)["score"] for policy in POLICIES}
    figures["inference_validation"] = inference_distributions(scores)
    mark_bars(figures["inference_validation"], reply_bars(scores, NAMES))
    for name, figure in figures.items():
        save(figure, run / "fig", name)
    plt.close("all")


@pytest.fixture(scope="module")
def barred(tmp_path_factory, run):
    """A copy of the run with figures, explorer and the page in both languages, laid out as a report is."""
    return typeset_drawn(tmp_path_factory.mktemp("barred") / "run", run, draw_bars, TEXT)


def shown_by(found: dict, link: dict[str, str]) -> list[int]:
    """Rows of the first training that an address shows, as `report/explorer/cases.js` reads it."""
    one = next(one for one in found["sets"] if one["key"] == link["set"])
    first, second = link.get("a", "chosen"), link.get("b", "rejected")
    name = link["h"]
    low, high = re.fullmatch(r"(-?[\d.]*)\.\.(-?[\d.]*)", link.get(f"r.{name}", "..")).groups()
    rows = []
    for row, case in enumerate(case for case in one["cases"] if case[1] == 0):
        a, b = (case[4][one["policies"].index(policy)][SCORE] for policy in (first, second))
        value = {"score": a - b, "a.score": a, "b.score": b}[name]
        won = link.get("score") is None or (a > b) == (link["score"] == "a") and a != b
        if won and float(low or "-inf") <= value <= float(high or "inf"):
            rows.append(row)
    return rows


def named_links(page) -> list[tuple[dict[str, str], str, int]]:
    """Of each link in a list of bars: its address, its name, and how many cases it is said to have."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<li><a href="explorer\.html#([^"]+)">([^<]+)</a>\D*(\d+)\D*</li>', text)
    return [(dict(parse_qsl(html.unescape(address))), name, int(said)) for address, name, said in found]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_bar_leads_to_the_cases_that_it_counts(barred, language) -> None:
    found, groups = explored_run(barred[language].parents[1]), {}
    for link, name, said in named_links(barred[language]):
        rows = shown_by(found, link)
        assert len(rows) == said > 0 and link["lang"] == language and name
        groups.setdefault((link["set"], link.get("a"), link.get("score"), link["h"]), []).extend(rows)
    pairs = {("pairs-validation", None, None, f"{side}.score") for side in "ab"}
    margins = {("pairs-validation", None, winner, "score") for winner in "ab"}
    assert groups.keys() == pairs | margins | {("validation", policy, None, "a.score") for policy in POLICIES}
    for group, rows in groups.items():
        assert len(rows) == len(set(rows))
        if group not in margins:
            assert sorted(rows) == list(range(30))
    assert sum(len(groups[group]) for group in margins) == 30  # no margin of this run is zero


@pytest.mark.parametrize("language", LANGUAGES)
def test_over_the_image_lie_the_same_links_as_below_it(barred, language) -> None:
    text = barred[language].read_text(encoding="utf-8")
    over = re.findall(r'<a href="explorer\.html#([^"]+)" tabindex="-1"><rect [^>]+>\s*<title>([^<]+)<', text)
    said = re.findall(r'<li><a href="explorer\.html#([^"]+)">([^<]+)</a>([^<]*)</li>', text)
    assert sorted(over) == sorted((address, name + number) for address, name, number in said)
    assert len({name for _, name, _ in said}) > 20 and text.count('<svg class="points bars"') == 3
    names = {re.split("[ :：]", name)[0] for _, name, _ in said}
    assert names >= ({"base", "chosen", "right"} if language == "en" else {"基座", "chosen", "判对"})


def test_without_an_explorer_and_in_an_old_figure_bars_lead_nowhere(barred, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(barred["en"].parents[1], run)
    shutil.rmtree(run / "report")
    page = typeset_run(run, TEXT).read_text(encoding="utf-8")
    assert "explorer.html" not in page and "<rect" not in page and page.count("<img") == 3
    for path in (run / "fig").glob("*.pdf"):
        assert b"/URI" not in path.read_bytes()


@pytest.mark.parametrize(("name", "width", "language"), [("pairs", 1440, "en"), ("replies", 390, "zh")])
def test_a_click_on_a_bar_shows_its_cases(visit, barred, name, width, language) -> None:
    page = visit(barred[language], width)
    bars = page.locator(f"#fig\\:{name} .bars a")
    said = bars.last.locator("title").text_content()  # the lowest, which no other covers
    bars.last.locator("rect").click()
    page.wait_for_url("**/explorer.html#**")
    assert page.locator(".case").count() == int(re.findall(r"\d+", said)[-1])


def test_a_click_means_the_bar_under_it(visit, barred) -> None:
    page = visit(barred["en"], 390)
    bars = page.locator("#fig\\:replies .bars a")
    bars.first.evaluate("link => link.closest('figure').scrollIntoView({ block: 'center' })")
    number, x, y = bars.evaluate_all(CORNER)
    address = bars.nth(number).get_attribute("href").partition("#")[2]
    page.mouse.click(x, y)
    page.wait_for_url("**/explorer.html#**")
    assert dict(parse_qsl(page.url.partition("#")[2])) == dict(parse_qsl(address))


def test_the_explorer_counts_as_many_as_each_bar(visit, barred) -> None:
    page = visit(barred["en"].with_name("explorer.html"), 1440)
    text = barred["en"].read_text(encoding="utf-8")
    links = re.findall(r'<li><a href="explorer\.html(#[^"]+)">[^<]+</a> \((\d+)\)</li>', text)
    for address, said in links:
        page.evaluate(OPENED, html.unescape(address))
        assert count(page) == int(said), address
    assert len(links) > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_keyboard_reaches_each_bar_and_need_not_pass_them(visit, barred, scheme) -> None:
    page = visit(barred["en"], 390, scheme)
    summary = page.locator("#fig\\:margins details summary")
    summary.focus()
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('details.cases')?.open ?? false")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    name, item = page.evaluate(
        "[document.activeElement, document.activeElement.parentElement].map((one) => one.textContent)"
    )
    assert name.startswith("right order")
    assert serious_findings(page) == [] and page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("Enter")
    page.wait_for_url("**/explorer.html#**")
    assert count(page) == int(re.search(r"\((\d+)\)$", item)[1])
