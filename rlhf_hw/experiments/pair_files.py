"""Pairs that an experiment has labelled, written as a file that a training reads."""

import json
from collections.abc import Sequence
from pathlib import Path

from rlhf_hw.files import write_text
from rlhf_hw.preferences.templates import Preference


def write_pairs(path: Path, preferences: Sequence[Preference]) -> None:
    """One row a pair with the homework's keys, the chosen reply first."""
    rows = [
        {"question": p.question, "response_1": p.chosen, "response_2": p.rejected, "overall_response": 1}
        for p in preferences
    ]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
