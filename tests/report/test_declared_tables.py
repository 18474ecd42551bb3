"""The tables that the reports declare (`report/tables.yaml`): what a reader needs in every one of them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.plural.expectations import EXPECTATIONS
from rlhf_hw.experiments.recorded_runs import PUBLISHED
from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES
from rlhf_hw.report.fields import Facts
from rlhf_hw.report.tables import read_tables
from rlhf_hw.report.text import fill

TABLES = read_tables(REPORT / "tables.yaml")
DIFFERENCE = re.compile(
    r"\b(gains?|minus|less|beyond|changes?|lost|difference|gap)\b| − | after its", re.IGNORECASE
)
# of which heading or row is a difference although no word of it says so, from the table's caption
DIFFERENCES = {("length-remedies", "Gold of the best"), ("over-remedies", "")}
NO_SIGN = {"Difference in gold, median", "Pairs with a difference below 1/2"}  # sizes, counts


@pytest.mark.parametrize("name", TABLES)
def test_every_column_has_a_heading(name):
    for column in TABLES[name]["columns"]:
        assert all(column[language].strip() for language in LANGUAGES), column


@pytest.mark.parametrize("name", TABLES)
def test_a_difference_carries_its_sign(name):
    table = TABLES[name]
    for column in table["columns"]:
        said = DIFFERENCE.search(column["en"]) or (name, column["en"]) in DIFFERENCES
        if said and (form := re.search(r":([^:}]*[f%])\}\}", str(column.get("cell", "")))):
            assert form[1].startswith("+"), column
    for row in table["rows"] if isinstance(table["rows"], list) else []:
        if DIFFERENCE.search(row["en"]) and row["en"] not in NO_SIGN and "key" in row and ":" in row["key"]:
            assert row["key"].partition(":")[2].startswith("+"), row


@pytest.mark.parametrize("name", [name for name in TABLES if name.endswith("-expected")] + ["length-people"])
def test_a_row_that_goes_on_from_the_one_above_says_so(name):
    going_on = re.compile(r"(?:and|so|labels without|while|the larger|chosen is)\b", re.IGNORECASE)
    rows = [row for row in TABLES[name]["rows"] if row["en"].startswith("… ") or going_on.match(row["en"])]
    for row in rows:
        assert row["en"].startswith("… ") and row["zh"].startswith("……"), row
    assert not [
        row for row in TABLES[name]["rows"] if row["zh"].startswith("……") != row["en"].startswith("… ")
    ]


@pytest.mark.parametrize(("language", "shown"), [("en", r"\+0\.24 \(\+0\.02 to \+0\.46\)"), ("zh", "（")])
def test_estimates_that_a_run_wrote_look_like_all_others(tmp_path, language, shown):
    (tmp_path / "tables.yaml").write_text(
        "tried:\n  columns:\n    - {en: Gold, zh: 真实奖励, key: gold, estimates: true}\n  rows: tried\n"
    )
    rows = [{"gold": "+0.24 [+0.02, +0.46]"}, {"gold": "as it was [sic]"}]
    facts = Facts({}, {"tried": rows}, language=language)
    text = fill("{{table:tried}}", facts, read_tables(tmp_path / "tables.yaml"))
    assert shown.replace("\\", "") in text.replace("\\", "").replace("\xa0", " ")
    assert "[+0" not in text.replace("\\", "") and "as it was [sic]" in text.replace("\\", "")


def test_expectations_of_plural_preferences_stand_in_the_words_they_were_written_in():
    rows = [row["en"].removeprefix("… ").replace("$", "") for row in TABLES["plural-expected"]["rows"]]
    assert list(dict.fromkeys(text[0].lower() + text[1:] for text in rows)) == [
        text[0].lower() + text[1:] for text in EXPECTATIONS.values()
    ]


def test_what_others_published_is_kept_and_shown_as_their_file_has_it():
    told = {row["en"]: " ".join(map(str, row.values())) for row in TABLES["published-runs"]["rows"]}
    entries = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    kept = json.loads((REPORT / "recorded.json").read_text(encoding="utf-8"))
    for number, entry in enumerate(entries, 1):
        prefix = f"recorded.published.{number}"
        assert {k.removeprefix(f"{prefix}."): v for k, v in kept.items() if k.startswith(prefix)} == entry
        rows = [text for name, text in told.items() if name.startswith(re.split(r"[,;]", entry["name"])[0])]
        assert rows, entry["name"]
        for key in entry.keys() - {"name", "folder"}:
            assert any(re.search(rf"\b{re.escape(f'{prefix}.{key}')}\b", text) for text in rows), (
                number,
                key,
            )
        others = re.findall(r"recorded\.published\.(\d+)", " ".join(rows))
        assert set(others) == {str(number)}


CHOICES = """\
leads:
  rows: parts
  columns:
    - {key: part, en: Part, zh: 部分, width: 9}
    - en: Against words
      zh: 与词袋相比
      width: 9
      cell:
        - {if: claims.better_<key>, en: "better, {{leads.<key>:+.1f}}", zh: "更好，{{leads.<key>:+.1f}}"}
        - {if: [not claims.better_<key>, claims.worse_<key>], en: worse, zh: 更差}
        - {en: open, zh: 未定}
