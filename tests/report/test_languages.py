"""Section by section, both languages of both reports hold the same numbers, figures and citations."""

import re
from collections import Counter

import pytest

from rlhf_hw.paths import REPORT, ROOT
from rlhf_hw.report import LANGUAGES, TEXTS
from rlhf_hw.report.tables import read_tables

DIRECTIVE = re.compile(r"<!--\s*(?:if|else|endif)\b.*?-->")
FIELD = re.compile(r"\{\{(estimate:|headline:|interval:|table:)?([^}:|]+)(:[^}|]*)?(?:\|[^}]*)?\}\}")
PARTS = {
    "conditions": re.compile(r"<!--\s*((?:if|if not|else|endif)\b.*?)\s*-->"),
    "figures": re.compile(r"\]\((.*?\.pdf)\)(\{.*?\})?"),
    "labels": re.compile(r"\{(?:\.figures )?#([\w:-]+)"),
    "citations": re.compile(r"@((?:\w+:)?[\w-]*\w)"),
    "formulas": re.compile(r"\$\$(.*?)(?: [.,])?\s*\$\$", re.DOTALL),  # without the sentence's mark
}


def keys(text: str) -> Counter:
    """The keys that fields ask for, with their formats; an estimate asks for three."""
    found = Counter()
    for kind, key, spec in FIELD.findall(text):
        ends = {"estimate:": ("", "_low", "_high"), "interval:": ("_low", "_high")}.get(kind, ("",))
        found.update(("table:" if kind == "table:" else "") + key.strip() + end + spec for end in ends)
    return found


def sections(name: str, language: str) -> dict[str, str]:
    """The text of each section by the label of its heading."""
    text = (REPORT / f"{name}.{language}.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)  # comments there are translated
    parts = re.split(r"^#+ .*?\{#(sec:[\w-]+)\}$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


READ = {(name, language): sections(name, language) for name in TEXTS for language in LANGUAGES}
EACH = [(name, section) for name in TEXTS for section in READ[name, "en"]]


@pytest.mark.parametrize("name", TEXTS)
def test_the_texts_have_the_same_sections(name) -> None:
    assert list(READ[name, "zh"]) == list(READ[name, "en"])


@pytest.mark.parametrize(("name", "section"), EACH)
def test_a_section_holds_the_same_in_both_languages(name, section) -> None:
    english, chinese = (READ[name, language].get(section, "") for language in ("en", "zh"))
    # piece by piece: a number belongs under the same condition in both
    pieces = [DIRECTIVE.split(text) for text in (english, chinese)]
    assert [keys(piece) for piece in pieces[1]] == [keys(piece) for piece in pieces[0]]
    for kind, pattern in PARTS.items():
        found = [pattern.findall(text) for text in (english, chinese)]
        if kind == "citations":  # a sentence may name them in another order
            found = [Counter(names) for names in found]
        assert found[1] == found[0], kind


def table_cells() -> str:
    """The cells of all declared tables in English, with the entries of their rows filled in."""
    cells = []
    for table in read_tables(REPORT / "tables.yaml").values():
        for row in table["rows"] if isinstance(table["rows"], list) else []:
            for cell in row.get("cells", [column["cell"] for column in table["columns"] if "cell" in column]):
                for choice in cell if isinstance(cell, list) else [cell]:
                    said = choice["en"] if isinstance(choice, dict) else choice
                    cells.append(re.sub(r"<(\w+)>", lambda hole, row=row: str(row.get(hole[1], "")), said))
    return "".join(cells)


def test_the_short_version_says_nothing_that_the_long_one_does_not() -> None:
    long, short = ("".join(READ[name, "en"].values()) for name in TEXTS)
    asked = [{key.split(":")[0] for key in keys(text)} for text in (short, long + table_cells())]
    assert asked[0] - asked[1] - {"table"} == set()
    figures = re.compile(r"\]\((fig/.*?\.pdf)\)")
    assert set(figures.findall(short)) <= set(figures.findall(long))
    cited = [set(re.findall(r"@([a-z]\w+\d\w*)", text)) for text in (short, long)]
    assert cited[0] - cited[1] == set() and len(cited[0]) > 20


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("section", READ["report", "en"])
def test_a_section_opens_with_its_idea(language, section) -> None:
    first = READ["report", language][section].strip().split("\n\n")[0]
    ends = {"en": r"[.:?](?:\s|$)", "zh": r"[。：？；，]"}[language]
    assert 2 <= len(re.findall(ends, first)), first
    assert len(first) < {"en": 420, "zh": 160}[language], first
    assert not re.match(r"\W", first) and "{{" not in first and not re.search(r"\$|\[@", first), first


def test_a_cell_with_words_asks_for_the_same_numbers_in_both_languages() -> None:
    for name, table in read_tables(REPORT / "tables.yaml").items():
        rows = table["rows"] if isinstance(table["rows"], list) else []
        cells = [cell for row in rows for cell in row.get("cells", [])]
        of_columns = [column.get("cell") for column in table["columns"]]
        choices = [choice for cell in [*of_columns, *cells] if isinstance(cell, list) for choice in cell]
        for part in [*rows, *table["columns"], *cells, *of_columns, *choices]:
            if isinstance(part, dict):
                assert keys(part["zh"]) == keys(part["en"]), (name, part)


def discouraged() -> list[str]:
    """The Chinese words that CONTRIBUTING's list of terms tells not to use."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Chinese terms", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return [word.strip() for row in rows for word in row[2].split(",") if word.strip()]


def test_one_thing_has_one_name_in_chinese() -> None:
    words = discouraged()
    assert "正确率" in words
    texts = [*REPORT.glob("*.zh.md"), *REPORT.glob("*.yaml"), *(ROOT / "rlhf_hw").rglob("*.*")]
    for path in texts:
        if path.suffix in (".md", ".yaml", ".py"):
            text = path.read_text(encoding="utf-8")
            assert not [word for word in words if word in text], path


# a Chinese character beside an ASCII comma, semicolon, question mark or bracket
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;?!(]|[,;?!)][\u4e00-\u9fff]")
NOT_PROSE = re.compile(r"\]\(\S+?\)|`.*?`|\[@.*?\]|\$.*?\$")


def test_chinese_punctuation_is_full_width() -> None:
    lines = (REPORT / "report.zh.md").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if HALF_WIDTH.search(NOT_PROSE.sub("", line))]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TEXTS)
def test_the_text_names_every_figure_and_table(name, language) -> None:
    text = "\n".join(READ[name, language].values())
    labels = set(re.findall(r"#((?:fig|tbl):[\w-]+)", text))
    assert labels and labels == labels & set(PARTS["citations"].findall(text))
