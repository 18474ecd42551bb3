"""The glossary: its file, which terms a text shows, and what becomes a link."""

import json

import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, typesetting
from rlhf_hw.report.fields import Facts
from rlhf_hw.report.glossary import MARK, Term, link_terms, read_glossary, with_glossary

GOLD = Term("gold", "gold", ("gold", "gold reward"), "True quality.")
REWARD = Term("reward", "reward", ("reward",), "A score.")
NATS = Term("nats", "奈特", ("奈特",), "单位。")
KL = Term("kl", "KL 散度", ("KL 散度", "KL"), "距离。")
PLACE = "\n\n::: {.glossary}\n:::\n"


def linked(markdown: str, *terms: Term, language: str = "en") -> list[tuple[str, str]]:
    """Each link to a term, with its words."""
    blocks = json.loads(typesetting.parse(markdown, language))["blocks"]
    link_terms(blocks, terms)
    found = []

    def walk(node) -> None:
        if isinstance(node, dict):
            if node.get("t") == "Link" and node["c"][2][0].startswith("#term:"):
                found.append((node["c"][2][0][6:], words(node["c"][1])))
            node = list(node.values())
        if isinstance(node, list):
            for part in node:
                walk(part)

    walk(blocks)
    return found


def words(inlines: list[dict]) -> str:
    return "".join(inline.get("c", " ") for inline in inlines)


def test_first_use_in_each_section_becomes_a_link() -> None:
    text = "# A\n\nBy gold, again gold.\n\n## B\n\ngold\n\n# C\n\n- *Of Gold*, then\n"
    assert linked(text, GOLD) == [("gold", "gold"), ("gold", "Gold")]


def test_the_longer_term_wins_and_hides_the_shorter() -> None:
    text = "# A\n\nThe gold\nreward is gold, not golden; a reward-model has a reward."
    assert linked(text, REWARD, GOLD) == [("gold", "gold reward"), ("reward", "reward")]


@pytest.mark.parametrize(
    "text",
    [
        "`gold`",
        "$gold$",
        "## gold",
        "[gold](http://x.org)",
        "@gold2023",
        "| gold |\n|---|\n| gold |\n\n: gold {#tbl:x}",
        "![gold](a.pdf){#fig:gold}",
        "```\ngold\n```",
        "$$x$$ {#eq:gold}",
        "golden, marigold",
    ],
)
def test_code_formulas_headings_links_and_tables_stay(text) -> None:
    assert linked(f"# A\n\n{text}\n", GOLD) == []


def test_chinese_words_need_no_space_around_them() -> None:
    assert linked("# 甲\n\n变化三奈特，而KL散度与 KL 散度不同。", NATS, KL, language="zh") == [
        ("nats", "奈特"),
        ("kl", "KL"),
    ]


def test_text_around_a_link_stays_whole() -> None:
    blocks = json.loads(typesetting.parse("# A\n\n(The *so-called gold*, of all.)", "en"))["blocks"]
    before = typesetting.pandoc(["--from", "json", "--to", "plain"], tree(blocks))
    link_terms(blocks, [GOLD])
    assert typesetting.pandoc(["--from", "json", "--to", "plain"], tree(blocks)) == before


def tree(blocks: list[dict]) -> str:
    version = json.loads(typesetting.parse("", "en"))["pandoc-api-version"]
    return json.dumps({"pandoc-api-version": version, "meta": {}, "blocks": blocks})


def test_a_text_shows_the_terms_that_it_uses() -> None:
    text, used = with_glossary("By gold." + PLACE, [GOLD, NATS], Facts({}), "glossary.yaml")
    assert used == [GOLD] and "[**gold**]{#term:gold}: True quality." in text and "奈特" not in text
    assert with_glossary("By gold.", [GOLD], Facts({}), "glossary.yaml") == ("By gold.", [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {key: a, en: {term: a, text: x}}", "entry 1 needs a key, and a term and text in zh"),
        ("- {en: {term: a, text: x}, zh: {term: a, text: x}}", "entry 1 needs a key"),
        ("- &a {key: a, en: {term: a, text: x}, zh: {term: a, text: x}}\n- *a", "used twice: a"),
    ],
)
def test_a_faulty_file_is_refused(tmp_path, text, message) -> None:
    (tmp_path / "glossary.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_glossary(tmp_path / "glossary.yaml")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_term_is_used_in_the_report(language) -> None:
    text = (REPORT / f"report.{language}.md").read_text(encoding="utf-8")
    assert MARK.search(text)
    terms = read_glossary(REPORT / "glossary.yaml")[language]
    assert [term.key for term in terms if not next(term.matches(text), None)] == []
    assert terms == sorted(terms, key=lambda term: term.key) or language == "zh"


@pytest.mark.parametrize(
    ("format_", "link", "anchor"),
    [
        ("html5", 'href="#term:gold"', 'id="term:gold"'),
        ("latex", r"\hyperref[term:gold]{gold}", r"\label{term:gold}"),
        ("typst", "#link(<term:gold>)[gold]", "]<term:gold>"),
    ],
)
def test_a_link_leads_to_its_term_in_every_format(format_, link, anchor) -> None:
    text, used = with_glossary("# A\n\nBy gold." + PLACE, [GOLD], Facts({}), "glossary.yaml")
    blocks = json.loads(typesetting.parse(text, "en"))["blocks"]
    link_terms(blocks, used)
    written = typesetting.pandoc(["--from", "json", "--to", format_], tree(blocks))
    assert written.count(link) == written.count(anchor) == 1, written
