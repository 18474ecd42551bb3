"""Start one training run on several processes, from a notebook or a script, through DeepSpeed's launcher.

The processes run `rlhf-hw train rm|sft|dpo` with a settings file, so a run started here is the run that

    deepspeed --num_accelerators 2 --no_local_rank --module rlhf_hw.cli train rm --config settings.yaml

starts from the shell. Meanwhile a notebook loads no model itself; what the processes used is free again
when they end.
"""

import gc
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import torch

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.paths import NOTES, resolve
from rlhf_hw.training.checkpoints import TrainingResult, load_result
from rlhf_hw.training.config import SETTINGS, Training
from rlhf_hw.training.distributed import free_port
from rlhf_hw.training.folders import LOCK, release
from rlhf_hw.training.run import train_dpo, train_reward_model, train_sft
from rlhf_hw.training.settings import PROCESSES
from rlhf_hw.workers import in_workers

TRAIN = {"rm": train_reward_model, "sft": train_sft, "dpo": train_dpo}
LINES_KEPT = 40
SMALL = 100_000_000  # bytes of weights


def run_training(kind: str, config: Training, num_processes: int = 1) -> TrainingResult:
    """Train in this process, or with `num_processes` > 1 in processes of their own.

    Args:
        kind: "rm", "sft" or "dpo".
        config: The settings; `batch_size` is that of one process.
        num_processes: Processes on this machine, each with a GPU or a share of the processor's threads.
    """
    if not 1 <= num_processes <= PROCESSES:
        raise InputError(f"num_processes: expected 1 to {PROCESSES} on this machine, found {num_processes}")
    if num_processes == 1:
        with nothing_left(config):
            result = TRAIN[kind](config)
        gc.collect()  # trainer and model hold each other, and with them gradients and the optimizer
        return result
    return launch_training(kind, config, num_processes)


@contextmanager
def nothing_left(config: Training) -> Iterator[None]:
    """Of a run that is refused leave nothing in its folders: no notes of ours, and none that were not there.

    What a run wrote besides before it failed, stays.
    """
    taken = [config.output_dir, *filter(None, [config.log_dir])]
    new = [place for folder in taken for place in (folder, *folder.parents) if not place.exists()]
    before = _names_in(config.output_dir)
    try:
        yield
    except Exception:
        added = _names_in(config.output_dir) - before
        release(config.output_dir, added if added <= {NOTES, LOCK} else ())
        for place in new:  # the deepest first
            with suppress(OSError):  # of those that are not empty
                place.rmdir()
        raise


def _names_in(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def run_trainings(
    kind: str, configs: Sequence[Training], num_processes: int = 1, title: str = ""
) -> Iterator[TrainingResult]:
    """Trainings that do not depend on each other: small models side by side, else one after the other.

    Each result comes as soon as it is there, in the order of the settings, so that what has ended can be
    noted before the next begins.

    Args:
        kind: As in `run_training`.
        configs: The settings of each.
        num_processes: Above 1 they run after each other, each on so many processes.
        title: What the progress bar calls them.
    """
    if num_processes != 1 or not all(is_small(config.model) for config in configs):
        for config in configs:
            yield run_training(kind, config, num_processes)
    else:
        yield from in_workers(run_training, [(kind, config) for config in configs], title)


def is_small(model: str) -> bool:
    """Whether a checkpoint is so small that one thread serves it well and several fit into memory.

    A hub id tells nothing of its size and counts as large.
    """
    weights = [path.stat().st_size for path in resolve(model).glob("*.safetensors")]
    return bool(weights) and sum(weights) <= SMALL


def launch_training(kind: str, config: Training, num_processes: int) -> TrainingResult:
    """Train in `num_processes` new processes; their progress goes to standard error.

    Args:
        kind: "rm", "sft" or "dpo".
        config: The settings, of the class that belongs to `kind`.
        num_processes: Processes on this machine.

    Returns:
        What the run left, read from its checkpoint folder.

    Raises:
        RuntimeError: A process died; the message ends with the last lines that the run wrote.
    """
    expected = SETTINGS[kind]
    if type(config) is not expected:
        raise InputError(f"{kind}: expected {expected.__name__} settings, found {type(config).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.yaml"  # JSON is YAML
        settings.write_text(config.model_dump_json(), encoding="utf-8")
        command = launch_command(kind, settings, num_processes)
        with subprocess.Popen(
            command,
            env=environment(num_processes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        ) as launcher:
            try:
                last = pass_on(launcher.stdout)
            except BaseException:
                launcher.terminate()  # the launcher ends its processes
                raise
    if launcher.returncode != 0:
        raise RunFailed(
            f"training on {num_processes} processes ended with status {launcher.returncode}; "
            f"{config.output_dir} got no new checkpoint. Last lines:\n" + "\n".join(last)
        )
    return load_result(config.output_dir)


def launch_command(kind: str, settings: Path, num_processes: int) -> list[str]:
    """The command line that starts the processes on this machine."""
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--log_level", "error"]
    # ssh is not asked and no list of other machines is read: this starts processes here
    machine = [
        "--num_accelerators",
        str(num_processes),
        "--hostfile",
        os.devnull,
        "--master_addr",
        "127.0.0.1",
    ]
    port = ["--master_port", str(free_port()), "--no_local_rank"]
    return [*launcher, *machine, *port, "--module", "rlhf_hw.cli", "train", kind, "--config", str(settings)]


def environment(num_processes: int) -> dict[str, str]:
    """Environment of the processes: without GPUs they share the processor's threads."""
    values = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # DeepSpeed's way to call torch, repeated by each process
    values.setdefault("PYTHONWARNINGS", "ignore::FutureWarning:torch.distributed.c10d_logger")
    if not torch.cuda.is_available():
        values["DS_ACCELERATOR"] = "cpu"
        values.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    return values


def pass_on(stream: IO[bytes]) -> list[str]:
    """Copy a stream to standard error as it comes; return its last lines, progress bars left out."""
    last: deque[str] = deque(maxlen=LINES_KEPT)
    rest = ""
    while chunk := stream.read(4096):
        text = chunk.decode("utf-8", errors="replace")
        sys.stderr.write(text)
        sys.stderr.flush()
        *lines, rest = (rest + text).split("\n")
        last.extend(line for line in (part.rpartition("\r")[2].rstrip() for part in lines) if line)
    return [*last, rest] if rest else list(last)
