"""The reward model beside others on the same pairs: baselines that understand nothing, and a second model.

What decides is the difference on the same pairs, with an interval over prompts and one over trainings: each
replicate of the reward model is set against baselines fitted to its own training pairs. McNemar's test of the
first replicate stands beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.data_parts import words_by_part
from rlhf_hw.experiments.result import Result, table_metrics
from rlhf_hw.experiments.scored_pairs import BASELINES, baseline_margins
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.baselines import length_direction
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.pairs import compare_reward_models
from rlhf_hw.stats.replicates import Replicated, beyond, replicated_lead, replicated_rate

FIRST = "reward model"


@dataclass(frozen=True, kw_only=True)
class Scorers(Result):
    """Several scorers on the same pairs.

    Attributes:
        table: One row a scorer: `accuracy` with its intervals (`Replicated.named`).
        leads: One row for each other scorer: `lead`, accuracy of the reward model minus its, with intervals.
        tests: McNemar's test of the first replicate against each of the others, one row each.
        orders: "rm" and the names of the others -> outcomes, shape (replicates, pairs).
    """

    table: pd.DataFrame
    leads: pd.DataFrame
    tests: pd.DataFrame
    orders: dict[str, np.ndarray]

    @property
    def rates(self) -> dict[str, Estimate]:
        """Accuracy of each scorer with its interval over prompts."""
        return {name: Estimate.of(row, "accuracy") for name, row in self.table.iterrows()}

    @property
    def verdicts(self) -> dict[str, str]:
        """What both intervals allow to say of the reward model against each of the others."""
        return {name: verdict(row.dropna().to_dict(), "lead") for name, row in self.leads.iterrows()}


def compare_scorers(
    replicates: Sequence[pd.DataFrame],
    right: np.ndarray,
    train: Sequence[Sequence[Preference]] = (),
    second: np.ndarray | None = None,
    seed: int = 0,
    own_parts: str = "",
) -> Scorers:
    """The reward model beside the baselines and another model on the same pairs.

    Args:
        replicates: The pairs as each replicate scored them.
        right: From `scored_pairs.right_orders`, shape (replicates, pairs).
        train: Each replicate's training pairs; without them there are no baselines.
        second: Margins of another reward model, shape (pairs,).
        seed: Of resampling.
        own_parts: Parts of mixed data with reward models of their own: each has a bag of words of its own.
    """
    pairs, prompts = replicates[0], replicates[0]["prompt_key"]
    fitted = [baseline_margins(part, pairs) for part in train]
    if own_parts:
        fitted = [
            f | {"words": words_by_part(t, pairs, own_parts)} for f, t in zip(fitted, train, strict=True)
        ]
    margins = {name: np.stack([part[name] for part in fitted]) for name in BASELINES if fitted}
    margins |= {} if second is None else {"second model": np.atleast_2d(second)}
    others = {name: np.stack([outcomes(row) for row in rows]) for name, rows in margins.items()}
    table = {
        name: replicated_rate(rows, prompts, seed=seed) for name, rows in {FIRST: right, **others}.items()
    }
    leads = {name: replicated_lead(right, rows, prompts) for name, rows in others.items()}
    tests = mcnemar_table({FIRST: pairs["margin"], **{n: m[0] for n, m in margins.items()}}, prompts, seed)
    metrics = table_metrics("mcnemar", tests)
    for name in table.keys() & set(BASELINES):
        metrics |= table[name].named(f"baseline.{name}.accuracy")
    for name, lead in leads.items():
        metrics |= lead.named(f"rm.lead.{name.replace(' ', '_')}")
    return Scorers(
        metrics=metrics,
        claims=lead_claims(metrics) if fitted else {},
        table=replicated_table(table, "accuracy"),
        leads=replicated_table(leads, "lead"),
        tests=tests,
        orders={"rm": right, **others},
    )


def replicated_table(found: Mapping[str, Replicated], name: str) -> pd.DataFrame:
    """One row for each, the columns of `Replicated.named`."""
    return pd.DataFrame.from_dict({key: value.named(name) for key, value in found.items()}, orient="index")


def mcnemar_table(margins: Mapping[str, np.ndarray], prompts: Sequence, seed: int = 0) -> pd.DataFrame:
    """McNemar's test of the first scorer against each of the others on the same pairs, one row each.

    Args:
        margins: name -> margins, the reward model in question first.
        prompts: prompt of each pair.

    Returns:
        Index: the other scorer. Columns: `only_first`, `only_second` (pairs that one alone has right),
        `p_value`.
    """
    first, *others = margins
    rows = {n: compare_reward_models(margins[first], margins[n], prompts, seed=seed) for n in others}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["only_first", "only_second", "p_value"])


def verdict(numbers: Mapping[str, float], key: str) -> str:
    """What a difference allows to say of the first scorer: better, worse, no difference shown.

    Args:
        numbers: `key` with its intervals, as `Replicated.named` gives them.
    """
    words = {1: "better", -1: "worse", 0: "no difference shown"}[beyond(numbers, key)]
    names = {"prompts": key, "trainings": f"{key}_trainings"}
    ends = [
        f"{name} [{numbers[f'{head}_low']:+.3f}, {numbers[f'{head}_high']:+.3f}]"
        for name, head in names.items()
        if f"{head}_low" in numbers
    ]
    return f"{words} ({', '.join(ends)})"


def lead_claims(metrics: Mapping[str, float]) -> dict[str, bool]:
    """What the leads over the baselines allow to say, beyond both intervals."""
    said = {f"rm_beats_{name}": beyond(metrics, f"rm.lead.{name}") > 0 for name in BASELINES}
    return said | {"words_beat_rm": beyond(metrics, "rm.lead.words") < 0}


def shorter_wins(train: Sequence[Sequence[Preference]]) -> bool:
    """Whether the length rule prefers the shorter reply, by the training pairs of every replicate."""
    return all(length_direction([p.chosen for p in t], [p.rejected for p in t]) < 0 for t in train)
