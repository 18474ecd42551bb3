"""A program for `torchrun`: trains each `kind=settings.json` in turn, so that tests start processes once."""

import sys
from pathlib import Path

from rlhf_hw.training import activations
from rlhf_hw.training.config import SETTINGS
from rlhf_hw.training.launch import run_training

if __name__ == "__main__":
    activations.TOKENS_AT_ONCE = 60  # so few that every batch without DeepSpeed is worked through in parts
    for argument in sys.argv[1:]:
        kind, _, path = argument.partition("=")
        run_training(kind, SETTINGS[kind].model_validate_json(Path(path).read_text(encoding="utf-8")))
