"""The score gap as one experiment: the gaps of base and DPO, DPO's gain, and trials of planted faults.

gaps = {"base": measure_gap(...), "dpo": measure_gap(...)}
found = take_apart(gaps, run_trials(...), price_from_pairs(pairs))
found.parts["dpo"]["length"], found.claims["score_gap_positive"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.score_gap.decompose import ORDER, decompose, part_metrics
from rlhf_hw.experiments.score_gap.edits import FACTORS
from rlhf_hw.experiments.score_gap.planted_trials import Trial, planted_metrics, share_table
from rlhf_hw.experiments.score_gap.policy_gap import PolicyGap
from rlhf_hw.stats.intervals import Estimate, mean_interval

COLUMNS = {"base": "base", "dpo": "DPO", "gain": "DPO - base"}  # what tables call the gaps
SIGNS = ("distance, generated - reference", "disagreement, generated - reference")


@dataclass(frozen=True, kw_only=True)
class ScoreGap(Result):
    """The gaps taken apart.

    Attributes:
        parts: "base", "dpo", "gain" -> `gap` and its parts, as `decompose.decompose` names them.
        price: Points paid for a unit of gold, or None.
        distance: Of DPO's replies from the training replies, minus that of the references.
        unfamiliar: Mean signs of unfamiliarity, one column a policy.
        planted: Numbers of the trials, the keys of `planted_metrics`.
        trials: The trials with planted faults.
    """

    parts: dict[str, dict[str, Estimate]]
    price: float | None
    distance: Estimate
    unfamiliar: pd.DataFrame
    planted: dict[str, float]
    trials: list[Trial]

    @property
    def shares(self) -> tuple[np.ndarray, list[str], list[str]]:
        """Where the gaps of planted faults went, from `planted_trials.share_table`."""
        return share_table(self.trials)

    def texts(self, *names: str) -> pd.DataFrame:
        """Parts of some gaps with their intervals, one column each."""
        return pd.DataFrame(
            {COLUMNS[n]: {k: f"{part:+.2f}" for k, part in self.parts[n].items()} for n in names}
        )


def take_apart(
    gaps: Mapping[str, PolicyGap], trials: Sequence[Trial], price: float | None = None, seed: int = 0
) -> ScoreGap:
    """Take the gaps of "base" and "dpo" apart, and DPO's gain in score over its base.

    Args:
        gaps: From `policy_gap.measure_gap`.
        trials: From `planted_trials.run_trials`, with the same reward model.
        price: Points it pays for a unit of gold, where gold is known.
        seed: Of the bootstrap.

    Returns:
        Metrics under `score_gap`: the parts of DPO's gap, and below `base` and `gain` those of the others.
    """
    everything = {**gaps, "gain": gaps["dpo"].minus(gaps["base"])}
    options = {"stages": ORDER, "gold_price": price, "seed": seed}
    parts = {
        name: decompose(gap.cells, FACTORS, gap.prompts, gold_gap=gap.gold, ood=gap.unfamiliar, **options)
        for name, gap in everything.items()
    }
    planted = planted_metrics(trials)
    distance = mean_interval(gaps["dpo"].unfamiliar[:, 0], gaps["dpo"].prompts, seed=seed)
    numbers = part_metrics(parts["dpo"]) | planted | distance.named("distance")
    for name in ("base", "gain"):
        numbers |= prefixed(name, part_metrics(parts[name]))
    return ScoreGap(
        metrics=prefixed("score_gap", numbers | ({} if price is None else {"gold_price": price})),
        claims=statements(parts, distance),
        parts=parts,
        price=price,
        distance=distance,
        unfamiliar=pd.DataFrame(
            {COLUMNS[n]: gap.unfamiliar.mean(axis=0) for n, gap in gaps.items()}, index=SIGNS
        ),
        planted=planted,
        trials=list(trials),
    )


def statements(parts: Mapping[str, Mapping[str, Estimate]], distance: Estimate) -> dict[str, bool]:
    """What the intervals allow to say of the gap of DPO's replies and of DPO's gain.

    Whether any of it deserves belief, the trials with planted faults say by their numbers: a few clean worlds
    without an alarm would not bear out a statement that alarms are rare.

    Args:
        parts: "dpo", the parts of the gap, and "gain", those of DPO's gain.
        distance: of DPO's replies from the training replies minus that of the references, the first column of
            `unfamiliarity`; where it is not above zero, the part `ood` is no harm from strange text.
    """
    gap, gain = parts["dpo"], {k: v for k, v in parts["gain"].items() if k != "gap"}
    found = {f"gain_from_{name}": part.low > 0 for name, part in gain.items()}
    found |= {f"loss_from_{name}": part.high < 0 for name, part in gain.items()}
    found |= {f"score_gap_{k}_in_gap": v.low > 0 or v.high < 0 for k, v in gap.items() if k != "gap"}
    found |= {"score_gap_positive": gap["gap"].low > 0, "score_gap_negative": gap["gap"].high < 0}
    return found | {"score_gap_less_familiar": distance.low > 0}
