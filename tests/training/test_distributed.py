"""Two processes do what one does: DDP, ZeRO 2 and 3, resuming on another number of them, a killed one."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.training import launch
from rlhf_hw.training.checkpoints import TrainingResult, last_resumable, load_result, mark_whole
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.distributed import (
    check_resumable,
    deepspeed_settings,
    free_port,
    saved_processes,
)
from tests.training.several_processes import start

pytestmark = pytest.mark.distributed

SETTINGS = {"rm": RewardTraining, "dpo": DPOTraining}
GLOBAL_BATCH = 4
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def settings(pairs_file, policy_folder, tmp_path_factory):
    """Make the settings of 6 steps on 24 pairs, with one global batch for any number of processes."""
    folder = tmp_path_factory.mktemp("runs")

    def make(kind: str, name: str, processes: int, **changes):
        values = {
            "model": str(policy_folder),
            "output_dir": folder / f"{name}-{kind}",
            "train_dataset": str(pairs_file),
            "eval_dataset": str(pairs_file),
            "eval_split": "train",
            "evaluations": 1,
            "batch_size": GLOBAL_BATCH // processes,
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "logging_steps": 1,
            "dtype": "fp32",
            "report_to": "none",
        }
        return SETTINGS[kind](**values | changes)

    return make


@pytest.fixture(scope="module")
def one_process(settings) -> dict[str, TrainingResult]:
    return {kind: launch.run_training(kind, settings(kind, "one", 1)) for kind in SETTINGS}


def assert_same(result: TrainingResult, expected: TrainingResult) -> None:
    """Losses at each step, measurements, evaluations and final weights."""
    for name in ("loss", "accuracy", "margin", "eval_loss", "eval_accuracy"):
        values, wanted = ([point["value"] for point in r.curve(name)] for r in (result, expected))
        np.testing.assert_allclose(values, wanted, err_msg=name, **TOLERANCE)
    got, wanted = (load_file(r.checkpoint / "model.safetensors") for r in (result, expected))
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].dtype == torch.float32
        torch.testing.assert_close(got[name], tensor, msg=lambda m, n=name: f"{n}: {m}", **TOLERANCE)


@pytest.fixture(scope="module")
def two_processes(settings):
    """The settings of runs on two processes, without DeepSpeed and with it, which have ended."""
    configs = {
        deepspeed: {
            kind: settings(kind, f"two-{deepspeed}", 2, deepspeed=deepspeed, save_steps=4)
            for kind in SETTINGS
        }
        for deepspeed in (None, "zero2", "zero3")
    }
    start(2, *(run for of_one in configs.values() for run in of_one.items()))
    return configs


@pytest.mark.parametrize("deepspeed", [None, "zero2", "zero3"])
def test_two_processes_equal_one(two_processes, one_process, preferences, deepspeed) -> None:
    configs = two_processes[deepspeed]
    for kind, config in configs.items():
        assert_same(load_result(config.output_dir), one_process[kind])
    scores, expected = (
        RewardModel(folder, dtype="fp32").score(
            [p.prompt for p in preferences], [[p.chosen] for p in preferences]
        )
        for folder in (configs["rm"].output_dir, one_process["rm"].checkpoint)
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


def kill_a_worker_when(path: Path, killed: list[int]) -> None:
    """Wait until `path` exists, then kill one of the training processes outright."""
    deadline = time.monotonic() + 200
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process().children(recursive=True)
        if "rlhf_hw.cli" in child.cmdline() and child.environ().get("RANK") == "1"
    ]
    for worker in workers[-1:]:
        worker.kill()
        killed.append(worker.pid)


def test_a_killed_process_ends_the_run_and_another_number_resumes_it(settings) -> None:
    stopped = settings(
        "rm", "killed", 2, max_steps=100000, save_steps=2, lr_scheduler_type="constant", eval_dataset=None
    )
    folder, killed = stopped.output_dir, []
    # not the first checkpoint's: a kill may come before the last of its files
    sign = folder / "checkpoint-4" / "trainer_state.json"
    watcher = threading.Thread(target=kill_a_worker_when, args=(sign, killed))
    watcher.start()
    with pytest.raises(RuntimeError, match="training on 2 processes ended with status") as error:
        launch.launch_training("rm", stopped, 2)
    watcher.join()
    assert killed, "no worker was found to be killed"
    assert "got no new checkpoint" in str(error.value)
    assert not (folder / "training.json").exists() and not list(folder.glob("*.safetensors"))
    steps = int(last_resumable(folder).rpartition("-")[2]) + 3
    short = {"max_steps": steps, "lr_scheduler_type": "constant", "eval_dataset": None}
    resumed = launch.run_training("rm", settings("rm", "killed", 1, resume=True, **short))
    assert_same(resumed, launch.run_training("rm", settings("rm", "unbroken", 1, **short)))


def test_zero_resumes_on_another_number_of_processes(two_processes, settings, one_process) -> None:
    folder = two_processes["zero2"]["rm"].output_dir
    assert saved_processes(folder / "checkpoint-4") == 2
    for name in ("training.json", "model.safetensors"):  # as if it had been stopped after step 4
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoint-6", ignore_errors=True)
    again = settings("rm", "two-zero2", 1, deepspeed="zero2", save_steps=4, resume=True)
    assert again.output_dir == folder
    start(1, ("rm", again))
    assert_same(load_result(folder), one_process["rm"])


def test_a_torn_resumable_checkpoint_is_passed_over(tmp_path) -> None:
    assert last_resumable(tmp_path) is None
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_text("moments")
        if step < 12:  # the last was cut short before its mark was written
            mark_whole(tmp_path / f"checkpoint-{step}", {})
    assert last_resumable(tmp_path) == str(tmp_path / "checkpoint-10")
    (tmp_path / "checkpoint-10" / "optimizer.pt").write_text("mom")
    assert last_resumable(tmp_path) == str(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "optimizer.pt").write_bytes(bytes(7))  # as power that fails leaves it
    assert last_resumable(tmp_path) is None
    mark_whole(tmp_path / "checkpoint-2", {})
    assert last_resumable(tmp_path) == str(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "rlhf_hw_run.json").write_text('{"files": ')
    assert last_resumable(tmp_path) is None


@pytest.mark.parametrize(
    ("with_deepspeed", "message"), [(True, "without DeepSpeed"), (False, "with DeepSpeed")]
)
def test_a_checkpoint_of_the_other_kind_is_refused(tmp_path, with_deepspeed, message) -> None:
    if not with_deepspeed:
        (tmp_path / "global_step2").mkdir()
    with pytest.raises(ValueError, match=f"was written {message}"):
        check_resumable(tmp_path, with_deepspeed)


def test_every_settings_file_is_read(settings) -> None:
    for name in ("zero0", "zero2", "zero3", "zero3_offload"):
        read = deepspeed_settings(settings("rm", "unused", 1, deepspeed=name))
        zero = read["zero_optimization"]
        assert zero["stage"] == int(name[4]) and "optimizer" not in read
        left_to_the_settings = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_clipping")
        left_to_the_settings += ("gradient_accumulation_steps",)
        assert {read[key] for key in left_to_the_settings} | {read["bf16"]["enabled"]} == {"auto"}
        assert zero.get("stage3_gather_16bit_weights_on_model_save") == (True if zero["stage"] == 3 else None)
        offloaded = {key for key in zero if key.startswith("offload") and zero[key]["device"] == "cpu"}
        assert offloaded == ({"offload_optimizer", "offload_param"} if name == "zero3_offload" else set())


def test_a_settings_file_of_ones_own_is_read(settings, tmp_path) -> None:
    (tmp_path / "mine.json").write_text('{"zero_optimization": {"stage": 1}}')
    config = settings("rm", "unused", 1, deepspeed=str(tmp_path / "mine.json"))
    assert deepspeed_settings(config) == {"zero_optimization": {"stage": 1}}


def test_launching_refuses_what_it_cannot_do(settings) -> None:
    with pytest.raises(ValueError, match="expected DPOTraining settings, found RewardTraining"):
        launch.launch_training("dpo", settings("rm", "unused", 1), 2)
    for number in (0, 10**6):
        with pytest.raises(ValueError, match=f"num_processes: expected 1 to .*, found {number}"):
            launch.run_training("rm", settings("rm", "unused", 1), number)


class Caller:
    """What an attacker would put into a pickle: reading it makes a folder."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("torn", [False, True])
