"""The reply explorer in Chromium, of texts that nobody has scored: only what needs no score is there."""

import json
import re

import pytest
from in_browser import OUTSIDE, WIDE, case_ids, count, drag

from rlhf_hw.experiments.explored import explored_files
from rlhf_hw.preferences.score_files import write_scores
from rlhf_hw.report.explorer import write_explorer
from rlhf_hw.stats.text import words

CHOICES = ("h", "x", "y", "sort")
SAID = {"en": "There are no scores to compare.", "zh": "没有可比较的得分。"}
OF_SCORES = {
    "en": r"scor|wins|mistake|closest|equal length|reward model",
    "zh": "得分(?!。)|胜|误判|等长|奖励模型",
}


def lengths(page) -> list[tuple[int, int]]:
    """Words of the DPO and of the base reply of each case of the page's first set."""
    found = json.loads(page.locator("#replies").text_content())
    cases = found["sets"][0]["cases"]
    base, dpo = ([len(words(found["texts"][case[4][n][0]]["t"])) for case in cases] for n in (0, 1))
    return list(zip(dpo, base, strict=True))


@pytest.mark.parametrize("language", SAID)
@pytest.mark.parametrize("at", ["", "&set=pairs-train", "&h=score&x=b.score&y=equal&sort=loss"])
def test_nothing_that_needs_a_score_is_offered(visit, unscored, language, at) -> None:
    page = visit(unscored, WIDE, at=f"#lang={language}{at}")
    page.locator("#blur").click()
    assert [page.locator(f"#{name}").input_value() for name in CHOICES] == [
        "words",
        "b.words",
        "a.words",
        "file",
    ]
    assert page.locator(".controls .note").inner_text() == SAID[language]
    assert page.locator(".reading > .note").inner_text() == SAID[language]
    assert page.locator(".end, .won, .reading table, [id^='w-'], [id^='share-']").count() == 0
    seen = page.locator("body").inner_text().replace(SAID[language], "")
    for name in CHOICES:
        seen += "\n".join(page.locator(f"#{name} option").all_inner_texts())
    page.locator("#help").click()
    seen += page.locator("dialog").inner_text()
    assert not re.findall(OF_SCORES[language] + r"|undefined|NaN|\{\d\}|–", seen)


def test_texts_without_scores_are_compared_by_length_search_and_difference(visit, unscored) -> None:
    page = visit(unscored, WIDE)
    known = lengths(page)
    assert count(page) == len(known) == 120 and page.locator("#set option").count() == 3
    assert page.locator(".reply h3").all_inner_texts() == ["DPO", "base"]
    differences = [f"{dpo - base:+d}".replace("-", "−") for dpo, base in known]
    assert page.locator(".case .judged").first.inner_text() == f"words more {differences[0]}"
    page.locator("#sort").select_option("longer")
    assert "words" not in page.evaluate("location.hash")  # what is usual here need not be said
    ordered = sorted(range(120), key=lambda n: known[n][1] - known[n][0])
    assert case_ids(page)[:10] == [str(n) for n in ordered[:10]]
    drag(page, page.locator(".chart").nth(1), (0.2, 0.9), (0.6, 0.5))
    ranges = dict(re.findall(r"r\.([ab])\.words=([\d.]+)", page.evaluate("location.hash")))
    ends = {name: [float(end) for end in said.split("..")] for name, said in ranges.items()}
    inside = [
        all(low <= n <= high for n, (low, high) in zip(one, (ends["a"], ends["b"]), strict=True))
        for one in known
    ]
    assert count(page) == sum(inside) and 0 < sum(inside) < 120
    page.locator("#clear").click()
    page.evaluate("location.hash = 'case=1-5&marks=rd'")
    page.get_by_text("Case 5", exact=True).wait_for()
    page.locator("#blur").click()
    word = page.locator('[data-policy="dpo"] .only').first.inner_text().split()[0]
    page.locator("#q").fill(word)
    assert "5" in case_ids(page) and page.locator('[data-policy="dpo"] mark').first.inner_text() == word


def test_a_chosen_reply_without_a_score_stands_beside_the_replies_to_its_prompt(visit, unscored) -> None:
    page = visit(unscored, 390, at="#set=train")
    assert page.locator(".reply h3").all_inner_texts() == ["DPO", "base", "reference (chosen)"]
    page.locator("#b").select_option("reference")
    assert page.locator("#x option:checked").text_content() == "words of reference (chosen)"
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and page.evaluate(OUTSIDE) == []


def test_where_one_policy_alone_has_scores_they_are_shown_and_nobody_wins(visit, tmp_path) -> None:
    rows = [{"prompt": f"q{n}", "response": "word " * (n + 1)} for n in range(6)]
    write_scores(tmp_path / "base.jsonl", [row | {"score": n / 2} for n, row in enumerate(rows)])
    write_scores(tmp_path / "dpo.jsonl", rows)
    page = visit(write_explorer(explored_files([tmp_path]), tmp_path / "explorer.html"), WIDE, at="#case=1-3")
    assert [page.locator(f"#{name}").input_value() for name in CHOICES] == [
        "words",
        "b.score",
        "a.words",
        "file",
    ]
    assert page.locator(".reading > .note").inner_text() == SAID["en"]
    page.locator("#blur").click()
    assert page.locator(".end").all_inner_texts() == ["■ score of the whole reply: 1.50"]
