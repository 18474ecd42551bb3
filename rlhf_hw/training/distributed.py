"""Several training processes that act as one, and DeepSpeed's settings for them.

The processes are started by `deepspeed` or `torchrun` and joined by accelerate; with one process, joining,
summing and waiting do nothing. The JSON files in `deepspeed/`, beside
this module, leave sizes, precision and clipping to the training settings ("auto") and name no optimizer, so
that every ZeRO stage steps with the optimizer that a single process would use.
"""

import atexit
import os
import re
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.utils.data import Sampler
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils import logging as transformers_logging

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.files import read_json, usable_path
from rlhf_hw.training.checkpoints import last_resumable
from rlhf_hw.training.config import Training

LOOPBACK = "127.0.0.1"
HERE = (LOOPBACK, "localhost", "::1")  # where processes of one machine meet
# What DeepSpeed's files hold besides tensors and plain values
DEEPSPEED_CLASSES = {
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}


def join_processes(deepspeed: bool = False) -> None:
    """Connect the processes of this run; call it before anything that only one of them should do.

    Args:
        deepspeed: Whether DeepSpeed trains. On processors it would first compile a kernel for half a minute,
            for sums over shared memory; gloo, which is there, does them as well.
    """
    unset_hf_deepspeed_config()  # of an earlier run here: with ZeRO 3, any model would be loaded in shares
    _refuse_half_a_launcher()
    if world_size() == 1 and not deepspeed:
        return
    on_cpu = not torch.cuda.is_available()
    if deepspeed and "RANK" not in os.environ:  # one process without a launcher, for example in a notebook
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(free_port())}
    if deepspeed and on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    meet_on_this_machine(on_cpu)
    if not is_main():
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
    PartialState(cpu=on_cpu, backend="gloo" if on_cpu and world_size() > 1 else None)


def _refuse_half_a_launcher() -> None:
    """Refuse what is left in the environment of a launcher: process 1 without 0 writes nothing."""
    found = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if name in os.environ}
    whole = all(re.fullmatch(r"-?\d{1,9}", value) for value in found.values())
    alone = whole and world_size() == 1 and found.get("LOCAL_RANK", "-1") == "-1"
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ and not alone]
    if not whole or missing or not 0 <= rank() < world_size():
        told = ", ".join(f"{name}={value}" for name, value in found.items())
        raise InputError(
            f"the environment says {told}{' and no ' * bool(missing)}{', '.join(missing)}: torchrun and "
            "deepspeed set these together, for each process; start with one of them, or unset these"
        )


def meet_on_this_machine(on_cpu: bool) -> None:
    """Connect processes that all run here, so that no other machine can reach what they listen on.

    torch's own store listens on every interface. Processes that meet elsewhere, or through `torchrun`, which
    brings a store of its own, are left to accelerate and DeepSpeed.
    """
    if os.environ.get("MASTER_ADDR") not in HERE or torch.distributed.is_initialized():
        return
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    if "TORCHELASTIC_USE_AGENT_STORE" in os.environ:
        return
    store = torch.distributed.HashStore()  # for one process: it listens nowhere
    if world_size() > 1:
        port, listening = int(os.environ["MASTER_PORT"]), {}
        if is_main():
            listener = socket.create_server((LOOPBACK, port))
            listening = {"master_listen_fd": listener.detach()}
        store = torch.distributed.TCPStore(LOOPBACK, port, world_size(), is_main(), **listening)
    torch.distributed.init_process_group(
        "gloo" if on_cpu else "nccl", store=store, rank=rank(), world_size=world_size()
    )
    # a group that is still there when Python ends can abort the process after all its work is done
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def free_port() -> int:
    """A port on which nobody listens, so that two runs on one machine do not meet."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return listener.getsockname()[1]


def world_size() -> int:
    """The number of processes of this run, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", 0))


def is_main() -> bool:
    """Whether this is the process that writes files and messages."""
    return rank() == 0


def total(values: np.ndarray) -> np.ndarray:
    """Sum an array over the processes; each gets the result."""
    if world_size() == 1:
        return values
    state = PartialState()
    return reduce(torch.from_numpy(values).to(state.device), reduction="sum").cpu().numpy()


