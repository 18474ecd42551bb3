"""A program for several processes: trains each `kind=settings.json` in turn, so that tests start once."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rlhf_hw.training import activations
from rlhf_hw.training.config import SETTINGS, Training
from rlhf_hw.training.distributed import free_port
from rlhf_hw.training.launch import environment, run_training


def start(processes: int, *configs: tuple[str, Training], torchrun: bool = False, timeout: int = 240) -> None:
    """Train several settings in turn, in processes of `torchrun`, or told of each other as by it.

    Without it there is a process less to start, and each has to import torch.
    """
    arguments = []
    for number, (kind, config) in enumerate(configs):
        path = Path(f"{config.output_dir}-{number}.json")
        path.write_text(config.model_dump_json(), encoding="utf-8")
        arguments.append(f"{kind}={path}")
    shared = environment(processes)
    if torchrun:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        every = [([*launcher, __file__, *arguments], shared)]
    else:
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        every = [([__file__, *arguments], shared | rank) for rank in ranks]
    end_together(every, Path(f"{configs[0][1].output_dir}-errors"), timeout)


def end_together(every: Sequence[tuple[list[str], dict[str, str]]], errors: Path, timeout: int) -> None:
    """Run Python with each list of arguments and environment; when one fails the others are ended, too."""
    deadline, running = time.monotonic() + timeout, []
    with errors.open("w+", encoding="utf-8") as file:
        try:
            for arguments, variables in every:
                command = [sys.executable, *arguments]
                running.append(
                    subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=variables)
                )
            while not all(process.poll() == 0 for process in running):
                file.seek(0)
                failed = any(process.returncode for process in running) or time.monotonic() > deadline
                assert not failed, file.read()[-3000:]
                time.sleep(0.05)
        finally:
            for process in running:
                process.kill()
                process.wait()


if __name__ == "__main__":
    activations.TOKENS_AT_ONCE = 60  # so few that every batch without DeepSpeed is worked through in parts
    for argument in sys.argv[1:]:
        kind, _, path = argument.partition("=")
        run_training(kind, SETTINGS[kind].model_validate_json(Path(path).read_text(encoding="utf-8")))
