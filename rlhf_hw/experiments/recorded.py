"""What the recorded scores of somebody's finished run say, without their models: scores and texts are enough.

A folder holds three score files (module `score_files`), plain or gzip: `rm_scores_validation.jsonl`
(preference pairs with both scores), `generated_base.jsonl` and `generated_dpo.jsonl` (replies of the two
models to the same prompts, in the same order). `summarise` turns the first such run into aggregates under
`recorded.*`; all runs, also those with less, stand side by side in `recorded.runs.*` (module
`recorded_runs`). Rows may be licensed otherwise than this project, so they stay where they are; what is kept
beside the report (`report/recorded.json`) are the aggregates, and no text of a row is among them but the
words with which many replies begin.

    runs = read_runs(find_recorded())
    found = summarise(first_scored(runs), runs)       or, without rows,     found = read_kept()
    found.metrics["recorded.dpo.win_rate"]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.experiments.recorded_runs import (
    FEWEST,
    SIDES,
    RunReplies,
    beside_each_other,
    damage_of,
)
from rlhf_hw.experiments.reply_damage import damage_metrics, sound_rows, strange_openings
from rlhf_hw.experiments.result import Result
from rlhf_hw.files import write_json
from rlhf_hw.paths import REPORT
from rlhf_hw.stats.damage import Finding
from rlhf_hw.stats.intervals import Estimate, mean_interval
from rlhf_hw.stats.length import RISE_NAMES, accuracy_by_length_gap, length_share, score_length_slope
from rlhf_hw.stats.pairs import preference_metrics
from rlhf_hw.stats.policies import cases, compare_policies
from rlhf_hw.stats.text import reply_metrics, reply_table

KEPT = REPORT / "recorded.json"
DIGITS = 6  # decimals kept: the same numbers then come from the rows and from the kept file
CASES = 4  # largest gains, and as many losses
REPETITIVE = 0.1  # of the 3-grams: references repeat 1 to 2 %


@dataclass(frozen=True)
class RecordedRows:
    """The rows of a recorded run; `base` and `dpo` have one row a prompt, in the same order.

    Beside the columns of `score_files`: `chosen_words`, `rejected_words` in `pairs`, and `words`,
    `repetition` in `base` and `dpo`. `damage` is what `stats.damage` finds in either.
    """

    pairs: pd.DataFrame
    base: pd.DataFrame
    dpo: pd.DataFrame
    damage: Mapping[str, Sequence[Finding]]

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
        cases: The most telling cases, by numbers only, from `case_table`.
        scores: Name -> scores of replies. by_length: accuracy by how many words longer the chosen reply is.
            lengths: name -> (scores, words, prompts). All three for figures, and empty or None without rows.
    """

    cases: list[dict]
    scores: dict[str, pd.Series] = field(default_factory=dict)
    by_length: pd.DataFrame | None = None
    lengths: dict[str, tuple[pd.Series, pd.Series, list]] = field(default_factory=dict)

    def estimate(self, key: str, form: str = "+.2f") -> str:
        """The number under `recorded.<key>` with its interval, as text: "0.58 [0.54, 0.61]", or "unknown"."""
        if f"recorded.{key}" not in self.metrics:
            return "unknown"
        return format(Estimate.of(self.metrics, f"recorded.{key}"), form)


def first_scored(runs: Sequence[RunReplies]) -> RecordedRows | None:
    """The rows of the first run that has scored pairs and scored replies; None where none has."""
    for one in runs:
        if one.scored and one.pairs is not None:
            words = {f"{side}_words": reply_table(one.pairs[side])["words"] for side in SIDES}
            return RecordedRows(one.pairs.assign(**words), one.base, one.dpo, damage_of(one))
    return None


def summarise(rows: RecordedRows, runs: Sequence[RunReplies] = ()) -> RecordedRun:
    """All aggregates, the most telling cases by numbers only, and what the figures show.

    Args:
        rows: The run in question.
        runs: All runs, for `recorded_runs.beside_each_other`.

    Returns:
        Flat metrics under `recorded.*`: `validation` (the reward model on pairs), `base` and `dpo` (replies,
        and DPO against base; `wins` and `losses` are shares of the prompts), `rise` (from validation pairs to
        generated replies, and what length accounts for), `gap` (generated minus chosen of the same prompt),
        `base.damage` and `dpo.damage` (`damage_metrics`), `dpo.sound` and `dpo.other_opening` (DPO against
        base where no reply is damaged, and where base does not begin with its strangest opening), and
        `claims` (keys that exist only where the statement holds).
    """
    base, dpo = rows.base, rows.dpo
    found = {
        "validation": validation_metrics(rows.pairs),
        "base": policy_metrics(base),
        "dpo": policy_metrics(dpo) | compare_with_base(dpo, base),
        "rise.base": rise_metrics(rows.references, base),
        "rise.dpo": rise_metrics(rows.references, dpo),
        "gap": {
            k: v
            for name, table in (("base", base), ("dpo", dpo))
            for k, v in gap_to_chosen(rows.pairs, table, name).items()
        },
    }
    found |= {f"{policy}.damage": damage_metrics(signs) for policy, signs in rows.damage.items()}
    for name, inside in groups(rows).items():
        found[f"dpo.{name}"] = compare_with_base(dpo[inside], base[inside])
    flat = {f"recorded.{group}.{key}": value for group, part in found.items() for key, value in part.items()}
    flat |= {f"recorded.claims.{name}": 1 for name, holds in statements(flat).items() if holds}
    known = [rows.damage if one.base is base else damage_of(one) for one in runs]
    flat |= beside_each_other(runs, known) if runs else {}
    tables = {"pairs": rows.references, "base": base, "DPO": dpo}
    return RecordedRun(
        metrics={k: v if isinstance(v, str) else round(float(v), DIGITS) for k, v in flat.items()},
        cases=case_table(rows),
        scores={"base": base["score"], "DPO": dpo["score"], "reference": rows.pairs["chosen_score"]},
        by_length=accuracy_by_words(rows.pairs),
        lengths={n: (t["score"], t["words"], t["prompt_key"].tolist()) for n, t in tables.items()},
    )


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


