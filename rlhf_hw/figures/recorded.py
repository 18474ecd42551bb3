"""Figures of a recorded run, drawn from its rows where they are at hand and else shown as they were kept.

    show_recorded(found, "recorded_length", results.fig)

`found` is an `experiments.recorded.RecordedRun`, or anything with its fields.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rlhf_hw.figures.replies import inference_distributions, win_rate_forest
from rlhf_hw.figures.scores import accuracy_by_length, score_against_length
from rlhf_hw.figures.style import show, show_kept
from rlhf_hw.figures.tables import TextTable
from rlhf_hw.paths import FIG
from rlhf_hw.stats.intervals import Estimate

WIN_RATES = {
    f"{group}, {kind}": f"recorded.dpo.{part}{key}"
    for group, part in (
        ("all prompts", ""),
        ("no repetition", "not_repetitive."),
        ("repetition", "repetitive."),
        ("no strange opening", "other_opening."),
        ("no damage", "sound."),
    )
    for kind, key in (("as counted", "win_rate"), ("at equal length", "win_rate_length_controlled"))
}


def recorded_distributions(scores: Mapping[str, pd.Series]) -> Figure:
    """Scores of base and DPO replies, and of the pairs' chosen ones ("reference") where there are pairs."""
    return inference_distributions(scores, title="recorded scores")


def recorded_accuracy(by_length: pd.DataFrame) -> Figure:
    """Accuracy against how much longer the chosen reply is, from `stats.length.accuracy_by_length_gap`."""
    return accuracy_by_length(by_length, unit="words")


def recorded_length(lengths: Mapping[str, tuple]) -> Figure:
    """Score against length: both replies of the pairs ("pairs") where there are any, those of base and DPO.

    Args:
        lengths: name -> (scores, words, prompts).
    """
    return score_against_length(lengths, unit="words")


def recorded_win_rate(metrics: Mapping[str, float]) -> Figure:
    """Win rates of DPO, as counted and at equal length: all prompts, and the groups apart."""
    known = {label: key for label, key in WIN_RATES.items() if key in metrics}
    return win_rate_forest({label: Estimate.of(metrics, key) for label, key in known.items()})


DRAWINGS: dict[str, Callable[..., Figure]] = {
    "recorded_distributions": lambda found: recorded_distributions(found.scores),
    "recorded_accuracy": lambda found: recorded_accuracy(found.by_length),
    "recorded_length": lambda found: recorded_length(found.lengths),
    "recorded_win_rate": lambda found: recorded_win_rate(found.metrics),
}
OF_PAIRS = ("recorded_accuracy",)  # the others are of scored replies


SIGNS = ("opening", "template", "cut", "same", "loop", "language", "prompt", "empty")
RUN_LINES = {  # what a run's line shows -> how
    "replies": ",.0f",
    "prompts": ",.0f",
    "accuracy": ".3f",
    "chosen_mean": "+.2f",
    "base_score": "+.2f",
    "dpo_score": "+.2f",
    "base_rise": "+.2f",
    "dpo_rise": "+.2f",
    "base_words": ".0f",
    "dpo_words": ".0f",
    "words_difference": "+.0f",
    "win_rate": ".2f",
    "win_rate_length_controlled": ".2f",
    "win_rate_sound": ".2f",
    "sound": ",.0f",
    "follows_length": "+.2f",
    "base_repetition": ".2f",
    "dpo_repetition": ".2f",
    "base_opening": "",
    "base_opening_share": ".1%",
    "base_damaged": ".1%",
    "base_cut": ".1%",
    "dpo_damaged": ".1%",
    "dpo_cut": ".1%",
}


