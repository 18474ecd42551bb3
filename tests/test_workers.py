"""Work in processes side by side: results in order, errors as they were raised, one thread a core."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_hw import workers
from rlhf_hw.errors import InputError
from rlhf_hw.paths import ROOT
from rlhf_hw.workers import COUNT, cores, in_workers, processes_for


def describe(number: int, wanted: str = "") -> tuple[int, int, int]:
    import torch

    if wanted == "error":
        raise InputError(f"call {number} is wrong")
    return number, os.getpid(), torch.get_num_threads()


def test_results_come_in_the_order_of_the_calls(monkeypatch) -> None:
    monkeypatch.setenv(COUNT, "2")
    found = in_workers(describe, [(n,) for n in range(4)])
    assert [number for number, _, _ in found] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for _, _, threads in found} == {max(1, cores() // 2)}


def test_one_worker_is_this_process(monkeypatch) -> None:
    monkeypatch.setenv(COUNT, "1")
    assert {process for _, process, _ in in_workers(describe, [(n,) for n in range(3)])} == {os.getpid()}


def test_an_error_of_a_call_arrives_as_it_is(monkeypatch) -> None:
    monkeypatch.setenv(COUNT, "2")
    with pytest.raises(InputError, match="call 1 is wrong"):
        in_workers(describe, [(0,), (1, "error")])


def test_a_few_calls_more_than_cores_run_all_at_once(monkeypatch) -> None:
    monkeypatch.delenv(COUNT, raising=False)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    assert [processes_for(calls) for calls in (0, 1, 2, 3, 4, 9)] == [0, 1, 2, 3, 2, 2]
    monkeypatch.setenv(COUNT, "1")
    assert processes_for(3) == 1


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from rlhf_hw.workers import in_workers
from workers_that_wait import note_and_wait
in_workers(note_and_wait, [(sys.argv[1], n) for n in range(2)])
"""
WAITING = """
import os, pathlib, time
def note_and_wait(folder, number):
    pathlib.Path(folder, f"{number}.pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_when_who_hands_out_the_work_is_killed(tmp_path) -> None:
    (tmp_path / "workers_that_wait.py").write_text(WAITING)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]), COUNT: "2"}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment) as parent:
        notes = [tmp_path / f"{n}.pid" for n in range(2)]
        waited_for(lambda: all(note.exists() and note.read_text() for note in notes))
        parent.kill()
    waited_for(lambda: not any(running(int(note.read_text())) for note in notes))


def waited_for(holds, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
