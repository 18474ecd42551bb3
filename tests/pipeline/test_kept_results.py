"""Experiments run where asked for; what they found is kept with what it rests on, and only if that is so."""

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from small_project import ASKED, FIRST, Project

from rlhf_hw import paths
from rlhf_hw.errors import InputError
from rlhf_hw.pipeline import kept_results, machine
from rlhf_hw.pipeline.graph import KEPT_RESULTS, STAGES, Stage
from rlhf_hw.pipeline.kept_results import changed_since, damaged_files, keep_results
from rlhf_hw.pipeline.profiles import available_profiles
from rlhf_hw.report import LANGUAGES


def test_an_experiment_runs_where_it_is_asked_for(project: Project) -> None:
    assert project.run() == [FIRST]
    assert project.run(start_from="90", force=True) == [FIRST]
    assert project.run(experiments=True) == [ASKED]
    assert project.run(experiments=True) == project.run() == []
    shutil.rmtree(project.folder)
    assert project.run(only=["asked"]) == [FIRST, ASKED]


def test_the_record_says_which_experiments_are_up_to_date(project: Project, caplog) -> None:
    def noted() -> list[str]:
        return json.loads((project.folder / "run.json").read_text())["experiments"]

    def timed() -> bool:
        return "run.seconds_91" in json.loads((project.folder / "metrics.json").read_text())

    project.run()
    assert noted() == []
    project.run(experiments=True)
    assert noted() == [ASKED] and timed()
    project.put("data/pairs.jsonl", "[]")
    with caplog.at_level("INFO", "rlhf_hw"):
        assert project.run() == [FIRST]
    assert noted() == [] and not timed() and f"{ASKED}  an experiment, out of date" in caplog.text
    assert kept_results.left_out(project.folder)[ASKED]
    project.run(experiments=True)
    assert noted() == [ASKED] and kept_results.left_out(project.folder) == {}
    project.put("data/pairs.jsonl", "{}")
    project.gives = 0
    with pytest.raises(AssertionError, match="the notebook failed"):
        project.run()
    assert noted() == []


def test_numbers_tables_and_figures_are_kept_with_who_made_them(project: Project) -> None:
    project.run()
    assert project.keep() == [] and kept_results.kept_results("tiny") == {}
    project.run(experiments=True)
    assert project.keep() == [ASKED]
    kept = project.kept()
    assert kept.metrics == {"asked.accuracy": 0.125}
    assert kept.tables == {"groups": [{"group": "a", "share": 0.5}]}
    assert kept.figures == {"groups": project.root / "fig/groups.pdf"}
    drawn = {str(path.relative_to(project.root)) for path in (project.root / "fig").rglob("*.*")}
    places = ("", "zh/", "narrow/", "zh/narrow/")
    forms = {f"fig/{place}groups.{kind}" for place in places for kind in ("pdf", "svg")}
    assert drawn == forms | {"fig/groups.png"}
    record = json.loads((project.folder / "run.json").read_text())
    assert all(kept.record[name] == record[name] for name in ("processor", "threads", "dtype"))
    assert kept.record["profile"] == "tiny" and kept.record["commit"]
    assert set(kept.record["files"]) == drawn | {
        "data/kept/91_asked/metrics.json",
        "data/kept/91_asked/tables/groups.json",
    }
    assert str(project.root) not in (project.root / "data/kept/91_asked/record.json").read_text()
    assert kept_results.kept_results("nano") == {}


def test_what_is_kept_again_takes_the_place_of_what_was(project: Project, monkeypatch) -> None:
    project.run(experiments=True)
    project.keep()
    monkeypatch.setitem(
        STAGES, ASKED, Stage(needs={"model": ()}, makes=("metrics/91.json",), experiment=True)
    )
    project.gives = 2
    project.run(experiments=True, force=True)
    assert project.keep("91") == [ASKED]
    assert project.kept().metrics == {"asked.accuracy": 0.25} and project.kept().tables == {}
    assert list((project.root / "fig").rglob("*.*")) == []


def test_one_that_found_no_data_leaves_what_was_kept(project: Project) -> None:
    project.run(experiments=True)
    project.keep()
    before = {path: path.read_bytes() for path in (project.root / "fig").rglob("*.*")}
    project.has_data = False
    assert project.run(experiments=True, force=True) == [FIRST, ASKED]
    assert kept_results.own_experiments(project.folder) == []
    assert kept_results.left_out(project.folder) == {}
    assert project.run(experiments=True) == []
    assert project.keep() == []
    with pytest.raises(InputError, match="91_asked found no data here"):
        project.keep("91")
    assert {path: path.read_bytes() for path in (project.root / "fig").rglob("*.*")} == before
    assert project.kept().metrics == {"asked.accuracy": 0.125}


