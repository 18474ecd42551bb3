"""Killed at random points and started again: in the end the files are those of a run that was left alone.

`RLHF_HW_KILLS` says how often each job is killed; the points are the same each time.
"""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.faults.jobs import Forks, kills
from tests.faults.workshop import Workshop

KILLS = int(os.environ.get("RLHF_HW_KILLS", "1"))
CELLS = """
import json, pathlib
from rlhf_hw.files import write_json
for part in range(3):
    write_json(pathlib.Path(folder) / f"{name}{part}.json", {"part": part, "long": list(range(20000))})
"""
VARYING = ("seconds", "second", "runtime", "processor", "commit")
LONG = ("sft", "dpo", "lora", "sample", "notebook")
# what says when, or by whom: no result
PASSING = (".lock", "_events.json", "events.out", "rng_state", ".stamp", ".ipynb", "training_args.bin")


def only_full(job: str):
    """A job that takes long, or is much like another: for the full run."""
    return pytest.param(job, marks=pytest.mark.full)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    made = Workshop(tmp_path_factory.mktemp("faults") / "inputs").build().folder
    (made / "notebooks").mkdir()
    for name in ("00_first", "01_second"):
        parameters = (
            f'run: str = ""  # the run\nfolder: str = ""  # for results\nname: str = "{name}"  # of files\n'
        )
        cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(CELLS)]
        kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
        nbformat.write(new_notebook(cells=cells, metadata=kernel), made / "notebooks" / f"{name}.ipynb")
    return made


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where the system lets one make it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may make a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def results(folder: Path) -> dict[str, object]:
    """The files of a job by name, with their content; of JSON without what says how long something took."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if not any(part in path.name for part in PASSING)]
    return {str(path.relative_to(folder)): _content(path, folder) for path in files}


def _content(path: Path, folder: Path) -> object:
    if path.suffix == ".json" and "checkpoint" not in str(path):
        return _lasting(json.loads(path.read_text().replace(str(folder), "")))
    return path.read_bytes() if "checkpoint-" not in str(path) else None


def _lasting(value: object) -> object:
    if isinstance(value, list):
        return [_lasting(part) for part in value]
    if not isinstance(value, dict):
        return value
    shown = {k: v for k, v in value.items() if not any(word in k for word in VARYING) and k != "files"}
    return {key: _lasting(part) for key, part in shown.items()}


def killed(forks: Forks, job: str, inputs: Path, folder: Path, kill: dict) -> dict:
    """Kill a job; where the machine is faster than it was, and the job ended before, after half the time."""
    stopped = forks.run(job, inputs, folder, **kill)
    while not stopped["killed"] and kill.get("seconds", 0) > 0.05:
        shutil.rmtree(folder)
        kill = {"seconds": kill["seconds"] / 2}
        stopped = forks.run(job, inputs, folder, **kill)
    return stopped


@pytest.mark.parametrize("job", ["rm", "score", *map(only_full, LONG)])
def test_killed_and_started_again_it_ends_as_if_left_alone(forks, inputs, tmp_path, job) -> None:
    whole = forks.run(job, inputs, tmp_path / "whole")
    assert not whole.get("error") and not whole["killed"] and whole["changes"] > 2
    expected, counted = results(tmp_path / "whole"), 0
    for number, kill in enumerate(kills(whole, random.Random(job), KILLS)):
        folder = tmp_path / f"again{number}"
        stopped = killed(forks, job, inputs, folder, kill)
        counted += stopped["killed"]
        ended = forks.run(job, inputs, folder)
        assert not ended.get("error") and not ended["killed"], (kill, stopped, ended.get("error"))
        found = results(folder)
        assert found.keys() == expected.keys(), (kill, found.keys() ^ expected.keys())
        assert all(found[name] == expected[name] for name in expected), kill
        shutil.rmtree(folder)
    print(f"{job}: killed {counted} times")
    assert counted


def is_explained(error: str, folder: Path) -> bool:
    """Whether a traceback ends with a message that names the folder and the remedy."""
    last = error.strip().splitlines()[-1]
    return str(folder) in last and "ree some" in last and not last.startswith(("RuntimeError", "Safetensor"))


@pytest.mark.parametrize("job", ["score", only_full("rm")])
def test_a_full_disk_loses_nothing(forks, inputs, tmp_path, small_disk, job) -> None:
    whole = forks.run(job, inputs, tmp_path / "whole")
    expected, draw = results(tmp_path / "whole"), random.Random(job)
    for after in draw.sample(range(1, whole["changes"]), min(KILLS, whole["changes"] - 1)):
        folder = small_disk / f"after{after}"
        stopped = forks.run(job, inputs, folder, full_after=after, disk=str(small_disk))
        (small_disk / "filling").unlink()
        assert "error" not in stopped or is_explained(stopped["error"], folder), (after, stopped["error"])
        assert not forks.run(job, inputs, folder).get("error")
        assert results(folder) == expected, after
        shutil.rmtree(folder)


def test_a_full_disk_of_the_logs_alone_loses_nothing(forks, inputs, tmp_path, small_disk) -> None:
    (small_disk / "logs").mkdir()
    (tmp_path / "logs").symlink_to(small_disk / "logs")
    assert not forks.run("logged", inputs, tmp_path / "whole").get("error")
    expected, draw = results(tmp_path / "whole"), random.Random("logged")
    for after in draw.sample(range(1, 25), min(KILLS, 24)):  # later, the last page of the logs may have space
        folder = tmp_path / f"after{after}"
        stopped = forks.run("logged", inputs, folder, full_after=after, disk=str(small_disk))
        (small_disk / "filling").unlink()
        places = (tmp_path / "logs", small_disk / "logs")
        assert any(is_explained(stopped["error"], place) for place in places), (after, stopped["error"])
        assert not forks.run("logged", inputs, folder).get("error")
        assert results(folder) == expected, after


@pytest.mark.parametrize("job", ["rm", *map(only_full, ("dpo", "score", "sample"))])
def test_a_file_that_cannot_grow_is_named(forks, inputs, tmp_path, job) -> None:
    folder = tmp_path / "out"
    stopped = forks.run(job, inputs, folder, largest=300)
    assert is_explained(stopped["error"], folder), stopped["error"][-500:]
    assert not forks.run(job, inputs, folder).get("error")
