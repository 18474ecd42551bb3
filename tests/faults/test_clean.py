"""`make clean` removes what we made, and nothing else."""

import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from rlhf_hw.paths import ROOT
from rlhf_hw.pipeline.graph import STAGES

OURS = [
    "runs/nano/fig/zh/a.pdf",
    "runs/nano/metrics.json",
    "runs/nano/metrics/01.json",
    "runs/nano/dpo-1/model.safetensors",
    "runs/nano/report/report.en.pdf",
    "runs/smoke/fig/a.png",
    "runs/cache/reference-0.npy",
    "rlhf_hw/world/__pycache__/a.pyc",
    "notebooks/.ipynb_checkpoints/a.ipynb",
    "tests/a folder/__pycache__/a.pyc",
    "build/lib/a.py",
    "rlhf_hw.egg-info/PKG-INFO",
    "report/build/a.tex",
]
THEIRS = [
    "runs/nano/my notes.txt",
    "runs/mine/model.safetensors",
    "runs/mine/.rlhf_hw.json",
    "runs/cache/other.npy",
    "build/plans.txt",
    "other.egg-info/PKG-INFO",
    "report/report.en.md",
    "rlhf_hw/cli.py",
    ".venv/bin/python",
    "data/nano/train.jsonl",
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*OURS, *THEIRS, "benchmarks/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("content")
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def test_only_what_we_made_is_removed(checkout: Path) -> None:
    done = subprocess.run(["make", "clean"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in OURS if (checkout / name).exists()] == []
    assert [name for name in THEIRS if not (checkout / name).exists()] == []
    assert "runs/nano/my notes.txt" in done.stdout and "runs/mine/model.safetensors" in done.stdout
    assert not (checkout / "runs/smoke").exists()
    again = subprocess.run(["make", "clean"], cwd=checkout, capture_output=True, text=True)
    assert again.returncode == 0


def test_all_that_notebooks_make_is_listed() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    listed = re.search(r"^MADE := (.*)$", text, re.MULTILINE)[1].split()
    made = {name.split("/")[0] for stage in STAGES.values() for name in stage.files()}
    assert {name for name in made if not any(fnmatchcase(name, pattern) for pattern in listed)} == set()