def signs_table(metrics: Mapping[str, float | str]) -> TextTable:
    """Signs of damage in the replies of base and DPO, one row a sign, openings first.

    Columns: file, sign, count, share and lead above the other file with intervals, rows (three numbers of
    what is named), and whether it is "damage", a "habit" that others have as well, or not named.
    """
    rows = []
    for policy in ("base", "dpo"):
        prefix = f"recorded.{policy}.damage"
        for key in numbered(metrics, f"{prefix}.openings", "text"):
            said = "damage" if f"{key}.damage" in metrics else "habit"
            what = f"opening: {metrics[f'{key}.text']}"
            rows.append(_sign(metrics, f"{key}.", f"{key}.share", file=policy, sign=what, said=said))
        for sign in (sign for sign in SIGNS if sign != "opening" and f"{prefix}.{sign}" in metrics):
            said = "damage" if f"{prefix}.{sign}_named" in metrics else ""
            key = f"{prefix}.{sign}"
            rows.append(_sign(metrics, f"{key}_", key, file=policy, sign=sign, said=said))
    return TextTable(pd.DataFrame(rows).set_index("file"))


def _sign(metrics: Mapping[str, float | str], prefix: str, share: str, **told: str) -> dict[str, str]:
    """A row of `signs_table`."""
    numbers = {
        "count": f"{metrics[f'{prefix}count']:.0f}",
        "share": format(Estimate.of(metrics, share), ".1%"),
        "lead": format(Estimate.of(metrics, f"{prefix}lead"), "+.1%"),
    }
    return told | numbers | {"rows": metrics.get(f"{prefix}rows", "")}


def runs_table(metrics: Mapping[str, float | str]) -> TextTable:
    """The runs side by side, from `recorded.runs.<n>.*`: one column a run, empty where its files end."""
    columns = {}
    for prefix in numbered(metrics, "recorded.runs"):
        shown = {}
        for name, form in RUN_LINES.items():
            if f"{prefix}.{name}_low" in metrics:
                shown[name] = format(Estimate.of(metrics, f"{prefix}.{name}"), form)
            elif f"{prefix}.{name}" in metrics:
                shown[name] = format(metrics[f"{prefix}.{name}"], form)
        columns[metrics[f"{prefix}.name"]] = pd.Series(shown, dtype=str)
    return TextTable(pd.DataFrame(columns, index=list(RUN_LINES)).dropna(how="all").fillna(""))


def published_table(metrics: Mapping[str, float | str]) -> TextTable:
    """What others published of their runs, from `recorded.published.<n>.*`."""
    rows = []
    for prefix in numbered(metrics, "recorded.published"):
        row = {"run": metrics[f"{prefix}.name"], "edition": f"{metrics[f'{prefix}.edition']:.0f}"}
        for name, form in (("accuracy", ".3f"), ("base", ".2f"), ("dpo", ".2f"), ("wins", ".0%")):
            known = [metrics.get(f"{prefix}.{name}{end}") for end in ("", "_high")]
            row[name] = " to ".join(format(value, form) for value in known if value is not None)
        rows.append(row)
    return TextTable(pd.DataFrame(rows).set_index("run"))


def numbered(metrics: Mapping[str, float | str], prefix: str, key: str = "name") -> list[str]:
    """`<prefix>.1`, `<prefix>.2` and so on, as far as they have a name (or another key)."""
    found = []
    while f"{prefix}.{len(found) + 1}.{key}" in metrics:
        found.append(f"{prefix}.{len(found) + 1}")
    return found


def show_recorded(found, name: str, folder: Path) -> None:
    """Draw a figure, save it in `folder` and show it; where no rows are at hand, show the kept one.

    Where the files of the run have no such scores, one line says so.

    Args:
        found: `kept` (whether it is from the kept file), `metrics`, and from rows `scores`, `by_length` and
            `lengths`.
        name: One of `DRAWINGS`.
        folder: Where drawn figures go.
    """
    if found.kept:
        show_kept(FIG, name)
    elif (found.by_length is not None) if name in OF_PAIRS else found.scores:
        show(DRAWINGS[name](found), folder, name)
    else:
        what = "pairs" if name in OF_PAIRS else "replies"
        from IPython.display import Markdown, display  # only notebooks have it

        display(Markdown(f"`{name}` is not drawn: this run has no scores of {what}."))
