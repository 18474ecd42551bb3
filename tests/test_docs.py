"""The documentation names files, tests, templates and settings that exist."""

import json
import re

import pytest
import yaml

from rlhf_hw.experiments.score_gap.decompose import ORDER, PARTS
from rlhf_hw.experiments.score_gap.edits import CORRECTIONS, FACTORS
from rlhf_hw.paths import ROOT
from rlhf_hw.preferences.score_files import PAIR_KEYS, REPLY_KEYS, parse_mapping, read_pairs
from rlhf_hw.preferences.templates import TEMPLATES
from rlhf_hw.training.config import RewardTraining

EVERY_PAGE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [ROOT / "docs" / name for name in ("your-data-and-model.md", "scaling.md")]
PROMISES = ROOT / "docs" / "reliability.md"


@pytest.mark.parametrize("page", [*PAGES, PROMISES], ids=lambda page: page.stem)
def test_named_tests_exist(page) -> None:
    defined = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        names = re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        defined |= {f"{file.stem.removeprefix('test_')}: {name}": name for name in names}
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+: test_\w+)`", text)) <= defined.keys()
    assert set(re.findall(r"\btest_\w+(?=[`,])", text)) <= set(defined.values())


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.stem)
def test_named_files_exist(page) -> None:
    folders = "benchmarks|data|docs|fig|notebooks|report|rlhf_hw|tests"
    named = re.findall(rf"[`(]((?:{folders})/[\w./*-]*)[`)]", page.read_text(encoding="utf-8"))
    assert not [path for path in named if not any(ROOT.glob(path.rstrip("/")))]


def test_every_template_has_a_row() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(TEMPLATES)


@pytest.mark.parametrize("name", ["HOMEWORK", "PKUSafeRLHF", "TRL", "HELPSTEER"])
def test_the_row_shown_for_a_template_is_read(name) -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    shown = re.search(rf"^\| `{name}` \| `(.+?)`", page, re.MULTILINE).group(1)
    read = TEMPLATES[name](json.loads(shown))
    assert [message.content for message in read.prompt] == [read.chosen] == [read.rejected] == ["…"]


def test_the_mappings_shown_fit_their_files(tmp_path) -> None:
    page = PAGES[0].read_text(encoding="utf-8").partition("## 6.")[2]
    pairs, replies = (parse_mapping(text) for text in re.findall(r'-p mapping "(.+)"', page))
    assert set(pairs) <= set(PAIR_KEYS) and set(replies) <= {*REPLY_KEYS, "finished"}
    row = re.search(r"^\{.+\}$", page, re.MULTILINE).group()
    (tmp_path / "pairs.jsonl").write_text(row + "\n", encoding="utf-8")
    table = read_pairs(tmp_path / "pairs.jsonl", pairs)
    assert (table["chosen_score"][0], table["rejected_score"][0], table["prompt"][0]) == (1.2, -0.3, "…")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_flags_of_training_exist(page) -> None:
    commands = re.findall(r"train (?:rm|dpo) (?:[^`]|\\\n)+?\n(?!\s)", page.read_text(encoding="utf-8"))
    assert commands
    flags = {flag.replace("-", "_") for command in commands for flag in re.findall(r"--([a-z-]+)", command)}
    assert flags <= set(RewardTraining.model_fields) | {"config", "model", "output"}


def test_readme_lists_every_notebook_profile_and_template() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert re.findall(r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\)", readme, re.MULTILINE) == notebooks
    table = readme.split("## Profiles", 1)[1].split("## Your own data", 1)[0]
    profiles = {path.stem for path in (ROOT / "rlhf_hw" / "profiles").glob("*.yaml")}
    assert set(re.findall(r"^\| `([\w.-]+)`", table, re.MULTILINE)) == profiles
    named = set(re.findall(r"`(\w+)`", readme.split("Templates:", 1)[1].split(". JSON", 1)[0]))
    assert named == set(TEMPLATES)


def test_every_factor_of_the_score_gap_stands_wherever_they_are_listed() -> None:
    assert set(FACTORS) == set(CORRECTIONS) == {factor for stage in ORDER for factor in stage}
    tables = yaml.safe_load((ROOT / "report" / "tables.yaml").read_text(encoding="utf-8"))
    for name in ("score-gap", "score-gap-steps"):  # two rows a part: proven, unproven
        keys = dict.fromkeys(row["key"] for row in tables[name]["rows"])
        assert list(keys) == ["gap", *PARTS]
    page = (ROOT / "docs" / "reading-the-figures.md").read_text(encoding="utf-8")
    parts = re.findall(r"^\| `(\w+)` \|", page.split("## The parts of the gap", 1)[1], re.MULTILINE)
    assert parts[: len(PARTS)] == list(PARTS)
