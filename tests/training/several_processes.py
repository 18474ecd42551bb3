"""A program for `torchrun`: trains each `kind=settings.json` in turn, so that tests start processes once."""

import subprocess
import sys
from pathlib import Path

from rlhf_hw.training import activations
from rlhf_hw.training.config import SETTINGS, Training
from rlhf_hw.training.launch import environment, run_training


def start(processes: int, *configs: tuple[str, Training], timeout: int = 240) -> None:
    """Train several settings, one after the other, in processes that torchrun starts."""
    arguments = []
    for number, (kind, config) in enumerate(configs):
        path = Path(f"{config.output_dir}-{number}.json")
        path.write_text(config.model_dump_json(), encoding="utf-8")
        arguments.append(f"{kind}={path}")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", str(processes), __file__, *arguments],
        capture_output=True,
        text=True,
        env=environment(processes),
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    activations.TOKENS_AT_ONCE = 60  # so few that every batch without DeepSpeed is worked through in parts
    for argument in sys.argv[1:]:
        kind, _, path = argument.partition("=")
        run_training(kind, SETTINGS[kind].model_validate_json(Path(path).read_text(encoding="utf-8")))
