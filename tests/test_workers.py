"""Work in processes side by side: results in order, errors as they were raised, one thread a core."""

import os

import pytest

from rlhf_hw import workers
from rlhf_hw.errors import InputError
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
