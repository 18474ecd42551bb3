"""Points of figures lead to their cases: which, from where, for whom; and nowhere where no explorer lies."""

import html
import json
import os
import re
import shutil
from urllib.parse import parse_qsl

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from explored_rows import POLICIES, replies_of
from in_browser import serious_findings
from small_report import typeset_drawn, typeset_run

from rlhf_hw.experiments.case_addresses import pair_addresses, reply_addresses
from rlhf_hw.experiments.explored import explored_run
from rlhf_hw.experiments.replies import NAMES
from rlhf_hw.experiments.score_distributions import SIDES, reply_lengths
from rlhf_hw.experiments.steps import word_counts
from rlhf_hw.figures.case_points import without_cases
from rlhf_hw.figures.scores import score_against_length
from rlhf_hw.figures.style import save
from rlhf_hw.paths import NOTEBOOKS, ROOT, RUNS
from rlhf_hw.pipeline.graph import STAGES
from rlhf_hw.preferences.score_files import read_pairs
from rlhf_hw.report import LANGUAGES
from rlhf_hw.report.explorer import FOLDER

TEXT = """\
---
title: Small
---

# Start {#sec:start}

![Pairs.](fig/rm_length.pdf){#fig:pairs width=90%}

![Replies.](fig/inference_length.pdf){#fig:replies width=90%}
"""
SCORE, TOKENS, TEXT_OF = 1, 4, 0  # of a reply in the explorer's data


MIDDLES = """links => links.map((link) => {
  const box = link.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})"""


def draw_points(run) -> None:
    """The two figures whose points are replies, as notebooks 03 and 05 draw them."""
    pairs = read_pairs(run / "scores/validation.jsonl")
    lengths, unit = reply_lengths(pairs)
    groups = {side: (pairs[f"{side}_score"], lengths[side] + np.arange(len(pairs))) for side in SIDES}
    save(score_against_length(groups, unit=unit, cases=pair_addresses(pairs)), run / "fig", "rm_length")
    tables = {policy: [replies_of(run, policy)] for policy in POLICIES}
    groups = {NAMES[p]: (t["score"], word_counts(t["response"])) for p, (t,) in tables.items()}
    figure = score_against_length(groups, unit="words", cases=reply_addresses(tables, NAMES))
    save(figure, run / "fig", "inference_length")
    plt.close("all")


@pytest.fixture(scope="module")
def reported(tmp_path_factory, run):
    """A copy of the run with figures, explorer and the page in both languages, laid out as a report is."""
    return typeset_drawn(tmp_path_factory.mktemp("linked") / "run", run, draw_points, TEXT)


