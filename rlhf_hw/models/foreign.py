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
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig
from transformers.utils.hub import cached_file

from rlhf_hw.models.hub import read_pretrained

SCORE_HEAD = "score_head.weight"
OWN_HEAD = "score.weight"
# where a checkpoint has its weights, in the order in which transformers looks for them
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
WEIGHT_FILES += ("pytorch_model.bin", "pytorch_model.bin.index.json")


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
    first = next((path for name in WEIGHT_FILES if (path := folder / name).exists()), None)
    if first is not None and first.suffix == ".json":
        return set(json.loads(first.read_text(encoding="utf-8"))["weight_map"])
    return set(weight_shapes(folder))


def score_heads(checkpoint: str | Path, width: int, layers: set[str]) -> list[str]:
    """Names of all weights in a checkpoint that can be its score head.

    Args:
        checkpoint: Folder, or hub id of a model that has been loaded.
        width: Of the model's hidden states.
        layers: Names of the weights that the model has besides its head.

    Returns:
        Those of shape (1, width), and the two known names whatever their shape.
    """
    beyond = {name.partition(".")[2] for name in layers}  # a checkpoint may leave the model's own name out
    # a part of a layer that is not read, such as the gate of a shared expert that foretells further tokens
    parts = {_last_names(name) for name in layers}
    found = weight_shapes(checkpoint)
    likely = {name for name, shape in found.items() if shape == (1, width)} - layers - beyond
    likely = {name for name in likely if _last_names(name) not in parts}
    return sorted(likely | ({OWN_HEAD, SCORE_HEAD} & found.keys()))


def _last_names(weight: str) -> tuple[str, ...]:
    return tuple(weight.split(".")[-3:])


def weight_shapes(checkpoint: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's weights, read without loading them; empty where there are none.

    Args:
        checkpoint: Folder, or hub id of a model that has been loaded.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(checkpoint):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as weights:
                found |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        else:
            held = torch.load(path, mmap=True, weights_only=True, map_location="cpu")
            found |= {name: tuple(weight.shape) for name, weight in held.items()}
    return found


def _weight_files(checkpoint: str | Path) -> Iterator[Path]:
    """The files that hold a checkpoint's weights."""
    for name in WEIGHT_FILES:
        if (path := _file(checkpoint, name)) is None:
            continue
        if path.suffix != ".json":
            yield path
            return
        parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        yield from filter(None, (_file(checkpoint, part) for part in parts))
        return


def _file(checkpoint: str | Path, name: str) -> Path | None:
    """A file of a checkpoint's folder, or of a hub id where it was fetched."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint) / name if (Path(checkpoint) / name).exists() else None
    options = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    found = cached_file(str(checkpoint), name, **options)
    return Path(found) if found else None
