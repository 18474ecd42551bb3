"""Where the reward models of other systems read their score.

| saved by | score head | read at |
|---|---|---|
| this project | `score.weight` | the end-of-turn token; recorded in `rendering.json` |
| plain transformers, TRL on plain text | `score.weight` | the last token: the end-of-turn token |
| TRL on conversations | `score.weight` | the last token the chat template writes (say so: `reads_at`) |
| align-anything | `score_head.weight` | the last token the chat template writes |

Plain transformers and TRL look for the last token that is not padding. A model of theirs whose padding is the
end-of-turn token was therefore trained at whatever token came before it: such scores are refused, unless
`reads_at` says that the model was trained at the end token or the template's last one all the same. Ours are
saved with another padding token (`Renderer`), so that all read them at the same place.

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


def pooling_padding(checkpoint: str | Path) -> int | None:
    """The padding id by which plain transformers finds the last token of a trained reward model's texts.

    Args:
        checkpoint: Folder or hub id.

    Returns:
        None where the checkpoint is no reward model or its configuration names no padding.
    """
    folder = Path(checkpoint)
    if folder.is_dir() and not folder.joinpath("config.json").exists():
        return None
    config = read_pretrained(AutoConfig, checkpoint)
    trained = "SequenceClassification" in "".join(config.architectures or [])
    return config.get_text_config().pad_token_id if trained else None


def whole_numbers(checkpoint: str | Path) -> set[str]:
    """Names of the tensors in a folder's safetensors files that hold whole numbers; empty for a hub id."""
    found = set()
    for path in Path(checkpoint).glob("*.safetensors") if Path(checkpoint).is_dir() else []:
        with safe_open(path, framework="pt") as weights:
            kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        found |= {name for name, kind in kinds.items() if kind.startswith(("I", "U", "BOOL"))}
    return found


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