class ShareOfBatches(Sampler[list[int]]):
    """The batches of one of several processes, which together are those of a single one.

    At the order's end there may be too few groups for all. A process is then given groups that must count
    nowhere, written as `~index`, so that all have batches of one size.

    Args:
        order: Indices of groups; one with `set_epoch` may change with the epoch.
        batch_size: Of one process.
        processes, process: Their number, and which this is.
    """

    def __init__(self, order: Collection[int], batch_size: int, processes: int = 1, process: int = 0):
        self.order, self.batch_size, self.processes, self.process = order, batch_size, processes, process

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.order) // (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[int]]:
        order, whole = list(self.order), self.batch_size * self.processes
        for start in range(0, len(order), whole):
            together = order[start : start + whole]
            size = -(-len(together) // self.processes)
            mine = together[self.process * size : (self.process + 1) * size]
            yield mine + [~together[0]] * (size - len(mine))


def wait_for_all() -> None:
    """Return when every process has come this far."""
    if world_size() > 1:
        PartialState().wait_for_everyone()


def all_agree(flag: bool) -> bool:
    """Whether `flag` is true in every process: what they do next must not depend on who looked first."""
    return bool(total(np.array([float(flag)], dtype=np.float32))[0] == world_size())


def deepspeed_settings(config: Training) -> dict | None:
    """Settings for DeepSpeed; a run resumed on another number of processes reads a converted checkpoint."""
    path = deepspeed_file(config.deepspeed)
    last = last_resumable(config.output_dir) if config.resume else None
    if last:
        check_resumable(last, with_deepspeed=path is not None)
    if path is None:
        return None
    settings = read_json(path)
    if last and saved_processes(last) not in (0, world_size()):
        if is_main():
            convert_to_universal(last)
        wait_for_all()
        settings["checkpoint"] = {"load_universal": True}
    return settings


def deepspeed_file(name: str | None) -> str | None:
    """Path of a DeepSpeed JSON file; a plain name means one of those in `deepspeed/`, beside this module."""
    if name is None or usable_path(name, "deepspeed").exists():
        return name
    own = Path(__file__).parent / "deepspeed" / f"{name}.json"
    if not own.exists():
        known = sorted(p.stem for p in own.parent.glob("*.json"))
        raise FileNotFoundError(f"deepspeed: no file {name!r}; give one, or one of {', '.join(known)}")
    return str(own)


def saved_processes(checkpoint: str | Path) -> int:
    """Among how many processes DeepSpeed split the optimizer of a checkpoint; 0: it is not split."""
    return len(list(Path(checkpoint).glob("global_step*[0-9]/*zero_pp_rank_*_optim_states.pt")))


def check_resumable(checkpoint: str | Path, with_deepspeed: bool) -> None:
    """Refuse a checkpoint whose optimizer could not be read; the trainer would start with a fresh one."""
    written_by_deepspeed = any(Path(checkpoint).glob("global_step*"))
    if written_by_deepspeed != with_deepspeed:
        wrote, wants = ("with", "without") if written_by_deepspeed else ("without", "with")
        raise InputError(
            f"{checkpoint} was written {wrote} DeepSpeed and cannot be resumed {wants} it; "
            "set `deepspeed` as it was, or start anew into another folder"
        )
    if written_by_deepspeed:
        refuse_foreign_code(checkpoint)


def refuse_foreign_code(checkpoint: str | Path) -> None:
    """Refuse DeepSpeed's files if unpickling them, as DeepSpeed does, would call what it did not write there.

    Read are the names in the pickles; nothing is unpickled. (The trainer's own files are loaded by torch with
    `weights_only`, which refuses such things itself.)

    Raises:
        InputError: naming the file and what it would call.
    """
    checkpoint = Path(checkpoint)
    for link in (path for path in sorted(checkpoint.rglob("*")) if path.is_symlink()):
        raise InputError(
            f"{link} is a link, which no DeepSpeed run writes; resume only from checkpoints of your own"
        )
    for name in ("latest", "latest_universal"):
        tag = (checkpoint / name).read_text(encoding="utf-8").strip() if (checkpoint / name).exists() else ""
        if tag and not re.fullmatch(r"global_step\d+(_universal)?", tag):
            raise InputError(f"{checkpoint / name} leads to {tag!r}, and not to a step in its own folder")
    for path in sorted(checkpoint.rglob("*.pt")):
        try:
            called = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - DEEPSPEED_CLASSES
        except Exception as error:  # not a zip file, cut short, or no pickle: torch raises many kinds
            raise InputError(f"{path}: cannot be checked before it is resumed from ({error})") from error
        if called:
            raise InputError(
                f"{path} would call {', '.join(sorted(called))} when it is read, which no DeepSpeed run "
                "writes; resume only from checkpoints of your own"
            )


def convert_to_universal(checkpoint: str | Path) -> None:
    """Convert DeepSpeed's split optimizer to its universal form, which any number of processes can read."""
    checkpoint = Path(checkpoint)
    source = (checkpoint / "latest").read_text(encoding="utf-8").strip()
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", source, "--output_folder", f"{source}_universal"]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    done = subprocess.run(command, cwd=checkpoint, capture_output=True, text=True, env=without_ranks())
    if done.returncode != 0:
        raise RunFailed(
            f"{checkpoint}: DeepSpeed could not convert it for another number of processes:\n{done.stderr}"
        )


def without_ranks() -> dict[str, str]:
    """The environment of a program that is not one of this run's processes."""
    launcher = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in launcher}
