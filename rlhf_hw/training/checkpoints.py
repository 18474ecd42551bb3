"""What a training run leaves: its checkpoint with its record, and what a stopped run left to go on from.

A folder with the record, `training.json`, holds a complete checkpoint (see `folders.publish`).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rlhf_hw.preferences.reading import DataReport
from rlhf_hw.training.folders import RECORD

LAST = 5  # logged values that a closing value is the mean of


def readable_by_transformers_4(folder: str | Path) -> None:
    """Add what libraries that still use transformers 4 (RewardBench, older vLLM) look for under its old name.

    Without `rope_theta` they would compute positions with a default and give other scores, and a list of
    `extra_special_tokens` stops their tokenizers. transformers 5 reads the old names as well.
    """
    config = Path(folder) / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type") == "default":
        values["rope_theta"] = rope["rope_theta"]
    if "dtype" in values:
        values["torch_dtype"] = values["dtype"]
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer = Path(folder) / "tokenizer_config.json"
    values = json.loads(tokenizer.read_text(encoding="utf-8"))
    if isinstance(values.get("extra_special_tokens"), list):
        values["additional_special_tokens"] = values.pop("extra_special_tokens")
    tokenizer.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def last_resumable(folder: str | Path) -> str | None:
    """Return the newest `checkpoint-<step>` that was written to its end; None if there is none.

    The trainer writes its state last, so a folder without it, or with half of it, was cut short.
    """
    steps = [p for p in Path(folder).glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(steps, key=lambda p: -int(p.name.removeprefix("checkpoint-"))):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


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
    record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
    reports = {part: DataReport(**report) for part, report in record["data"].items()}
    return TrainingResult(Path(folder), record["history"], record["metrics"], reports)
