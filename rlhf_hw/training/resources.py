"""Memory and disk that a training run needs for certain, against what there is, before anything loads.

Certain are the weights, their gradients and AdamW's moments; activations are only estimated (module
`estimate`), so they stop nothing. Where the system does not say what is free, nothing is checked.
"""

import os
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig

from rlhf_hw.errors import InputError
from rlhf_hw.models.hub import read_pretrained
from rlhf_hw.training.config import Training
from rlhf_hw.training.distributed import deepspeed_file, world_size
from rlhf_hw.training.estimate import GIB, Held, held, widest_rank

# Resumable checkpoints there are at once: two are kept while the next is written
STEPS_AT_ONCE = 3
CGROUPS = (  # files with the limit and the use of this process's container
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def check_resources(config: Training) -> None:
    """Refuse a run that cannot end for want of memory or disk, or whose adapters are wider than the model.

    Args:
        config: The settings; of the model only the configuration is read.

    Raises:
        InputError: with what is needed, what is free, and what takes less.
    """
    shape = read_pretrained(AutoConfig, config.model)
    try:
        widest = widest_rank(shape) if config.lora_rank else 0
        needs = held(config, shape)
    except Exception:  # of transformers, for a model that cannot be built; loading it will say so
        return
    if config.lora_rank > widest:
        raise InputError(
            f"lora_rank: expected at most {widest}, the rank of the model's largest matrix, found "
            f"{config.lora_rank}"
        )
    _check_memory(config, needs)
    _check_disk(config, needs)


def _check_memory(config: Training, needs: Held) -> None:
    free, together = free_memory(), needs.memory
    if not torch.cuda.is_available():
        together *= int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))  # they share the machine's
    elif "offload" in str(deepspeed_file(config.deepspeed)):
        return  # what lies on the GPU and what beside it, DeepSpeed decides
    if free is not None and together > free:
        raise InputError(
            f"{config.model}: weights, gradients and optimizer take {together / GIB:.1f} GiB, and "
            f"{free / GIB:.1f} GiB of memory are free; take a smaller model, a (lower) lora_rank, or more "
            "processes with deepspeed"
        )


def _check_disk(config: Training, needs: Held) -> None:
    folder = next(f for f in [config.output_dir, *config.output_dir.resolve().parents] if f.is_dir())
    wanted, free = 4 * needs.parameters, shutil.disk_usage(folder).free
    if config.save_steps:
        wanted += STEPS_AT_ONCE * (4 * needs.parameters + 8 * needs.trained)
    if wanted > free:
        raise InputError(
            f"output_dir: the run writes up to {wanted / GIB:.2f} GiB, and {free / GIB:.2f} GiB are free at "
            f"{folder}; free some, choose another folder, or take save_steps 0"
        )


def free_memory() -> int | None:
    """Bytes that are free for this process: of its GPU, else of the machine or of its container's share."""
    if torch.cuda.is_available():
        # torch keeps what this process's earlier trainings have freed, for its own next tensors
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + kept
    found = []
    for line in _read("/proc/meminfo").splitlines():
        name, _, size = line.partition(":")
        if name == "MemAvailable":
            found.append(1024 * int(size.split()[0]))
    for limit, used in CGROUPS:
        if _read(limit).strip().isdigit() and _read(used).strip().isdigit():
            found.append(int(_read(limit)) - int(_read(used)) + _cached(Path(limit).parent / "memory.stat"))
    return min(found) if found else None


def _cached(statistics: Path) -> int:
    """Of what a container uses, the bytes of files that the system gives up first."""
    entries = dict(line.split()[:2] for line in _read(statistics).splitlines())
    return int(entries.get("inactive_file", entries.get("total_inactive_file", 0)))


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
