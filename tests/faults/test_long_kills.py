"""Kills that take minutes: of two processes, a notebook of a short run, the report; and two runs at once."""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from rlhf_hw.paths import ROOT, RUNS
from rlhf_hw.training.config import RewardTraining
from tests.faults.jobs import Forks, kills
from tests.faults.test_interruption import killed, results

pytestmark = pytest.mark.full
KILLS = max(2, int(os.environ.get("RLHF_HW_KILLS", "2")) // 2)
CLI = [sys.executable, "-m", "rlhf_hw.cli"]


def run(command: list[str], seconds: float | None = None) -> tuple[bool, float]:
    """Run a program, kill it and its processes after some seconds; whether it ended by itself, and when."""
    shown = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=shown, start_new_session=True, **quiet) as process:
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            started_by_it = psutil.Process(process.pid).children(recursive=True)
            for one in (process, *started_by_it):  # workers of torchrun have sessions of their own
                one.kill()
            process.communicate()
            return False, time.monotonic() - started
    assert process.returncode == 0, said[-3000:]
    return True, time.monotonic() - started


@pytest.mark.distributed
@pytest.mark.parametrize("deepspeed", [None, "zero2"])
def test_two_processes_killed_and_started_again(settings, tmp_path, deepspeed) -> None:
    def command(name: str) -> list[str]:
        steps = {"max_steps": 6, "save_steps": 1, "batch_size": 2, "resume": True, "deepspeed": deepspeed}
        (tmp_path / f"{name}.json").write_text(settings(RewardTraining, name, **steps).model_dump_json())
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        program = str(ROOT / "tests" / "training" / "several_processes.py")
        return [*torchrun, program, f"rm={tmp_path / f'{name}.json'}"]

    _, took = run(command("whole"))
    draw = random.Random(str(deepspeed))
    for number in range(KILLS):
        ended, _ = run(command(f"again{number}"), draw.uniform(0.3 * took, took))
        print(f"two processes, {deepspeed}: {'ended before' if ended else 'killed'}")
        run(command(f"again{number}"))
        whole, again = (tmp_path / name / "model.safetensors" for name in ("whole", f"again{number}"))
        assert whole.read_bytes() == again.read_bytes(), number


def test_a_notebook_of_a_short_run_killed_and_started_again(tmp_path) -> None:
    def command(name: str) -> list[str]:
        profile = tmp_path / f"{name}.yaml"
        profile.write_text(yaml.safe_dump({"name": name, "title": "Short", "parameters": {"dtype": "fp32"}}))
        return [*CLI, "run", "--profile", str(profile), "--only", "01"]

    def made(name: str) -> tuple:
        numbers = json.loads((RUNS / name / "metrics" / "01.json").read_text())
        lasting = {k: v for k, v in numbers.items() if "second" not in k}
        return lasting, (RUNS / name / "reward_model" / "model.safetensors").read_bytes()

    names = ["faults-whole", *(f"faults-{number}" for number in range(KILLS))]
    draw = random.Random("notebook")
    try:
        _, took = run(command(names[0]))
        for name in names[1:]:
            ended, _ = run(command(name), draw.uniform(0, took))
            print(f"notebook of a short run: {'ended before' if ended else 'killed'}")
            run(command(name))
            assert made(name) == made(names[0]), name
    finally:
        for name in names:
            shutil.rmtree(RUNS / name, ignore_errors=True)


@pytest.mark.skipif(not (RUNS / "nano" / "metrics.json").exists(), reason="needs a finished run in runs/nano")
def test_the_report_killed_and_started_again(tmp_path) -> None:
    with Forks() as forks:
        whole = forks.run("report", RUNS / "nano", tmp_path / "whole")
        assert not whole.get("error"), whole["error"]
        expected = results(tmp_path / "whole" / "nano" / "report")
        assert {"report.en.html", "report.en.pdf"} <= expected.keys()
        for number, kill in enumerate(kills(whole, random.Random("report"), KILLS)):
            folder = tmp_path / f"again{number}"
            stopped = killed(forks, "report", RUNS / "nano", folder, kill)
            print(f"report: {'killed' if stopped['killed'] else 'ended before'}")
            ended = forks.run("report", RUNS / "nano", folder)
            assert not ended.get("error"), ended["error"]
            found = results(folder / "nano" / "report")
            assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
            pages = [name for name in expected if name.endswith(".html")]
            assert all(found[name] == expected[name] for name in pages), kill


def test_of_two_runs_at_once_one_writes_and_the_other_says_who(settings, tmp_path) -> None:
    config = settings(RewardTraining, "shared", epochs=3)
    (tmp_path / "settings.json").write_text(config.model_dump_json())
    command = [*CLI, "train", "rm", "--config", str(tmp_path / "settings.json")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    both = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **quiet) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    if codes == [0, 0]:
        pytest.skip("one had ended before the other began")
    assert sorted(codes) == [0, 1]
    assert f"process {both[codes.index(0)].pid} writes into" in said[codes.index(1)]
    assert (config.output_dir / "training.json").exists()
