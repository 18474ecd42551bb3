"""Two runs on the same pairs side by side: what a pretrained base model is worth over one from scratch.

Both runs have scored the same held-out pairs, each with its own replicates. Replicate k of one is set against
replicate k of the other, pair by pair, so that luck with the pairs drops out of the difference; where both
profiles train on the same pairs, that luck does too.

    other = read_other_run(Path("runs/hh/metrics.json"))
    found = compare_runs(tables, other, parts="helpful, harmless")
    found.metrics["beside.harmless.lead"], found.claims["ahead_of_other_run_harmless"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.experiments.data_parts import part_key, part_names, parts_of
from rlhf_hw.experiments.result import Result
from rlhf_hw.experiments.scored_pairs import right_orders
from rlhf_hw.files import read_json
from rlhf_hw.preferences.score_files import read_pairs
from rlhf_hw.stats.replicates import Replicated, beyond, replicated_lead, replicated_rate

IN_COMMON = 0.95  # of each run's pairs; truncation makes a few equal for one tokenizer and not for another
KEYS = ["prompt_key", "chosen", "rejected"]
# scorer in the keys of `parts.<part>.<scorer>.accuracy` -> what a figure calls it
SCORERS = {
    "rm": "reward model",
    "part_words": "words, all pairs of the part",
    "words": "words, the same pairs",
    "length": "length",
}


@dataclass(frozen=True)
class OtherRun:
    """Another run as far as it is compared: its name, its numbers, its scored pairs by replicate."""

    name: str
    numbers: Mapping[str, float]
    tables: Sequence[pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class RunsCompared(Result):
    """Two runs on the same pairs.

    Attributes:
        rates: Part ("all" for every pair) -> accuracy of the other run's reward models.
        reason: Why there is no comparison; empty where there is one.
    """

    rates: dict[str, Replicated]
    reason: str = ""


def read_numbers(path: Path) -> dict[str, float]:
    """The flat numbers that a run or one of its notebooks has recorded.

    Raises:
        InputError: the file is no JSON object.
    """
    return read_json(path, remedy="run its notebooks again, or give the metrics.json of a run")


def read_other_run(path: Path) -> OtherRun | None:
    """The run whose `metrics.json` lies at `path`; None where it was not made."""
    folder = path.parent
    files = sorted(folder.glob("scores/validation*.jsonl"), key=lambda file: (len(file.name), file.name))
    if not path.exists() or not files:
        return None
    return OtherRun(folder.name, read_numbers(path), [read_pairs(file) for file in files])


def compare_runs(
    tables: Sequence[pd.DataFrame], other: OtherRun | None, parts: str = "", seed: int = 0
) -> RunsCompared:
    """Accuracy of two runs' reward models on the pairs that both have scored, and the difference.

    Args:
        tables: The held-out pairs as this run's replicates scored them.
        other: From `read_other_run`.
        parts: Names of the parts of mixed data, see `data_parts`.
        seed: Of resampling.

    Returns:
        Metrics `beside.run`, `beside.pairs`, `beside.train_pairs` and `beside.mixed` (1: each of its models
        learned from pairs of all parts), where they are known, and for each part, and "all",
        `beside.<part>.accuracy`, `.own` (this run's on the same pairs) and `.lead` (own minus the other's)
        with their intervals. Claims beyond both intervals: `ahead_of_other_run_<part>`,
        `behind_other_run_<part>`. Where the runs have not judged the same pairs nothing but `beside.missing`,
        the reason.
    """
    if other is None:
        return not_comparable("the other run was not made")
    count = min(len(tables), len(other.tables))
    mine = [keyed(table) for table in tables[:count]]
    theirs = [keyed(table) for table in other.tables[:count]]
    common = mine[0].index.intersection(theirs[0].index)
    if len(common) < IN_COMMON * max(len(mine[0]), len(theirs[0])):
        counts = f"{len(common)} of {len(mine[0])} and {len(theirs[0])} pairs are the same"
        return not_comparable(f"{other.name} was judged on other pairs ({counts})")
    first = mine[0].loc[common]
    ours, other_right = (right_orders([t.loc[common] for t in side]) for side in (mine, theirs))
    labels = np.array(parts_of(first["meta"], parts) or ["all"] * len(first))
    metrics: dict = {"beside.run": other.name, "beside.pairs": len(common)}
    if "rm.train.pairs" in other.numbers:
        metrics["beside.train_pairs"] = other.numbers["rm.train.pairs"]
        metrics["beside.mixed"] = int("rm.train.part" not in other.numbers)
    rates, claims = {}, {}
    for part in dict.fromkeys(["all", *labels]):
        rows, key = np.flatnonzero((labels == part) | (part == "all")), f"beside.{part_key(part)}"
        prompts = list(first["prompt_key"].iloc[rows])
        rates[part] = replicated_rate(other_right[:, rows], prompts, seed=seed)
        metrics |= rates[part].named(f"{key}.accuracy")
        metrics |= replicated_rate(ours[:, rows], prompts, seed=seed).named(f"{key}.own")
        metrics |= replicated_lead(ours[:, rows], other_right[:, rows], prompts).named(f"{key}.lead")
        side = beyond(metrics, f"{key}.lead")
        claims |= {f"ahead_of_other_run_{part_key(part)}": side > 0}
        claims |= {f"behind_other_run_{part_key(part)}": side < 0}
    return RunsCompared(metrics=metrics, claims=claims, rates=rates)


def not_comparable(reason: str) -> RunsCompared:
    """No comparison, and why."""
    return RunsCompared(metrics={"beside.missing": reason}, rates={}, reason=reason)


def accuracies_by_part(
    numbers: Mapping[str, float], parts: str, other: RunsCompared | None = None, name: str = "other"
) -> dict[str, dict[str, dict[str, float]]]:
    """Who is right on each part, for `figures.hard_pairs.accuracy_by_kind`.

    Args:
        numbers: With `parts.<part>.<scorer>.accuracy`, as notebook 02 records them.
        parts: Names of the parts.
        other: Another run on the same pairs. name: what it is called.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for part in part_names(parts):
        keys = {label: f"parts.{part_key(part)}.{scorer}.accuracy" for scorer, label in SCORERS.items()}
        known = {label: key for label, key in keys.items() if key in numbers}
        found[part] = {n: Replicated.of(numbers, key).named("accuracy") for n, key in known.items()}
        if other is not None and part in other.rates:
            found[part][f"reward model of {name}"] = other.rates[part].named("accuracy")
    return found


def keyed(table: pd.DataFrame) -> pd.DataFrame:
    """A table of scored pairs by prompt and replies, each pair once."""
    return table.drop_duplicates(KEYS).set_index(KEYS, drop=False).rename_axis([None] * len(KEYS))
