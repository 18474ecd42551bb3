"""Where the reward models of other systems read their score.

| saved by | score head | read at |
|---|---|---|
| this project | `score.weight` | the end-of-turn token; recorded in `rendering.json` |
| plain transformers, TRL on plain text | `score.weight` | the last token: the end-of-turn token |
| TRL on conversations | `score.weight` | the last token the chat template writes (say so: `reads_at`) |
| align-anything | `score_head.weight` | the last token the chat template writes |

For Qwen's chat format the template writes a newline after the end-of-turn token. A model trained on one of
the two gives other, worse scores at the other; so the place is kept when training goes on, and recorded then.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig

from rlhf_hw.models.hub import read_pretrained

SCORE_HEAD = "score_head.weight"


def is_align_anything(checkpoint: str | Path) -> bool:
    """Whether a checkpoint was saved by align-anything's reward-model trainer.

    Args:
        checkpoint: Folder or hub id. In a folder the weights' names decide, at the hub the configuration.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return SCORE_HEAD in weight_names(folder)
    architectures = read_pretrained(AutoConfig, checkpoint).architectures or []
    return any(name.startswith("Accustomed") and name.endswith("RewardModel") for name in architectures)


def weight_names(folder: Path) -> set[str]:
    """Names of the weights in a checkpoint folder, read without loading them; empty where there are none."""
    for index in folder.glob("*.index.json"):
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if (folder / "model.safetensors").exists():
        with safe_open(folder / "model.safetensors", framework="pt") as weights:
            return set(weights.keys())
    if (folder / "pytorch_model.bin").exists():
        return set(torch.load(folder / "pytorch_model.bin", mmap=True, weights_only=True, map_location="cpu"))
    return set()