def test_a_checkpoint_that_would_run_code_is_not_resumed(tmp_path, torn) -> None:
    path, marker = (
        tmp_path / "global_step2" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        tmp_path / "it ran",
    )
    path.parent.mkdir()
    torch.save({"state": torch.zeros(2), "more": Caller(marker)}, path)
    if torn:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be checked" if torn else "would call posix.mkdir"):
        check_resumable(tmp_path, with_deepspeed=True)
    assert not marker.exists()


@pytest.mark.parametrize("way", ["latest", "latest_universal", "link"])
def test_a_checkpoint_that_leads_elsewhere_is_not_resumed(tmp_path, way) -> None:
    checkpoint, elsewhere = tmp_path / "checkpoint-2", tmp_path / "evil"
    elsewhere.mkdir()
    (checkpoint / "global_step2").mkdir(parents=True)
    (checkpoint / "latest").write_text("global_step2")
    check_resumable(checkpoint, with_deepspeed=True)
    if way == "link":
        (checkpoint / "global_step2" / "more").symlink_to(elsewhere)
    else:
        (checkpoint / way).write_text("../evil")
    with pytest.raises(ValueError, match="is a link" if way == "link" else f"{way} leads to '../evil'"):
        check_resumable(checkpoint, with_deepspeed=True)


LISTENING = """
import psutil
from rlhf_hw.training.distributed import is_main, join_processes, wait_for_all
join_processes({deepspeed})
open_to = {{c.laddr.ip for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN}}
wait_for_all()
print(sorted(open_to))
"""


@pytest.mark.parametrize(
    ("processes", "deepspeed", "address"), [(1, True, ""), (2, False, "localhost"), (2, True, "127.0.0.1")]
)
def test_processes_of_one_machine_listen_to_it_alone(processes, deepspeed, address) -> None:
    shared = {**launch.environment(processes), "WORLD_SIZE": str(processes), "MASTER_ADDR": address}
    shared["MASTER_PORT"] = str(free_port())
    if processes == 1:  # as in a notebook: nobody started it as one of several
        shared = {name: value for name, value in shared.items() if name not in ("WORLD_SIZE", "MASTER_ADDR")}
    command = [sys.executable, "-W", "ignore", "-c", LISTENING.format(deepspeed=deepspeed)]
    started = [
        subprocess.Popen(
            command,
            env=shared | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(processes)
    ]
    for process in started:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and output.splitlines()[-1] in ("[]", "['127.0.0.1']"), output
