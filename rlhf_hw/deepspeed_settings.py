"""DeepSpeed's settings for a run: our JSON files or one's own; resuming on more or fewer processes.

The files in `rlhf_hw/deepspeed/` leave sizes, precision and clipping to the training settings ("auto")
and name no optimizer, so that every ZeRO stage steps with the optimizer that a single process would use.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from rlhf_hw.checkpoints import last_resumable
from rlhf_hw.config import Training
from rlhf_hw.processes import is_main, wait_for_all, world_size


def deepspeed_settings(config: Training) -> dict | None:
    """Settings for DeepSpeed; a run resumed on another number of processes reads a converted checkpoint."""
    path = deepspeed_file(config.deepspeed)
    last = last_resumable(config.output_dir) if config.resume else None
    if last:
        check_resumable(last, with_deepspeed=path is not None)
    if path is None:
        return None
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    if last and saved_processes(last) not in (0, world_size()):
        if is_main():
            convert_to_universal(last)
        wait_for_all()
        settings["checkpoint"] = {"load_universal": True}
    return settings


def deepspeed_file(name: str | None) -> str | None:
    """Path of a DeepSpeed JSON file; a plain name means one of those in `rlhf_hw/deepspeed/`."""
    if name is None or Path(name).exists():
        return name
    own = Path(__file__).parent / "deepspeed" / f"{name}.json"
    if not own.exists():
        known = sorted(p.stem for p in own.parent.glob("*.json"))
        raise FileNotFoundError(f"deepspeed: no file {name!r}, and it is none of {', '.join(known)}")
    return str(own)


def saved_processes(checkpoint: str | Path) -> int:
    """Among how many processes DeepSpeed split the optimizer of a checkpoint; 0: it is not split."""
    return len(list(Path(checkpoint).glob("global_step*[0-9]/*zero_pp_rank_*_optim_states.pt")))


def check_resumable(checkpoint: str | Path, with_deepspeed: bool) -> None:
    """Refuse a checkpoint whose optimizer could not be read; the trainer would start with a fresh one."""
    written_by_deepspeed = any(Path(checkpoint).glob("global_step*"))
    if written_by_deepspeed != with_deepspeed:
        wrote, wants = ("with", "without") if written_by_deepspeed else ("without", "with")
        raise ValueError(
            f"{checkpoint} was written {wrote} DeepSpeed and cannot be resumed {wants} it; "
            "set `deepspeed` as it was, or start anew from the weights in that folder"
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
        raise RuntimeError(
            f"{checkpoint}: DeepSpeed could not convert it for another number of processes:\n{done.stderr}"
        )


def without_ranks() -> dict[str, str]:
    """The environment of a program that is not one of this run's processes."""
    launcher = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in launcher}
