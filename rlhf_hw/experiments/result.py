"""The shape of an experiment: one call computes, and one object holds all that was found.

To add an experiment X:

1. `experiments/X.py`. Functions that need models write score files or return tables; one function of these
   tables alone evaluates them and returns a subclass of `Result`: numbers for `metrics.json`, statements,
   tables for the report, and beside them, as fields of plain data, what its figures show.
2. `figures/X.py` draws such an object, or fields of it; it imports no experiment.
3. `notebooks/NN_X.ipynb` tells: cells that need models first, then the one call, then section by section a
   piece of what was found, each figure by `show(draw(found), results.fig, "name")`; at its end
   `results.record("NN", found)`.
4. `pipeline/graph.py` says what the notebook needs, makes and draws, and whether the default run leaves it
   out (`experiment`).
5. `report/report.en.md` and `report.zh.md` get a section each, with the same keys, which opens with its idea.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment found.

    Attributes:
        metrics: Flat, from the whole dotted key ("rm.validation.accuracy") to a number.
        claims: Statements that a text may make where they are true: name -> whether the numbers bear it out.
        tables: Rows for tables of the report, by the table's name.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    claims: dict[str, bool] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The same metrics with `prefix.` before each key."""
    return {f"{prefix}.{key}": value for key, value in metrics.items()}


def verdicts(expectations: Mapping[str, str], claims: Mapping[str, bool]) -> list[dict[str, str]]:
    """Every expectation, in words, and whether the claim of its name was borne out."""
    said = {True: "borne out", False: "not borne out"}
    return [{"expected": text, "found": said[claims[name]]} for name, text in expectations.items()]


def averaged(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over several trainings; whole numbers that are alike in all stay whole.

    Args:
        found: The numbers of each training; names that one of them lacks are left out.
    """
    names = [name for name in found[0] if all(name in other for other in found)]
    columns = {name: [numbers[name] for numbers in found] for name in names}
    return {n: v[0] if len(set(v)) == 1 else sum(v) / len(v) for n, v in columns.items()}


def table_metrics(prefix: str, table: pd.DataFrame) -> dict[str, float]:
    """A table's numbers under `prefix.<row>.<column>`; spaces in the rows' names become underscores."""
    columns = {name: table[name].items() for name in table}
    return {f"{prefix}.{row.replace(' ', '_')}.{n}": v for n, items in columns.items() for row, v in items}