"""


@pytest.mark.parametrize(
    ("language", "said"), [("en", ["better, +0.3", "worse", "open"]), ("zh", ["更好，+0.3", "更差", "未定"])]
)
def test_a_cell_is_the_first_choice_that_holds_for_its_row(tmp_path, language, said):
    (tmp_path / "tables.yaml").write_text(CHOICES, encoding="utf-8")
    rows = [{"part": name, "key": name} for name in ("a", "b", "c")]
    numbers = {"leads.a": 0.3, "claims.better_a": 1, "claims.worse_b": 1}
    text = fill(
        "{{table:leads}}",
        Facts(numbers, {"parts": rows}, language=language),
        read_tables(tmp_path / "tables.yaml"),
    )
    lines = [line.strip("| ").split("|") for line in text.splitlines() if "|" in line]
    assert [cells[1].strip().replace("\\", "") for cells in lines[2:]] == said


EACH = """\
runs:
  columns:
    - {en: Run, zh: 运行, width: 9}
    - {en: Wins, zh: 胜率, width: 9}
  rows:
    - each: runs
      if: not runs.<n>.hidden
      en: "{{runs.<n>.name}}"
      zh: "{{runs.<n>.name}}"
      cells: [[{if: runs.<n>.wins, en: "{{runs.<n>.wins:.0%}} of all", zh: "共 {{runs.<n>.wins:.0%}}"}, "–"]]
    - {en: mean, zh: 均值, cells: ["{{mean:.0%}}"]}
"""


@pytest.mark.parametrize(
    ("language", "said"), [("en", ["40% of all", "–", "50%"]), ("zh", ["共 40%", "–", "50%"])]
)
def test_a_row_stands_there_for_each_number_and_its_cells_choose(tmp_path, language, said):
    (tmp_path / "tables.yaml").write_text(EACH, encoding="utf-8")
    numbers = {"runs.1.name": "a", "runs.1.wins": 0.4, "runs.2.name": "b", "mean": 0.5}
    # the fourth is left out, and where a number is missing the list is at its end
    numbers |= {"runs.3.name": "c", "runs.3.hidden": 1, "runs.5.name": "e"}
    text = fill("{{table:runs}}", Facts(numbers, language=language), read_tables(tmp_path / "tables.yaml"))
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line]
    assert [cells[0] for cells in lines[2:]] == ["a", "b", {"en": "mean", "zh": "均值"}[language]]
    assert [cells[1].replace("\xa0", " ") for cells in lines[2:]] == said


@pytest.mark.parametrize(
    ("language", "said"), [("en", "begin alike *(thank you)*"), ("zh", "开头相同 *（thank you）*")]
)
def test_damage_that_notebook_05_names_stands_in_a_table(language, said):
    row = {
        "set": "train",
        "policy": "dpo",
        "training": 2,
        "kind": "opening",
        "what": "thank you",
        "count": 20,
    }
    row |= {
        "share": 0.25,
        "lead": "+25.0% [+15.1%, +35.5%]",
        "damage": True,
        "rows": "1, 2, 3",
    }
    rows = [row, row | {"kind": "cut", "what": "at the limit", "lead": None, "damage": False}]
    lines = fill("{{table:damage}}", Facts({}, {"damage": rows}, language=language), TABLES).splitlines()
    text = "\n".join(lines).replace("\\", "").replace("\xa0", " ").replace("\u200b", "")
    assert said in text
    shown = {"en": "25.0% | +25.0% (+15.1% to +35.5%)", "zh": "25.0% | +25.0%（+15.1% 至 +35.5%）"}[language]
    assert shown in text and {"en": "| training | DPO | 2 |", "zh": "| 训练集 | DPO | 2 |"}[language] in text
    assert text.count("✓") == 1 and ("at the limit" in text) == (language == "en")


def test_a_cell_of_which_no_choice_holds_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(EACH.replace(', "–"]]', "]]"), encoding="utf-8")
    with pytest.raises(InputError, match=r"tables.yaml:\d+: of this cell's choices none holds; end the list"):
        fill("{{table:runs}}", Facts({"runs.1.name": "b", "mean": 0.5}), read_tables(path))


@pytest.mark.parametrize(
    ("language", "whole", "rest"),
    [
        ("en", "| Whole run | 3,806 s |", "3,806 s, without 4 results |"),
        ("zh", "| 整次运行 | 3,806 秒 |", "3,806 秒，不含 4 项结果的用时 |"),
    ],
)
def test_the_time_of_a_run_is_called_that_of_its_rest_where_results_were_read_back(language, whole, rest):
    declared = read_tables(REPORT / "tables.yaml")
    rows = [row for row in declared["run"]["rows"] if "run.seconds" in str(row)]
    declared["run"] = {**declared["run"], "rows": rows}
    values = {"run.seconds": 3806.2}
    for told, ending in ((values, whole), (values | {"run.read_back": 4}, rest)):
        shown = fill("{{table:run}}", Facts(told, language=language), declared).splitlines()
        assert [line for line in shown[3:] if line] == [shown[3]] and shown[3].endswith(ending)
