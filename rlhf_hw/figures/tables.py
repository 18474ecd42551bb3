"""Tables for Jupyter: metrics with their intervals as text, and texts that read from left to right."""

from collections.abc import Mapping
from numbers import Integral

import pandas as pd

from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import TRAININGS, Replicated


def metric_texts(metrics: Mapping[str, float]) -> pd.Series:
    """Metrics as text for a table; an interval stands behind its value: `0.633 [0.547, 0.711]`.

    One over trainings stands in braces behind that over prompts: `0.633 [0.547, 0.711] {0.580, 0.686}`.

    Args:
        metrics: flat; `<name>_low` and `<name>_high` are the interval of `<name>`, where that is there too,
            `<name>_trainings_low` and `<name>_trainings_high` the one over trainings.

    Returns:
        One text a name; whole numbers (int) without decimals.
    """
    estimates = {name for name in metrics if f"{name}_low" in metrics and f"{name}_high" in metrics}
    inside = {f"{name}{end}" for name in estimates for end in ("_low", "_high")}
    inside |= {f"{name}{TRAININGS}{end}" for name in estimates for end in ("_low", "_high")}
    shown = {}
    for name in (name for name in metrics if name not in inside):
        value = Estimate.of(metrics, name) if name in estimates else metrics[name]
        shown[name] = str(value) if isinstance(value, Integral) else f"{value:.3f}"
        if name in estimates and (ends := Replicated.of(metrics, name).trainings):
            shown[name] += f" {{{ends.low:.3f}, {ends.high:.3f}}}"
    return pd.Series(shown, dtype=str)


class TextTable:
    """A table of texts for Jupyter, aligned to the left in whole; pandas aligns cells to the right."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __repr__(self) -> str:
        return self.table.to_string()

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            html = self.table.to_html(justify="left", border=0)
        for cell in ("td", "th"):  # in the cell itself: Jupyter's own style counts more than the row's
            html = html.replace(f"<{cell}>", f'<{cell} style="text-align: left">')
        return html