def point_links(page) -> list[tuple[dict[str, str], float, float]]:
    """What the points of a page lead to, with their places."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<a href="([^"]+)" tabindex="-1"><circle cx="([\d.]+)" cy="([\d.]+)"', text)
    assert len(found) == len(re.findall("<circle", text))
    addresses = [html.unescape(link).partition("#") for link, *_ in found]
    assert {file for file, *_ in addresses} <= {"explorer.html"}
    places = [(float(x), float(y)) for _, x, y in found]
    return [(dict(parse_qsl(said)), *place) for (*_, said), place in zip(addresses, places, strict=True)]


def points_of_cases(page, found: dict, spread: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """(set, reply) -> place, length and score of each of a page's points, shape (points, 4).

    Args:
        page: The report's page. found: What the explorer beside it shows.
        spread: What a pair's length was drawn longer than it is, for each row of its file.
    """
    sets, groups = {one["key"]: one for one in found["sets"]}, {}
    for link, x, y in point_links(page):
        one, mine = (
            sets[link["set"]],
            link["x"][0],
        )  # the reply that is drawn: the first of the two, or the second
        policy = link.get(mine) or dict(zip("ab", SIDES, strict=True))[mine]
        training, row = map(int, link["case"].split("-"))
        cases = [case for case in one["cases"] if case[1] == training - 1]
        reply = cases[row][4][one["policies"].index(policy)]
        words = found["texts"][reply[TEXT_OF]]["w"]
        length = reply[TOKENS] + spread * row if one["kind"] == "pairs" else words
        groups.setdefault((link["set"], policy), []).append((x, y, length, reply[SCORE]))
    return {name: np.array(points, dtype=float) for name, points in groups.items()}


def off_their_values(points: np.ndarray) -> float:
    """How far points lie from where a straight line of length and score puts them; in an SVG's units."""
    x, y, lengths, scores = points.T
    lines = {
        place: np.polyfit(value, where, 1) for place, value, where in (("x", lengths, x), ("y", scores, y))
    }
    assert lines["x"][0] > 0 > lines["y"][0]  # up is less in an SVG
    return max(
        np.abs(np.polyval(lines["x"], lengths) - x).max(), np.abs(np.polyval(lines["y"], scores) - y).max()
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_point_leads_to_the_case_whose_values_it_shows(reported, language) -> None:
    found = explored_run(reported[language].parents[1])
    groups = points_of_cases(reported[language], found, spread=1)
    wanted = {("pairs-validation", side) for side in SIDES} | {("validation", policy) for policy in POLICIES}
    assert groups.keys() == wanted
    for points in groups.values():
        assert len(points) == 30 and off_their_values(points) < 0.11  # of the first training


@pytest.mark.skipif(not os.environ.get("RLHF_HW_CHECK_RUN"), reason="see tests/test_nano_run.py")
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_default_runs_points_lead_to_their_cases(language) -> None:
    groups = points_of_cases(RUNS / f"nano/report/report.{language}.html", explored_run(RUNS / "nano"))
    assert len(groups) == 6
    for points in groups.values():
        assert len(points) > 100 and off_their_values(points) < 0.11


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_link_is_dead(reported, language) -> None:
    page = reported[language]
    found, links = explored_run(page.parents[1]), point_links(page)
    sets = {one["key"]: one for one in found["sets"]}
    assert (page.parent / "explorer.html").exists() and len(links) == 2 * 30 + 4 * 30
    for link, *_ in links:
        one = sets[link.pop("set")]
        assert link.pop("lang") == language and link["case"] in [f"1-{n}" for n in range(30)]
        assert all(link[name] in one["policies"] for name in "ab" if name in link)
        assert link["x"][2:] == "words" and link["y"] == f"{link['x'][0]}.score"
        assert link.keys() <= {"a", "b", "x", "y", "case"}


def test_a_page_with_no_explorer_beside_it_has_no_links_and_an_old_figure_still_builds(
    reported, tmp_path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(reported["en"].parents[1], run)
    shutil.rmtree(run / "report")
    page = typeset_run(run, TEXT).read_text(encoding="utf-8")
    assert "explorer.html" not in page and "<circle" not in page and page.count("<img") == 2
    (run / "report/explorer.html").touch()
    for path in (run / "fig").glob("*.svg"):  # of a run before points had cases
        path.write_text(without_cases(path.read_text(encoding="utf-8"))[0], encoding="utf-8")
    page = typeset_run(run, TEXT).read_text(encoding="utf-8")
    assert "<circle" not in page and page.count('<p class="cases"><a href="explorer.html#') == 2
    assert "click on a point" not in page


def test_print_has_no_links_to_files(reported) -> None:
    for path in reported["en"].parents[1].glob("fig/*.pdf"):
        assert b"/URI" not in path.read_bytes() and b"explorer" not in path.read_bytes()


def test_points_are_not_in_the_image_a_second_time(reported) -> None:
    build_folder = reported["en"].parent / "build/fig/en"
    for name in ("rm_length", "inference_length"):
        assert 'id="cases"' not in (build_folder / f"{name}.svg").read_text(encoding="utf-8")


def test_every_figure_with_such_points_has_an_ordinary_link_too(reported) -> None:
    views = yaml.safe_load((FOLDER / "views.yaml").read_text(encoding="utf-8"))["views"]
    page = reported["en"].read_text(encoding="utf-8")
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) == 2 and {"rm_length", "inference_length"} <= views.keys()
    for figure in figures:
        assert re.search(r'<p class="cases"><a href="explorer[^>]+>Look at these cases</a>; a click', figure)


def test_the_documentation_names_the_figures_whose_points_and_bars_lead_to_cases() -> None:
    page = (ROOT / "docs/explorer.md").read_text(encoding="utf-8")
    section = page.partition("## Which figures lead to cases")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|.*\|$", section, re.MULTILINE))))
    drawn = set()  # names of figures, or how they are made of another name
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            code = "".join(cell["source"])
            if cell["cell_type"] == "code" and re.search(r"mark_bars\(|\bcases=", code):
                drawn |= set(re.findall(r'results\.fig, f?"([\w{}]+)"', code))
    assert len(drawn) > 4
    forms = {form: re.sub(r"\{\w+\}", r"\\w+", form) for form in drawn}
    assert {form for form in drawn if not any(re.fullmatch(forms[form], name) for name in told)} == set()
    assert {name for name in told if not any(re.fullmatch(form, name) for form in forms.values())} == set()
    known = {name for stage in STAGES.values() for name in stage.figures}
    assert set(re.findall(r"`([a-z]+_\w+)`", section)) <= known


@pytest.mark.parametrize(
    ("name", "width", "beside", "scripts"),
    [
        ("pairs", 390, 1, True),
        ("pairs", 1440, 0, False),
        ("replies", 390, 0, False),
        ("replies", 1440, 1, True),
    ],
)
def test_a_click_on_a_point_or_beside_it_opens_its_case(
    visit, reported, name, width, beside, scripts
) -> None:
    page = visit(reported["en"], width)
    if not scripts:
        page.locator(".points").evaluate_all(
            "all => all.forEach((one) => one.replaceWith(one.cloneNode(true)))"
        )
    points = page.locator(f"#fig\\:{name} .points a")
    image, over = (page.locator(f"#fig\\:{name} {part}").bounding_box() for part in ("img", ".points"))
    assert over == pytest.approx(image, abs=0.5)
    places = np.array(points.evaluate_all(MIDDLES))
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e3 * np.eye(len(places))
    n = int(apart.min(axis=1).argmax())  # the one that lies farthest from all others
    address = dict(parse_qsl(points.nth(n).get_attribute("href").partition("#")[2]))
    points.nth(n).evaluate("link => link.scrollIntoView({ block: 'center', inline: 'center' })")
    x, y = points.nth(n).evaluate_all(MIDDLES)[0]
    page.mouse.click(x + 0.4 * min(apart[n].min(), 30) * beside, y)  # nearer to it than to any other
    page.wait_for_url("**/explorer.html#**")
    row = address["case"].partition("-")[2]
    assert page.locator(".reading h2").inner_text().startswith(f"Case {row} ")
    assert 0 <= page.locator(".reading h2").bounding_box()["y"] < 800  # on a phone, too, below the list
    listed, opened = (page.locator(name).bounding_box() for name in (".listed", ".case[aria-current]"))
    assert listed["y"] - 1 <= opened["y"] <= listed["y"] + listed["height"] - opened["height"] + 1
    assert [page.locator(f"#{axis}").input_value() for axis in "xy"] == [address["x"], address["y"]]
    first = page.locator(".reply").first.get_attribute("data-policy")
    assert first == address.get("a", "chosen")


@pytest.mark.parametrize(("language", "width", "scheme"), [("en", 390, "dark"), ("zh", 1440, "light")])
def test_points_bar_nobodys_way(visit, reported, language, width, scheme) -> None:
    page = visit(reported[language], width, scheme)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.closest('.points') !== null"))
    assert seen == {False}
    assert page.locator("figure .cases a").evaluate_all("links => links.every((link) => link.tabIndex === 0)")