@pytest.mark.parametrize("stem", [FIRST, ASKED])
def test_what_is_out_of_date_is_not_kept(project: Project, stem: str) -> None:
    project.run(experiments=True)
    project.write(stem, "print(2)")
    with pytest.raises(InputError, match=f"91_asked cannot be kept, for .*{stem} did not run"):
        project.keep()
    assert not (project.root / "data/kept").exists() and not (project.root / "fig").exists()
    project.run(experiments=True)
    assert project.keep() == [ASKED]


def test_results_of_other_settings_are_not_kept(project: Project) -> None:
    project.run("size=3", experiments=True)
    with pytest.raises(InputError, match="cannot be kept, for 90_first, 91_asked did not run"):
        project.keep()


def test_unknown_experiments_and_profiles_of_ones_own_are_refused(project: Project) -> None:
    with pytest.raises(InputError, match="keep first: experiments are .*91_asked.*; name of these"):
        project.keep("first")
    with pytest.raises(InputError, match="choose from tiny"):
        keep_results("mine")


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("data/pairs.jsonl", "[]", ["data/pairs.jsonl"]),
        ("rlhf_hw/library.py", "N = 2", ["rlhf_hw.library"]),
        ("rlhf_hw/library.py", "N = 1  # a remark", []),
        ("profiles/tiny.yaml", "name: tiny\ntitle: T\n", ["parameters of 90_first"]),
        ("rlhf_hw/unread.py", "N = 3", []),
    ],
)
def test_changes_since_are_named(project: Project, file: str, text: str, changed: list[str]) -> None:
    project.run(experiments=True)
    project.keep()
    assert project.changes() == []
    project.put(file, text)
    assert project.changes() == changed
    shutil.rmtree(project.folder)  # what it rests on is known without the run
    assert project.changes() == changed


def test_changed_code_and_damaged_files_are_named(project: Project) -> None:
    project.run(experiments=True)
    project.keep()
    project.write(FIRST, "from rlhf_hw import library\nprint(library.N, 2)")
    assert project.changes() == ["code of 90_first"]
    assert damaged_files(project.kept()) == []
    project.put("fig/zh/groups.pdf", "another")
    (project.root / "fig/groups.png").unlink()
    assert damaged_files(project.kept()) == ["fig/groups.png", "fig/zh/groups.pdf"]


def test_a_record_that_is_missing_or_torn_is_named(project: Project) -> None:
    project.run(experiments=True)
    project.keep()
    record = project.root / "data/kept/91_asked/record.json"
    whole = record.read_text()
    for text, told in (
        ('{"profile": "tiny"', "line 1: not JSON"),
        ("{}", "key 'profile' does not hold"),
        (whole.replace('"files"', '"fils"'), "key 'files' does not hold"),
    ):
        record.write_text(text)
        with pytest.raises(InputError, match=f"{record}.* {told} .*take it from git, or keep again"):
            project.kept()
    assert project.keep() == [ASKED] and record.read_text() == whole
    record.unlink()
    with pytest.raises(InputError, match=f"{record} is missing: take it from git, or keep again"):
        project.kept()
    assert project.keep() == [ASKED] and record.read_text() == whole


def test_what_is_kept_does_not_count_as_a_change_of_the_commit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    for name in ("code.py", "fig/one.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    who = ["-c", "user.name=a", "-c", "user.email=a"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    (tmp_path / "fig/one.pdf").write_text("2")
    assert machine.git_commit().endswith("+") and not machine.git_commit(("fig",)).endswith("+")
    (tmp_path / "code.py").write_text("2")
    assert machine.git_commit(("fig",)).endswith("+")


# What this repository holds -----------------------------------------------------------------------

KEPT = [one for profile in available_profiles() for one in kept_results.kept_results(profile).values()]


def test_nothing_is_kept_that_no_experiment_made() -> None:
    folders = {path.name for path in KEPT_RESULTS.glob("*") if path.is_dir()}
    assert folders == {one.stem for one in KEPT}


@pytest.mark.parametrize("result", KEPT, ids=lambda one: one.stem)
def test_what_is_kept_is_whole_and_says_what_has_changed_since(result: kept_results.KeptResult) -> None:
    assert damaged_files(result) == []
    if changes := changed_since(result):
        told = f"{result.stem}: kept results rest on what has changed since, make run EXPERIMENTS=full and "
        told += f"rlhf-hw keep renew them: {', '.join(changes)}"
        assert not os.environ.get("RLHF_HW_CHECK_RUN"), told
        warnings.warn(told, stacklevel=1)


def test_the_default_run_needs_no_experiment() -> None:
    for stage in STAGES.values():
        makers = [kept_results.maker_of(name) for name in [*stage.needs, *stage.replicated, *stage.uses]]
        assert stage.experiment or not any(STAGES[stem].experiment for stem in makers)


def test_reports_say_where_an_experiment_was_kept() -> None:
    for language in LANGUAGES:
        text = (paths.REPORT / f"report.{language}.md").read_text(encoding="utf-8")
        for stem in (stem for stem, stage in STAGES.items() if stage.experiment):
            assert f"{{{{kept:{kept_results.experiment_name(stem)}}}}}" in text
