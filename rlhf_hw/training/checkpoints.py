"""What a training run leaves: its checkpoint with its record, and what a stopped run left to go on from.

A folder with the record, `training.json`, holds a complete checkpoint (see `folders.publish`).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_hw.files import digest, read_json, write_json
from rlhf_hw.preferences.reading import DataReport
from rlhf_hw.training.folders import RECORD, steps_in

log = logging.getLogger(__name__)

WHOLE = "rlhf_hw_run.json"  # in a resumable checkpoint, the last of its files
LAST = 5  # logged values that a closing value is the mean of


def readable_by_transformers_4(folder: str | Path) -> None:
    """Add what libraries that still use transformers 4 (RewardBench, older vLLM) look for under its old name.

    Without their names for the rotary embedding they would compute positions with defaults and give other
    scores, and a list of `extra_special_tokens` stops their tokenizers. transformers 5 reads the old names
    as well.
    """
    config = Path(folder) / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    for part in (values, values.get("text_config") or {}):
        part |= _rotary_of_transformers_4(part.get("rope_parameters") or {}, part.get("model_type"))
    if "dtype" in values:
        values["torch_dtype"] = values["dtype"]
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer = Path(folder) / "tokenizer_config.json"
    values = json.loads(tokenizer.read_text(encoding="utf-8"))
    if isinstance(values.get("extra_special_tokens"), list):
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
    tokenizer.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _rotary_of_transformers_4(rope: dict, model_type: str) -> dict:
    """The settings of a rotary embedding under the names of transformers 4, which stand beside each other.

    Args:
        rope: `rope_parameters` of transformers 5; Gemma 3 has them for each type of layer.
        model_type: As in `config.json`; GPT-NeoX has names of its own.
    """
    found = {}
    if "full_attention" in rope:
        found["rope_local_base_freq"] = rope.get("sliding_attention", rope["full_attention"])["rope_theta"]
        rope = rope["full_attention"]
    theta, share = (
        ("rotary_emb_base", "rotary_pct")
        if model_type == "gpt_neox"
        else ("rope_theta", "partial_rotary_factor")
    )
    scaling = dict(rope)
    for old, new in ((theta, "rope_theta"), (share, "partial_rotary_factor")):
        if new in scaling:
            found[old] = scaling.pop(new)
    kind = scaling.get("rope_type", "default")
    if kind == "longrope":  # there under its first name, with nothing beside the factors
        found["original_max_position_embeddings"] = scaling["original_max_position_embeddings"]
        scaling = {"type": kind, **{name: scaling[name] for name in ("short_factor", "long_factor")}}
    return found | ({} if kind == "default" else {"rope_scaling": scaling})


def mark_whole(checkpoint: str | Path, run: Mapping[str, Any]) -> None:
    """Note that a resumable checkpoint is whole: which run it belongs to, its files and their content."""
    found = (path for path in Path(checkpoint).rglob("*") if path.is_file())  # DeepSpeed's lie in a folder
    files = {str(path.relative_to(checkpoint)): digest(path) for path in found if path.name != WHOLE}
    write_json(Path(checkpoint) / WHOLE, {"run": run, "files": files})


def last_resumable(folder: str | Path) -> str | None:
    """Return the newest `checkpoint-<step>` that was written to its end; None if there is none.

    The mark is written last, so a folder without it, or with other files, was cut short or damaged: a disk
    that loses power can leave files of the right size without their content.
    """
    for path in steps_in(folder):
        try:
            files = read_json(path / WHOLE)["files"]
            damaged = [name for name, known in files.items() if not _is_as_noted(path / name, known)]
        except (OSError, ValueError, KeyError, AttributeError) as error:
            damaged = [str(error)]
        if not damaged:
            return str(path)
        log.warning("%s is not whole (%s): it is passed over", path, damaged[0])
    return None


def _is_as_noted(path: Path, known: str | int) -> bool:
    """Whether a file is the one whose digest was noted; by older versions its size."""
    return known == (path.stat().st_size if isinstance(known, int) else digest(path))


@dataclass
class TrainingResult:
    """What a training run leaves: its checkpoint, log history (one dict a log step), and data reports."""

    checkpoint: Path
    history: list[dict]
    metrics: dict[str, float]
    reports: dict[str, DataReport] = field(default_factory=dict)

    def curve(self, name: str) -> list[dict]:
        """The logged values of one quantity as `{"step", "value"}`."""
        return [{"step": h["step"], "value": h[name]} for h in self.history if name in h]

    def last(self, name: str) -> float:
        """Mean of the last logged values of one quantity, which single batches make noisy."""
        return float(np.mean([point["value"] for point in self.curve(name)[-LAST:]]))


def load_result(folder: str | Path) -> TrainingResult:
    """Read back the result of a finished training run from its checkpoint folder."""
    record = read_json(Path(folder) / RECORD, remedy="train that model again")
    reports = {part: DataReport(**report) for part, report in record["data"].items()}
    return TrainingResult(Path(folder), record["history"], record["metrics"], reports)
