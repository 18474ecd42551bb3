"""A report is made of results that fit together: small notebooks, and a stand-in for the kernel."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rlhf_hw import cli, paths
from rlhf_hw.errors import InputError
from rlhf_hw.experiments.result import Result
from rlhf_hw.pipeline import run_folder, runner
from rlhf_hw.pipeline.consistency import refuse_mixed
from rlhf_hw.pipeline.graph import Stage
from rlhf_hw.pipeline.profiles import Profile, apply_overrides
from rlhf_hw.pipeline.record import note_in_record, read_record
from rlhf_hw.pipeline.stamps import read_stamp

CELL = 'run: str = ""  # the run\nvalue: int = 1  # a number\n'
STAGES = {
    "00_train": Stage(makes=("model", "metrics/00.json")),
    "01_score": Stage(needs={"model": ()}, makes=("scores", "tables/t.json", "metrics/01.json")),
    "02_alone": Stage(makes=("metrics/02.json",)),
    "10_more": Stage(needs={"model": ()}, makes=("metrics/10.json",), experiment=True),
}


class Small:
    """A run of three notebooks and an experiment: each writes what it makes, with its parameter in it."""

    def __init__(self, root: Path):
        self.notebooks, self.folder, self.stop = root / "notebooks", root / "runs/small", ""
        self.writes = {}  # by notebook, where it is not all that it can make
        self.notebooks.mkdir()
        for stem in STAGES:
            cell = new_code_cell(CELL, metadata={"tags": ["parameters"]})
            kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
            nbformat.write(new_notebook(cells=[cell], metadata=kernel), self.notebooks / f"{stem}.ipynb")

    def execute(self, path: Path, output: Path, parameters: Mapping, *_) -> None:
        """Stands in for the kernel; stops in the notebook that is to be stopped."""
        for name in self.writes.get(path.stem, STAGES[path.stem].makes):
            file = self.folder / name if "." in name else self.folder / name / "made.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({f"{path.stem}.value": parameters.get("value", 1)}))
        if path.stem == self.stop:
            raise KeyboardInterrupt
        output.parent.mkdir(exist_ok=True)
        output.write_text("executed")

    def run(self, *overrides: str, **options) -> list[str]:
        profile = apply_overrides(Profile(name="small", title="Small"), overrides)
        return runner.run_profile(profile, notebooks=self.notebooks, stages=STAGES, **options)

    def refuse_mixed(self) -> None:
        refuse_mixed(self.folder, self.notebooks, STAGES)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    made = Small(tmp_path)
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "LIBRARY", tmp_path / "library")
    (tmp_path / "library").mkdir()
    monkeypatch.setattr(runner.kernel, "execute", made.execute)
    monkeypatch.setattr(runner.NextKernel, "prepare", lambda *_: None)
    assert made.run() == ["00_train", "01_score", "02_alone"]
    made.refuse_mixed()
    return made


def test_what_one_run_left_fits_however_it_was_run(small: Small) -> None:
    small.run(only=["02"], force=True)
    small.refuse_mixed()
    small.run("train.value=2")  # and what depends on it
    small.refuse_mixed()
    small.run("value=3", experiments=True)
    small.refuse_mixed()
    small.run()
    small.refuse_mixed()


@pytest.mark.parametrize("stop", ["00_train", "01_score", "02_alone"])
def test_a_run_that_was_stopped_is_named_until_it_has_gone_on(small: Small, stop: str) -> None:
    small.stop = stop
    with pytest.raises(KeyboardInterrupt):
        small.run("value=2")
    with pytest.raises(InputError, match=f"small: no report .*{stop} did not run there to its end.*rlhf-hw"):
        small.refuse_mixed()
    small.stop = ""
    small.run("value=2")
    small.refuse_mixed()


def test_a_notebook_killed_before_its_parameters_are_noted_runs_again(small: Small, monkeypatch) -> None:
    def killed(folder: Path, **found) -> None:
        if "parameters" in found:
            raise KeyboardInterrupt
        note_in_record(folder, **found)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(runner, "note_in_record", killed)
        small.run("alone.value=5")
    assert small.run("alone.value=5") == ["02_alone"]
    assert read_record(small.folder)["parameters"]["02_alone"]["value"] == 5


def test_a_run_of_a_part_is_named(small: Small) -> None:
    shutil.rmtree(small.folder)
    small.run(only=["00", "01"])
    with pytest.raises(InputError, match="fit together: 02_alone did not run there to its end. Run"):
        small.refuse_mixed()


def test_who_read_what_another_notebook_has_made_anew_is_named(small: Small) -> None:
    small.run("train.value=2", only=["00"])
    with pytest.raises(InputError, match="fit together: 01_score read another model than is there now. Run"):
        small.refuse_mixed()
    small.run("train.value=2")
    small.refuse_mixed()


def test_who_ran_with_other_parameters_than_the_run_is_named(small: Small) -> None:
    small.run("value=7", only=["02"])
    with pytest.raises(InputError) as told:
        small.refuse_mixed()
    assert "00_train ran with value=1, not 7; 01_score ran with value=1, not 7. Run" in str(told.value)
    small.run("value=7")
    small.refuse_mixed()
    small.run(only=["02"])
    with pytest.raises(InputError, match="00_train ran with value=7, not 1; 01_score"):
        small.refuse_mixed()
    small.run()
    small.refuse_mixed()


def test_numbers_that_a_notebook_did_not_write_there_are_named(small: Small) -> None:
    (small.folder / "metrics/01.json").write_text('{"01_score.value": 3}')
    with pytest.raises(InputError, match="01_score wrote another metrics/01.json than is there now"):
        small.refuse_mixed()


def test_experiments_count_where_the_run_has_them(small: Small) -> None:
    small.run(experiments=True)
    (small.folder / "metrics/10.json").write_text("{}")
    with pytest.raises(InputError, match="10_more wrote another"):
        small.refuse_mixed()
    small.run()  # which finds it out of date: the report shows nothing of it
    small.refuse_mixed()


def test_numbers_without_the_notebooks_that_made_them_are_shown(small: Small) -> None:
    shutil.rmtree(small.folder / "notebooks")
    small.refuse_mixed()


def test_what_a_notebook_no_longer_writes_goes(small: Small) -> None:
    """Also where it ran by itself, as papermill runs it."""
    others = [small.folder / name for name in ("tables/mine.json", "fig/rm_margins.pdf", "metrics/01.json")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    shown = ["tables/samples.json", "tables/part_steps.json", "fig/best_of_n.pdf", "fig/zh/best_of_n.svg"]
    for name in shown[:3]:
        run_folder.write_json(small.folder / name, [])
    run_folder.write_json(small.folder / shown[3], [])
    results = runner.open_run("small")
    run_folder.write_json(small.folder / "fig/best_of_n.pdf", [])
    results.table("part_steps", [])
    results.record("05", Result(tables={"part_steps": []}))
    assert [(small.folder / name).exists() for name in shown] == [False, True, True, False]
    assert all(path.exists() for path in others)


def test_numbers_that_a_notebook_no_longer_records_go(small: Small, monkeypatch) -> None:
    small.writes = {"02_alone": []}
    small.run("alone.value=2")
    assert not (small.folder / "metrics/02.json").exists() and (small.folder / "metrics/01.json").exists()
    assert "02_alone.value" not in json.loads((small.folder / "metrics.json").read_text())
    small.refuse_mixed()


@pytest.mark.parametrize("damage", ['{"profile": 7}', '{"parameters": {"00_train": 3}}', "7", "{"])
def test_a_damaged_record_is_named(small: Small, damage: str) -> None:
    (small.folder / "run.json").write_text(damage)
    for use in (small.refuse_mixed, small.run):
        with pytest.raises(InputError, match="run.json.*; remove it and run again"):
            use()


def test_a_record_of_no_profile_is_named_and_the_next_run_mends_it(small: Small) -> None:
    (small.folder / "run.json").write_text('{"profile": {}}')
    with pytest.raises(InputError, match="run.json: profile: .*; remove it and run again"):
        small.refuse_mixed()
    small.run()
    small.refuse_mixed()


def test_the_command_builds_nothing_of_such_a_run(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("rlhf_hw.paths.RUNS", tmp_path)
    monkeypatch.setattr("rlhf_hw.report.current.build_report", lambda *_, **__: pytest.fail("built"))
    (tmp_path / "nano/notebooks").mkdir(parents=True)
    assert cli.main(["report"]) == 1
    assert "03_preference_visualization did not run there to its end" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 100_000, "7", '{"made": {}, "read": 7}', '{"made": []}', "\0", None])
def test_a_damaged_note_beside_a_notebook_is_none(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "01_x.ipynb").write_text("{}")
    stamp = tmp_path / "01_x.stamp"
    stamp.mkdir() if text is None else stamp.write_text(text)
    assert read_stamp(tmp_path / "01_x.ipynb") is None
