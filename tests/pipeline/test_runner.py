"""The runner on small notebooks of its own: order, skipping, failures, the run record."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rlhf_hw import paths
from rlhf_hw.errors import InputError
from rlhf_hw.pipeline import run_folder
from rlhf_hw.pipeline.graph import Stage
from rlhf_hw.pipeline.kernel import NotebookFailed
from rlhf_hw.pipeline.profiles import Profile
from rlhf_hw.pipeline.runner import run_notebook, run_profile
from rlhf_hw.pipeline.stamps import notebook_stamp
from rlhf_hw.pipeline.warm import NextKernel

PARAMETERS = 'run: str = "smoke"  # name of the run\nvalue: int = 1  # a number\nsource: str = ""  # a file\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two notebooks; runs go beside it, and so does what stands in for the library."""
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "LIBRARY", tmp_path / "rlhf_hw")
    (tmp_path / "rlhf_hw").mkdir()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    _write(folder / "00_first.ipynb", PARAMETERS, "print(run, value)")
    _write(folder / "01_second.ipynb", PARAMETERS, "print(value * 2)")
    return folder


def _write(path: Path, parameters: str, *sources: str, kernel: str = "python3") -> Path:
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    metadata = {"kernelspec": {"name": kernel, "language": "python", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def _profile(**values: object) -> Profile:
    return Profile(name="tiny", title="Tiny", parameters=values)


def _printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(
        out.text for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream"
    )


def test_runs_in_order_then_has_nothing_to_do(folder: Path, tmp_path: Path) -> None:
    assert run_profile(_profile(value=3), notebooks=folder) == ["00_first", "01_second"]
    executed = tmp_path / "runs/tiny/notebooks"
    assert _printed(executed / "00_first.ipynb") == "tiny 3\n"
    assert _printed(executed / "01_second.ipynb") == "6\n"
    assert run_profile(_profile(value=3), notebooks=folder) == []
    assert run_profile(_profile(value=3), only=["second"], force=True, notebooks=folder) == ["01_second"]

    record = json.loads((tmp_path / "runs/tiny/run.json").read_text())
    assert record["parameters"]["00_first"] == {"value": 3, "run": "tiny"}
    assert set(record["seconds"]) == {"00_first", "01_second"}
    assert record["versions"]["torch"] and record["threads"] >= 1 and record["processor"]
    metrics = json.loads((tmp_path / "runs/tiny/metrics.json").read_text())
    assert metrics["run.profile"] == "tiny"
    assert metrics["run.seconds"] == pytest.approx(
        metrics["run.seconds_00"] + metrics["run.seconds_01"], abs=0.2
    )


def test_what_a_notebook_names_is_fetched_before_it_runs_and_only_then(folder: Path) -> None:
    asked = []
    run_profile(
        _profile(value=3), notebooks=folder, prepare=lambda parameters: asked.append(parameters["value"])
    )
    assert asked == [3, 3]
    run_profile(_profile(value=3), notebooks=folder, prepare=lambda parameters: pytest.fail("nothing runs"))

    def offline(parameters: dict) -> None:
        raise InputError("no index")

    with pytest.raises(InputError, match="no index"):
        run_profile(_profile(value=4), notebooks=folder, prepare=offline)


def test_values_are_checked_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    def refuse() -> None:
        raise InputError("no such value")

    def offline(parameters: dict) -> None:
        raise InputError("no index")

    for options in ({"check": refuse}, {"prepare": offline}):
        with pytest.raises(InputError):
            run_profile(_profile(value=3), notebooks=folder, **options)
        assert not (tmp_path / "runs").exists()
    run_profile(_profile(value=3), notebooks=folder)
    assert run_profile(_profile(value=3), notebooks=folder, check=refuse) == []  # they were, and did
    for again in ({"value": 4}, {"value": 3, "force": True}):
        with pytest.raises(InputError, match="no such value"):
            profile = _profile(value=again.pop("value"))
            run_profile(profile, only=["second"], notebooks=folder, check=refuse, **again)


NOTHING_TO_DO = """
import sys
from unittest.mock import patch
from rlhf_hw import cli
from rlhf_hw.pipeline import kept_results, record, run_folder, runner
from rlhf_hw.pipeline.profiles import load_profile
from pathlib import Path
run_folder.RUNS = Path(sys.argv[1])
record.note_in_record(run_folder.RUNS / "nano", profile=load_profile("nano").model_dump(), commit="x")
current = patch.object(runner, "stage_is_current", lambda *_: True)
with current, patch.object(runner, "missing", lambda *_: []):
    assert cli.main(["run"]) == 0
print({"torch", "transformers"} & set(sys.modules))
"""


def test_to_find_that_nothing_is_to_do_loads_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NOTHING_TO_DO, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT)
    assert done.stdout.splitlines()[-2:] == ["nano: nothing to do", "set()"], done.stdout + done.stderr


def test_only_what_changed_runs_again(folder: Path) -> None:
    run_profile(_profile(), notebooks=folder)
    _write(folder / "01_second.ipynb", PARAMETERS, "print(value * 3)")
    assert run_profile(_profile(), notebooks=folder) == ["01_second"]
    assert run_profile(_profile(value=2), only=["00"], notebooks=folder) == ["00_first"]
    assert run_profile(_profile(value=2), notebooks=folder) == ["01_second"]
    assert run_profile(_profile(value=2), start_from="01", notebooks=folder) == []


def test_a_forced_notebook_reads_nothing_back(folder: Path, tmp_path: Path) -> None:
    _write(folder / "00_first.ipynb", PARAMETERS, "import os\nprint(os.environ.get('RLHF_HW_MAKE_AGAIN'))")
    printed = []
    for force in (False, True):
        run_profile(_profile(), only=["00"], force=force, notebooks=folder)
        printed.append(_printed(tmp_path / "runs/tiny/notebooks/00_first.ipynb"))
    assert printed == ["None\n", "1\n"] and "RLHF_HW_MAKE_AGAIN" not in os.environ


def test_stages_can_be_given_for_notebooks_of_ones_own(folder: Path, tmp_path: Path) -> None:
    stages = {"00_first": Stage(makes=("made",)), "01_second": Stage(needs={"made": ()})}
    made = tmp_path / "runs/tiny/made"
    _write(folder / "00_first.ipynb", PARAMETERS, f"open({str(made)!r}, 'w').write(str(value))")
    given = {"notebooks": folder, "stages": stages}
    assert run_profile(_profile(), only=["01"], **given) == ["00_first", "01_second"]
    made.unlink()
    assert run_profile(_profile(), **given) == ["00_first"]  # it made the same again
    assert run_profile(_profile(value=2), only=["00"], **given) == ["00_first"]
    made.write_text("7")
    assert run_profile(_profile(value=2), only=["01"], **given) == ["01_second"]


def test_stamp_depends_on_parameters_data_and_their_defaults(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("{}\n")
    named = PARAMETERS.replace('source: str = ""', f"source: str = {str(data)!r}")
    path = _write(folder / "00_first.ipynb", named, "%matplotlib inline\nvalue")

    def stamp(**parameters: object) -> str:
        return notebook_stamp(path, parameters, tmp_path / "runs/tiny")

    first = stamp()
    os.utime(data, (1, 1))
    assert first == stamp() == stamp(value=1)
    assert len({first, stamp(value=2), stamp(source="")}) == 3
    data.write_text("[]\n")
    assert first != stamp()


def test_what_a_notebook_makes_itself_is_no_input_of_it(folder: Path, tmp_path: Path) -> None:
    path, own = folder / "00_first.ipynb", tmp_path / "runs/tiny"
    (own / "model").mkdir(parents=True)

    def stamp() -> str:
        stages = {"00_first": Stage(makes=("model",))}
        return notebook_stamp(path, {"source": f"{own / 'model'}, {own}"}, own, stages)

    before = stamp()
    (own / "model/weights").write_text("new")
    assert stamp() == before


def test_a_failing_notebook_stops_the_run_and_is_kept(folder: Path, tmp_path: Path) -> None:
    _write(
        folder / "00_first.ipynb", PARAMETERS, "print('so far')", "x = 1\nraise ValueError('no such pair')"
    )
    with pytest.raises(NotebookFailed) as raised:
        run_profile(_profile(), notebooks=folder)
    message = str(raised.value)
    kept = tmp_path / "runs/tiny/notebooks/00_first.ipynb"
    for part in ["00_first.ipynb failed in cell [4]", "    x = 1", "ValueError: no such pair", str(kept)]:
        assert part in message
    assert "so far" in _printed(kept)
    assert not (tmp_path / "runs/tiny/notebooks/01_second.ipynb").exists()
    # the kept file does not count as done
    _write(folder / "00_first.ipynb", PARAMETERS, "print(1)")
    assert run_profile(_profile(), notebooks=folder) == ["00_first", "01_second"]


def test_a_dead_kernel_names_the_cell(folder: Path) -> None:
    path = _write(folder / "00_first.ipynb", PARAMETERS, "import os\nos._exit(1)")
    with pytest.raises(
        NotebookFailed, match=r"code cell 3:\n    import os\n    os._exit\(1\)\n  DeadKernelError"
    ):
        run_notebook(path, "tiny")


def test_leaving_a_notebook_early_is_a_failure(folder: Path) -> None:
    path = _write(folder / "00_first.ipynb", PARAMETERS, "import sys\nsys.exit(0)", "print('never')")
    with pytest.raises(NotebookFailed, match="never reached"):
        run_notebook(path, "tiny")


def test_unknown_names_are_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'valu' .did you mean value"):
        run_profile(_profile(valu=1), notebooks=folder)
    with pytest.raises(ValueError, match="no notebook '07': choose from 00_first, 01_second"):
        run_profile(_profile(), only=["07"], notebooks=folder)
    with pytest.raises(ValueError, match=r"--from 01: none of those .* comes then \(00_first\)"):
        run_profile(_profile(), only=["00"], start_from="01", notebooks=folder)  # "nothing to do"
    assert not (tmp_path / "runs/tiny/notebooks").exists()


def test_any_kernel_name_in_the_file_runs_on_this_environment(folder: Path) -> None:
    path = _write(folder / "00_first.ipynb", PARAMETERS, "print(1)", kernel="somebody-elses-kernel")
    assert _printed(run_notebook(path, "tiny")) == "1\n"


def test_a_notebook_run_on_demand_takes_the_runs_parameters(folder: Path) -> None:
    run_profile(_profile(value=5), only=["01"], notebooks=folder)
    assert _printed(run_notebook(folder / "00_first.ipynb", "tiny")) == "tiny 5\n"  # of the run's profile
    run_profile(_profile(value=6), only=["01"], notebooks=folder)
    assert _printed(run_notebook(folder / "00_first.ipynb", "tiny")) == "tiny 5\n"  # that it ran with
    assert _printed(run_notebook(folder / "00_first.ipynb", "another")) == "another 1\n"
    assert run_profile(_profile(value=5), only=["00"], notebooks=folder) == []


def test_a_notebook_can_run_another(folder: Path, tmp_path: Path) -> None:
    source = (
        "from pathlib import Path\nfrom rlhf_hw.pipeline import run_folder\n"
        f"run_folder.RUNS = Path({str(tmp_path / 'runs')!r})\n"
        "from rlhf_hw.pipeline.runner import run_notebook\n"
        f"print(run_notebook(Path({str(folder / '00_first.ipynb')!r}), run).name)"
    )
    path = _write(folder / "01_second.ipynb", PARAMETERS, source)
    assert _printed(run_notebook(path, "tiny")) == "00_first.ipynb\n"
    assert _printed(tmp_path / "runs/tiny/notebooks/00_first.ipynb") == "tiny 1\n"


def test_the_next_notebooks_kernel_loads_while_this_one_runs(folder: Path, tmp_path: Path) -> None:
    """The second notebook finds the library imported that only its own cell names."""
    _write(folder / "00_first.ipynb", PARAMETERS, "import time; time.sleep(6)")
    loaded = "import sys; print('rlhf_hw.stats.text' in sys.modules)"
    _write(folder / "01_second.ipynb", PARAMETERS, loaded, "import rlhf_hw.stats.text")
    run_profile(_profile(), notebooks=folder)
    assert "True" in _printed(tmp_path / "runs/tiny/notebooks/01_second.ipynb")


def test_a_kernel_made_ready_for_another_notebook_is_not_taken(folder: Path) -> None:
    path = _write(folder / "00_first.ipynb", PARAMETERS, "print(1)")
    with NextKernel() as following:
        following.prepare(path, {})
        waiting = following._manager
        assert following.take(folder / "01_other.ipynb") is None
        assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"flag": "false"}, "flag takes bool, not str 'false'"),
        ({"value": True}, "value takes int, not bool True"),
        ({"rate": "1e-3"}, "rate takes float, not str '1e-3'"),
    ],
)
def test_what_papermill_takes_for_a_text_is_refused(folder: Path, tmp_path: Path, given, told) -> None:
    declared = PARAMETERS + "flag: bool = True  # a switch\nrate: float = 1.0  # a rate\n"
    opened = "from rlhf_hw.pipeline.runner import open_run", "results = open_run(run)"
    notebook = _write(tmp_path / "02_third.ipynb", declared, *opened)
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(notebook, out, {"rate": 2}, progress_bar=False)  # a whole number is one
    with pytest.raises(papermill.PapermillExecutionError, match=re.escape(told)):
        papermill.execute_notebook(notebook, out, given, progress_bar=False)
