"""Folders of recorded runs in small, with scores and without, for the tests of notebook 07."""

import json
from pathlib import Path

import numpy as np


def run_folder(
    folder: Path,
    gain: float | None,
    words: tuple[int, int] = (30, 20),
    sets: tuple[str, ...] = ("",),
    samples: int = 1,
) -> Path:
    """A run of 40 prompts; a word is worth 0.1 and DPO `gain` more, None: no scores."""
    folder.mkdir()
    draw = np.random.default_rng(len(folder.name))
    for name in sets:
        for policy, mean in zip(("base", "dpo"), words, strict=True):
            rows = []
            for number in range(40 * samples):
                count = int(draw.integers(mean - 5, mean + 6))
                text = " ".join(f"w{n}" for n in draw.integers(0, 9999, count)) + "."
                rows.append({"prompt": f"question {number // samples}?", "response": text})
                if gain is not None:
                    rows[-1]["score"] = 0.1 * count + gain * (policy == "dpo")
            stem = f"replies_{name}_{policy}" if name else f"generated_{policy}"
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{stem}.jsonl").write_text(lines, encoding="utf-8")
    return folder
