"""What the recorded scores of somebody's finished run say, without their models: scores and texts are enough.

A folder holds three score files (module `score_files`), plain or gzip: `rm_scores_validation.jsonl`
(preference pairs with both scores), `generated_base.jsonl` and `generated_dpo.jsonl` (replies of the two
models to the same prompts, in the same order). `summarise` turns the run that has most of this into
aggregates under `recorded.*`, as far as its files go; all runs stand side by side in `recorded.runs.*`
(module `recorded_runs`), and what may be said of them in `recorded.claims.*` (module `recorded_claims`).
Rows may be licensed otherwise than this project, so they stay where they are; what is kept beside the report
(`report/recorded.json`) are the aggregates, and no text of a row is among them but the words with which many
replies begin.

    runs = read_runs(find_recorded())
    found = summarise(fullest(runs), runs)       or, without rows,     found = read_kept()
    found.metrics["recorded.dpo.win_rate"]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.experiments.recorded_claims import statements
from rlhf_hw.experiments.recorded_runs import FEWEST, SIDES, RunReplies, beside_each_other, damage_of
from rlhf_hw.experiments.recorded_scores import (
    accuracy_by_words,
    compare_with_base,
    gap_to_chosen,
    policy_metrics,
    rise_metrics,
    validation_metrics,
)
from rlhf_hw.experiments.reply_damage import damage_metrics, sound_rows, strange_openings
from rlhf_hw.experiments.result import Result
from rlhf_hw.files import write_json
from rlhf_hw.paths import REPORT
from rlhf_hw.stats.damage import Finding
from rlhf_hw.stats.intervals import Estimate, mean_interval
from rlhf_hw.stats.policies import cases
from rlhf_hw.stats.text import reply_table

KEPT = REPORT / "recorded.json"
DIGITS = 6  # decimals kept: the same numbers then come from the rows and from the kept file
CASES = 4  # largest gains, and as many losses
REPETITIVE = 0.1  # of the 3-grams: references repeat 1 to 2 %


@dataclass(frozen=True)
class RecordedRows:
    """The rows of a recorded run; `base` and `dpo` answer the same prompts in the same order.

    Beside the columns of `score_files`: `chosen_words`, `rejected_words` in `pairs` (None where there are
    none), and `words`, `repetition` in `base` and `dpo`, which may lack `score`. `damage` is what
    `stats.damage` finds in either.
    """

    name: str
    base: pd.DataFrame
    dpo: pd.DataFrame
    damage: Mapping[str, Sequence[Finding]]
    pairs: pd.DataFrame | None = None

    @property
    def scored(self) -> bool:
        """Whether both models' replies have scores."""
        return "score" in self.base and "score" in self.dpo

    @property
    def references(self) -> pd.DataFrame:
        """Chosen and rejected replies as one table: columns `prompt_key`, `score`, `words`."""
        sides = [
            self.pairs[["prompt_key", f"{side}_score", f"{side}_words"]].set_axis(
                ["prompt_key", "score", "words"], axis=1
            )
            for side in ("chosen", "rejected")
        ]
        return pd.concat(sides, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class RecordedRun(Result):
    """What a recorded run says, from its rows or from what was kept of them.

    The statements that hold stand in the metrics as `recorded.claims.<name>` = 1, since the kept file holds
    numbers only; `claims` is empty.

    Attributes:
        cases: The most telling cases, by numbers only, from `case_table`; none without scores.
        kept: Whether it was read from the kept file, and not from rows.
        scores: Name -> scores of replies. by_length: accuracy by how many words longer the chosen reply is.
            lengths: name -> (scores, words, prompts). All three for figures, and empty or None where the
            rows have no such scores.
    """

    cases: list[dict]
    kept: bool = False
    scores: dict[str, pd.Series] = field(default_factory=dict)
    by_length: pd.DataFrame | None = None
    lengths: dict[str, tuple[pd.Series, pd.Series, list]] = field(default_factory=dict)

    def estimate(self, key: str, form: str = "+.2f") -> str:
        """The number under `recorded.<key>` with its interval, as text: "0.58 [0.54, 0.61]", or "unknown"."""
        if f"recorded.{key}" not in self.metrics:
            return "unknown"
        return format(Estimate.of(self.metrics, f"recorded.{key}"), form)

    def lines(self, form: str, *keys: str) -> str:
        """One line for each of some numbers that the run has, with its interval where it has one."""
        told = []
        for key in (key for key in keys if f"recorded.{key}" in self.metrics):
            known = f"recorded.{key}_low" in self.metrics
            value = self.estimate(key, form) if known else format(self.metrics[f"recorded.{key}"], form)
            told.append(f"{key:46s} {value}")
        return "\n".join(told) or "The files of this run do not tell."


def fullest(runs: Sequence[RunReplies]) -> RecordedRows | None:
    """The rows of the first run with scored pairs and replies, else with scored replies, else the first."""
    for wanted in (
        lambda one: one.scored and one.pairs is not None,
        lambda one: one.scored,
        lambda one: True,
    ):
        if one := next(filter(wanted, runs), None):
            return _with_words(one)
    return None


def _with_words(one: RunReplies) -> RecordedRows:
    pairs = one.pairs
    if pairs is not None:
        pairs = pairs.assign(**{f"{side}_words": reply_table(pairs[side])["words"] for side in SIDES})
    return RecordedRows(one.name, one.base, one.dpo, damage_of(one), pairs)


def summarise(rows: RecordedRows, runs: Sequence[RunReplies] = ()) -> RecordedRun:
    """All aggregates, the most telling cases by numbers only, and what the figures show.

    Args:
        rows: The run in question.
        runs: All runs, for `recorded_runs.beside_each_other`.

    Returns:
        Flat metrics under `recorded.*`: `name` and `replies`, `base` and `dpo` (replies, and with scores DPO
        against base; `wins` and `losses` are shares of the prompts), `base.damage` and `dpo.damage`
        (`damage_metrics`); with scored pairs `validation` (the reward model on pairs); with both `rise` (from
        validation pairs to generated replies, and what length accounts for) and `gap` (generated minus chosen
        of the same prompt); with scores `dpo.sound` and `dpo.other_opening` (DPO against base where no reply
        is damaged, and where base does not begin with its strangest opening); and `claims` (keys that exist
        only where the statement holds).
    """
    base, dpo, pairs = rows.base, rows.dpo, rows.pairs
    found = {policy: policy_metrics(table) for policy, table in (("base", base), ("dpo", dpo))}
    repeated = mean_interval(dpo["repetition"] - base["repetition"], base["prompt_key"].tolist())
    found["dpo"] |= repeated.named("repetition_difference")
    found |= {f"{policy}.damage": damage_metrics(signs) for policy, signs in rows.damage.items()}
    found |= {"validation": validation_metrics(pairs)} if pairs is not None else {}
    if rows.scored:
        found["dpo"] |= compare_with_base(dpo, base)
        for name, inside in groups(rows).items():
            found[f"dpo.{name}"] = compare_with_base(dpo[inside], base[inside])
    if rows.scored and pairs is not None:
        found |= {
            f"rise.{name}": rise_metrics(rows.references, t) for name, t in (("base", base), ("dpo", dpo))
        }
        found["gap"] = gap_to_chosen(pairs, base, "base") | gap_to_chosen(pairs, dpo, "dpo")
    flat = {f"recorded.{group}.{key}": value for group, part in found.items() for key, value in part.items()}
    flat |= {"recorded.name": rows.name, "recorded.replies": len(base)}
    flat |= {f"recorded.claims.{name}": 1 for name, holds in statements(flat).items() if holds}
    known = [rows.damage if one.base is base else damage_of(one) for one in runs]
    flat |= beside_each_other(runs, known) if runs else {}
    return RecordedRun(
        metrics={k: v if isinstance(v, str) else round(float(v), DIGITS) for k, v in flat.items()},
        cases=case_table(rows) if rows.scored else [],
        by_length=accuracy_by_words(pairs) if pairs is not None else None,
        **drawn_scores(rows),
    )


def drawn_scores(rows: RecordedRows) -> dict[str, dict]:
    """The fields of `RecordedRun` that hold scores for figures; empty where replies have none."""
    if not rows.scored:
        return {}
    scores, tables = {"base": rows.base["score"], "DPO": rows.dpo["score"]}, {}
    if rows.pairs is not None:
        scores["reference"], tables["pairs"] = rows.pairs["chosen_score"], rows.references
    tables |= {"base": rows.base, "DPO": rows.dpo}
    lengths = {n: (t["score"], t["words"], t["prompt_key"].tolist()) for n, t in tables.items()}
    return {"scores": scores, "lengths": lengths}


def groups(rows: RecordedRows) -> dict[str, np.ndarray]:
    """Prompts on which DPO is compared with base apart, by name: whether each belongs to the group.

    Groups too small for an interval are left out.
    """
    repetitive = ((rows.base["repetition"] > REPETITIVE) | (rows.dpo["repetition"] > REPETITIVE)).to_numpy()
    sound = sound_rows(rows.damage, len(rows.base))
    found = {} if sound.all() else {"sound": sound}
    if strange := strange_openings(rows.damage["base"]):
        found["other_opening"] = ~strange[0].rows
    sides = {"repetitive": repetitive, "not_repetitive": ~repetitive}
    prompts = rows.base["prompt_key"]
    enough = {n: prompts[inside].nunique() >= FEWEST for n, inside in {**found, **sides}.items()}
    found |= sides if all(enough[name] for name in sides) else {}
    return {name: inside for name, inside in found.items() if enough[name]}


def case_table(rows: RecordedRows) -> list[dict]:
    """The prompts with the largest gains and losses of DPO, described by numbers only.

    Returns:
        Rows of `case`, `score_difference`, and for both models `words` and `repetition`.
    """
    chosen = cases(rows.dpo["score"], rows.base["score"], CASES)
    table = []
    for kind, name in (("gains", "gain"), ("losses", "loss")):
        for row in chosen[kind]:
            record = {"case": name, "score_difference": rows.dpo["score"][row] - rows.base["score"][row]}
            for policy, replies in (("base", rows.base), ("dpo", rows.dpo)):
                record[f"{policy}_words"] = int(replies["words"][row])
                record[f"{policy}_repetition"] = round(float(replies["repetition"][row]), DIGITS)
            table.append(record | {"score_difference": round(float(record["score_difference"]), DIGITS)})
    return table


def write_kept(found: RecordedRun, path: Path = KEPT) -> None:
    """Keeps the aggregates beside the report."""
    write_json(path, {**dict(sorted(found.metrics.items())), "cases": found.cases})


def read_kept(path: Path = KEPT) -> RecordedRun:
    """The kept aggregates and cases.

    Raises:
        FileNotFoundError: nothing was kept yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"neither recorded rows nor {path}: name the folder with the rows (parameter `recorded`), or set "
            "RLHF_HW_REAL_DATA, and run once with keep=True"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    return RecordedRun(cases=content.pop("cases"), metrics=content, kept=True)
