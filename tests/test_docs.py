"""The documentation names tests, templates and settings that exist."""

import re

import pytest

from rlhf_hw.config import RewardTraining
from rlhf_hw.paths import ROOT
from rlhf_hw.templates import TEMPLATES

PAGES = [ROOT / "docs" / name for name in ("your-data-and-model.md", "scaling.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_named_tests_exist(page) -> None:
    defined = set()
    for file in (ROOT / "tests").glob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\btest_\w+(?=[`,])", page.read_text(encoding="utf-8")))
    assert named <= defined


def test_every_template_has_a_row() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(TEMPLATES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_flags_of_training_exist(page) -> None:
    commands = re.findall(r"train (?:rm|dpo) (?:[^`]|\\\n)+?\n(?!\s)", page.read_text(encoding="utf-8"))
    assert commands
    flags = {flag.replace("-", "_") for command in commands for flag in re.findall(r"--([a-z-]+)", command)}
    assert flags <= set(RewardTraining.model_fields) | {"config", "model", "output"}
