"""What trials of planted faults have shown, counted for each fault, each reward model and each kind of part.

Five numbers stand together, since each alone can please: how often a fault was planted, how often the reward
model minded it at all (`heard`), how often the decomposition gave it the right share of the gap, how often it
was named first, and how often it was named where chance is in the gap as well (`noisy`). The same faults are
planted with every reward model; a part of the decomposition is `borne` out only if it is with each of them. A
part whose faults some reward model does not mind is not tested.

    counted = count_trials([trials_of_first_model, trials_of_second_model])
    counted.metrics["planted.padded.right"], counted.borne["quality"]
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.result import prefixed
from rlhf_hw.experiments.score_gap.decompose import PARTS, REMAINDER
from rlhf_hw.experiments.score_gap.edits import FACTORS
from rlhf_hw.experiments.score_gap.planted_trials import Trial

ENOUGH = 0.8  # share of the heard trials, with every reward model, in which the planted part must be right
GROUPS: Mapping[str, frozenset[str]] = {  # parts that are counted together
    "switches": frozenset(FACTORS),
    **{name: frozenset({name}) for name in REMAINDER},
}


@dataclass(frozen=True)
class Counted:
    """What all trials show.

    Attributes:
        metrics: `planted.<fault>.<number>`, the same for the groups of `GROUPS`, for `couples`, and for each
            reward model (`model_1`: its trials of single switches); `clean.trials` and `clean.alarms`.
        table: The same for a notebook, one row a fault, group or reward model.
        heard: Parts of which every reward model minds some fault: they are tested.
        borne: Parts that are tested and right often enough with every reward model.
    """

    metrics: dict[str, float | str]
    table: pd.DataFrame
    heard: dict[str, bool]
    borne: dict[str, bool]


def count_trials(by_model: Sequence[Sequence[Trial]]) -> Counted:
    """Count the trials of several reward models, by fault, by kind, by reward model and in sum.

    Args:
        by_model: From `planted_trials.run_trials`, one list for each reward model.
    """
    everything = [trial for trials in by_model for trial in trials]
    single = [trial for trial in everything if len(trial.planted) == 1]
    names = dict.fromkeys((t.faults[0], t.planted[0]) for t in single)
    rows = {(key, name): [t for t in single if t.faults[0] == key] for key, name in names}
    rows |= {(g, f"all of {g}"): of_parts(everything, parts) for g, parts in GROUPS.items()}
    rows["couples", "two switches at once"] = [t for t in everything if len(t.planted) > 1]
    for number, trials in enumerate(by_model, 1):
        rows[f"model_{number}", f"switches, reward model {number}"] = of_parts(trials, FACTORS)
    counted = {label: counts(trials) for label, trials in rows.items() if trials}
    clean = [trial for trial in everything if not trial.planted]
    metrics = {"clean.trials": len(clean), "clean.alarms": sum(bool(t.named) for t in clean)}
    for number, trials in enumerate(by_model, 1):
        metrics[f"clean.model_{number}.alarms"] = sum(bool(t.named) for t in trials if not t.planted)
    for (key, _), found in counted.items():
        metrics |= prefixed(f"planted.{key}", found)
    right = {part: [rightness(of_parts(trials, {part})) for trials in by_model] for part in PARTS}
    return Counted(
        metrics,
        shown({name: found for (_, name), found in counted.items()}, metrics),
        {part: bool(shares) and None not in shares for part, shares in right.items()},
        {
            part: bool(shares) and all(share is not None and share >= ENOUGH for share in shares)
            for part, shares in right.items()
        },
    )


def of_parts(trials: Sequence[Trial], parts: Collection[str]) -> list[Trial]:
    """The trials of a single fault of some parts."""
    return [t for t in trials if len(t.planted) == 1 and t.factors <= set(parts)]


def counts(trials: Sequence[Trial]) -> dict[str, float | str]:
    """How trials of planted faults went.

    Returns:
        `planted` and `heard`; of those heard `right` (the share is in `planted_trials.SHARE`), `named` (the
        planted part, and nothing before it) and the smallest and largest share, `share_min` and `share_max`,
        which without a trial that is heard are not there; `shares`, both as text; `noisy`, trials with a
        coin, and `noisy_named`.
    """
    without_coin = [t for t in trials if not t.noisy]
    heard, noisy = [t for t in without_coin if not t.silent], [t for t in trials if t.noisy]
    found = {
        "planted": len(without_coin),
        "heard": len(heard),
        "right": sum(t.right for t in heard),
        "named": sum(t.found for t in heard),
        "noisy": len(noisy),
        "noisy_named": sum(t.found for t in noisy),
    }
    shares = [t.share for t in heard]
    if not shares:
        return found | {"shares": "–"}
    least, most = min(shares), max(shares)
    return found | {"share_min": least, "share_max": most, "shares": f"{least:.0%} / {most:.0%}"}


def rightness(trials: Sequence[Trial]) -> float | None:
    """Share of the heard trials whose planted part is right, or None where none is heard."""
    found = counts(trials)
    return found["right"] / found["heard"] if found["heard"] else None


def shown(counted: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Any]) -> pd.DataFrame:
    """The counts as texts."""
    rows = {
        name: {
            "heard": f"{c['heard']} of {c['planted']}",
            "share right": f"{c['right']} of {c['heard']}",
            "smallest / largest share": c["shares"],
            "named": f"{c['named']} of {c['heard']}",
            "named, noisy": f"{c['noisy_named']} of {c['noisy']}" if c["noisy"] else "",
            "false alarms": "",
        }
        for name, c in counted.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    alarms = f"{metrics['clean.alarms']} of {metrics['clean.trials']}"
    table.loc["nothing planted"] = {**dict.fromkeys(table.columns, ""), "false alarms": alarms}
    return table


def share_table(trials: Sequence[Trial]) -> tuple[np.ndarray, list[str], list[str]]:
    """Mean shares for `figures.score_gap.planted_matrix`: what was planted against what it was attributed to.

    Returns:
        Shape (planted, attributed), names of the rows, in the order of the parts to blame, names of the
        columns. Silent and noisy trials are left out, and so are couples.
    """
    heard = [t for t in trials if len(t.planted) == 1 and not t.silent and not t.noisy]
    if not heard:
        raise InputError("every planted fault was silent: this reward model minds none of them")
    columns = [name for name in PARTS if name in heard[0].shares]
    rows: dict[str, list[list[float]]] = {}
    for trial in sorted(heard, key=lambda t: PARTS.index(*t.factors)):
        rows.setdefault(trial.planted[0], []).append([trial.shares[name] for name in columns])
    return np.array([np.mean(values, axis=0) for values in rows.values()]), list(rows), columns
