"""Several training processes that act as one: started by `deepspeed` or `torchrun`, joined by accelerate.

With one process every function here does nothing and returns what it was given.
"""

import os
import socket

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils import logging as transformers_logging


def join_processes(deepspeed: bool = False) -> None:
    """Connect the processes of this run; call it before anything that only one of them should do.

    Args:
        deepspeed: Whether DeepSpeed trains. On processors it would first compile a kernel for half a minute,
            for sums over shared memory; gloo, which is there, does them as well.
    """
    unset_hf_deepspeed_config()  # of an earlier run here: with ZeRO 3, any model would be loaded in shares
    if world_size() == 1 and not deepspeed:
        return
    on_cpu = not torch.cuda.is_available()
    if deepspeed and "RANK" not in os.environ:  # one process without a launcher, for example in a notebook
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    if deepspeed and on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not is_main():
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
    PartialState(cpu=on_cpu, backend="gloo" if on_cpu and world_size() > 1 else None)


def free_port() -> int:
    """A port on which nobody listens, so that two runs on one machine do not meet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
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


def wait_for_all() -> None:
    """Return when every process has come this far."""
    if world_size() > 1:
        PartialState().wait_for_everyone()


def all_agree(flag: bool) -> bool:
    """Whether `flag` is true in every process: what they do next must not depend on who looked first."""
    return bool(total(np.array([float(flag)], dtype=np.float32))[0] == world_size())