def accuracy_by_words(pairs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by how many words longer the chosen reply is."""
    longer = pairs["chosen_words"] - pairs["rejected_words"]
    return accuracy_by_length_gap(pairs["margin"], longer, pairs["prompt_key"].tolist())


def validation_metrics(pairs: pd.DataFrame) -> dict[str, float]:
    """`preference_metrics` of the pairs; `accuracy_strict` counts ties as wrong."""
    chosen, rejected = pairs["chosen_score"], pairs["rejected_score"]
    found = preference_metrics(
        chosen,
        rejected,
        prompts=pairs["prompt_key"].tolist(),
        chosen_lengths=pairs["chosen_words"],
        rejected_lengths=pairs["rejected_words"],
    )
    return found | {
        "accuracy_strict": float((chosen > rejected).mean()),
        "chosen_mean": float(chosen.mean()),
        "rejected_mean": float(rejected.mean()),
        "score_mean": float((chosen.mean() + rejected.mean()) / 2),
        "words_mean": float((pairs["chosen_words"].mean() + pairs["rejected_words"].mean()) / 2),
    }


def policy_metrics(replies: pd.DataFrame) -> dict[str, float]:
    """`reply_metrics` of one model's replies, and the slope of score against length."""
    slope = score_length_slope(replies["score"], replies["words"], replies["prompt_key"].tolist())
    return reply_metrics(replies["response"].tolist(), replies["score"]) | slope


def compare_with_base(dpo: pd.DataFrame, base: pd.DataFrame) -> dict[str, float]:
    """`compare_policies` with lengths in words; wins, losses and ties as shares of the prompts."""
    found = compare_policies(
        dpo["score"], base["score"], dpo["prompt_key"].tolist(), dpo["words"], base["words"]
    )
    return found | {name: found[name] / len(dpo) for name in ("wins", "losses", "win_ties")}


def rise_metrics(references: pd.DataFrame, replies: pd.DataFrame) -> dict[str, float]:
    """Rise of the mean score from reference replies to generated ones and the share that length accounts for.

    The keys of `length_share`, the reward for length learnt across all reference replies; those that end in
    `_within` learn it from the two replies to the same prompt only.
    """
    found: dict[str, float] = {}
    for ending, within in (("", False), ("_within", True)):
        part = length_share(
            references["score"],
            references["words"],
            replies["score"],
            replies["words"],
            references["prompt_key"].tolist(),
            replies["prompt_key"].tolist(),
            within_prompts=within,
        )
        for name in RISE_NAMES if not within else RISE_NAMES[1:]:
            if name in part:  # the share of a rise that may be none is left out
                found |= {f"{name}{ending}{end}": part[f"{name}{end}"] for end in ("", "_low", "_high")}
    return found


def gap_to_chosen(pairs: pd.DataFrame, replies: pd.DataFrame, name: str) -> dict[str, float]:
    """Generated minus chosen reply of the same prompt, over the prompts that have both."""
    chosen = replies["prompt_key"].map(pairs.groupby("prompt_key")["chosen_score"].mean())
    inside = chosen.notna()
    if not inside.any():
        return {}
    gap = (replies["score"] - chosen)[inside]
    return mean_interval(gap, replies["prompt_key"][inside].tolist()).named(name)


def statements(metrics: Mapping[str, float]) -> dict[str, bool]:
    """What the numbers allow to say of the recorded run."""
    prefix = "recorded.dpo."
    return {
        "gain": metrics[f"{prefix}win_rate_low"] > 0.5,
        "gain_at_equal_length": metrics.get(f"{prefix}win_rate_length_controlled_low", 0) > 0.5,
        "gain_without_repetition": metrics.get(f"{prefix}not_repetitive.win_rate_low", 0) > 0.5,
        "base_damaged": "recorded.base.damage.opening" in metrics,
        "gain_without_that_opening": metrics.get(f"{prefix}other_opening.win_rate_low", 0) > 0.5,
        "gain_without_damage": metrics.get(f"{prefix}sound.win_rate_low", 0) > 0.5,
        "dpo_shorter": metrics[f"{prefix}words_mean"] < metrics["recorded.base.words_mean"],
        "dpo_repeats_more": metrics[f"{prefix}repetition"] > metrics["recorded.base.repetition"],
        "repetitive_lead_not_at_equal_length": metrics.get(f"{prefix}repetitive.win_rate_low", 0)
        > 0.5
        > metrics.get(f"{prefix}repetitive.win_rate_length_controlled_low", 1),
    }


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
    return RecordedRun(cases=content.pop("cases"), metrics=content)
