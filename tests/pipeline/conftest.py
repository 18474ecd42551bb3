"""The small project of `small_project`, with everything of the library looking there."""

from pathlib import Path

import pytest
from small_project import MADE, Project

from rlhf_hw import paths
from rlhf_hw.pipeline import kept_results, profiles, run_folder, runner
from rlhf_hw.pipeline.graph import STAGES


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    places = {"ROOT": tmp_path, "LIBRARY": tmp_path / "rlhf_hw", "FIG": tmp_path / "fig"}
    for name, place in places.items():
        monkeypatch.setattr(paths, name, place)
    for stem, stage in MADE.items():
        monkeypatch.setitem(STAGES, stem, stage)
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(profiles, "PROFILES", tmp_path / "profiles")
    monkeypatch.setattr(kept_results, "KEPT_RESULTS", tmp_path / "data/kept")
    monkeypatch.setattr(runner.kernel, "execute", made.execute)
    monkeypatch.setattr(runner.NextKernel, "prepare", lambda *_: None)
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    return made
