"""One run's folder: where notebooks find what earlier ones wrote, and where numbers and figures go.

`runs/<name>/` holds checkpoints, TensorBoard logs, score files, figures and `metrics.json`. Each stage
(notebook) writes its own `metrics/<stage>.json`; `metrics.json` is their union, so that running a stage
again replaces its numbers and no stale one stays behind.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.files import write_json
from rlhf_hw.paths import RUNS

# which notebook makes what, for `Run.need`
MAKERS = {
    "base": "00_base_model",
    "reward_model": "01_reward_model_training",
    "scores/validation.jsonl": "02_reward_model_evaluation",
    "scores/train.jsonl": "02_reward_model_evaluation",
    "dpo": "04_dpo_training",
    "scores/generated_validation_base.jsonl": "05_dpo_inference_analysis",
    "scores/generated_validation_dpo.jsonl": "05_dpo_inference_analysis",
}


class Run:
    """The folder of one run.

    Args:
        name: The run's name below `runs/`, or a path of its own.
        make: (artefact, name of the run) -> None, makes an artefact that is needed and missing.
    """

    def __init__(self, name: str, make: Callable[[str, str], object] | None = None):
        if not name:
            raise InputError("run: expected a name such as 'nano', found an empty string")
        self.name, self.make = name, make
        self.path = RUNS / name
        self.fig = self.path / "fig"
        self.fig.mkdir(parents=True, exist_ok=True)

    def __truediv__(self, relative: str) -> Path:
        return self.path / relative

    def scores(self, name: str) -> Path:
        """Path of the score file called `name`."""
        path = self.path / "scores" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        return path

    def need(self, artefact: str) -> Path:
        """Path of an artefact; if it is missing, run the notebook that makes it, at its defaults."""
        path = self.path / artefact
        if not path.exists() and self.make is not None:
            self.make(artefact, self.name)
        return path

    def kept(self, artefact: str, make: Callable, load: Callable, settings: Mapping[str, Any]) -> Any:
        """What `make` returns; where the same call made the artefact before, what `load` reads back from it.

        So an edit of a figure draws it again and trains nothing.

        Args:
            artefact: File or folder of the run that `make` writes.
            make: Called without arguments; its module's code counts for whether the artefact is out of date.
            load: Reads the result back from the artefact's path.
            settings: Everything that `make` depends on besides its code.
        """
        return make()

    def record(self, stage: str, metrics: Any) -> None:
        """Replace the numbers of one stage and rewrite `metrics.json`.

        Args:
            stage: Name of the stage, for example "02".
            metrics: Flat mapping from dotted key to number or text, or the result of an experiment with
                `metrics`, `claims` (those that hold become keys) and `tables` (written for the report).

        Raises:
            ValueError: A value is nested, or another stage already wrote a key.
        """
        if hasattr(metrics, "claims"):
            for name, rows in metrics.tables.items():
                self.table(name, rows)
            metrics = metrics.metrics | claims(**metrics.claims)
        clean = {key: plain_value(key, value) for key, value in metrics.items()}
        others = self._stages(skip=stage)
        clash = sorted(set(clean) & set(others))
        if clash:
            raise InputError(f"{self.path}: stage {stage} writes keys of another stage: {clash[:5]}")
        write_json(self.path / "metrics" / f"{stage}.json", clean)
        write_json(self.path / "metrics.json", dict(sorted({**others, **clean}.items())))

    def table(self, name: str, rows: list[dict]) -> None:
        """Write a table for the report: a list of flat rows."""
        write_json(self.path / "tables" / f"{name}.json", rows)

    def _stages(self, skip: str = "") -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for path in sorted((self.path / "metrics").glob("*.json")):
            if path.stem != skip:
                merged.update(json.loads(path.read_text(encoding="utf-8")))
        return merged


def plain_value(key: str, value: Any) -> Any:
    """Return a number, text or flag as plain Python; NaN and nested values are refused."""
    if isinstance(value, str | bool):
        return value
    if getattr(value, "ndim", 0) or isinstance(value, list | dict | tuple) or value is None:
        raise InputError(f"metric {key!r}: expected one number or text, found {type(value).__name__}")
    number = value.item() if "item" in dir(value) else value
    if isinstance(number, float) and not math.isfinite(number):
        raise InputError(f"metric {key!r} is {number}; a report cannot show it")
    return number


def prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The same metrics with `prefix.` before each key."""
    return {f"{prefix}.{key}": value for key, value in metrics.items()}


def table_metrics(prefix: str, table: "pd.DataFrame") -> dict[str, float]:
    """A table's numbers under `prefix.<row>.<column>`; spaces in the rows' names become underscores."""
    columns = {name: table[name].items() for name in table}
    return {f"{prefix}.{row.replace(' ', '_')}.{n}": v for n, items in columns.items() for row, v in items}


def claims(**statements: bool) -> dict[str, bool]:
    """Flags for the report: only true statements become keys, `claims.<name>`."""
    return {f"claims.{name}": True for name, true in statements.items() if true}
