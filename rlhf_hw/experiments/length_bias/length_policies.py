"""The policy's side of length bias: policies from labels with a taste for length, by losses against it.

    study = LengthPolicyStudy([start], pairs, {REPORTED: asked}, folder, share=0.3, rates=(3e-4,))
    answers = train_length_policies(study, results / "length_answers.json")
    found = length_policies(answers, policy_sizes(study))
    found.metrics["length_bias.policy.SamPO.words_lead"]

Every policy starts from the same SFT model, with one learning rate for all. Replicate k has pairs, labels and
a seed of its own. Changes are against the start, prompt by prompt, with the same random numbers.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlhf_hw.experiments.length_bias.biased_labels import biased_labels, pairs_unread, with_outcomes
from rlhf_hw.experiments.length_bias.policy_expectations import CONTROL_POLICY, LENGTH_LOSSES, policy_claims
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.variants.variant_settings import HONEST, PLAIN, variant_settings
from rlhf_hw.experiments.variants.variant_trainings import (
    REPORTED,
    UNTRAINED,
    PolicyPlan,
    VariantStudy,
    answered_by,
    write_labels,
)
from rlhf_hw.files import write_json
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.stats.jackknife import jackknife_intervals
from rlhf_hw.stats.length import least_squares
from rlhf_hw.stats.replicates import Replicated, as_replicates, replicated, replicated_mean

BY_LENGTH = "biased"  # labels of which length decides a share
R_DPO = "R_DPO"
RIDGE_OF_PRICE = 1e-6  # a pair: only so that the least is not at infinity
# what is trained: name -> labels and loss
POLICIES = {CONTROL_POLICY: (HONEST, PLAIN)} | {name: (BY_LENGTH, name) for name in (PLAIN, *LENGTH_LOSSES)}


@dataclass(frozen=True)
class LengthPolicyStudy(VariantStudy):
    """What is trained and asked; of the rates the first is taken for all losses.

    Attributes:
        share: Of labels that length decides.
    """

    share: float = 0.3

    @property
    def shares(self) -> dict[str, float]:
        """Labels -> share of them that length decides."""
        return {HONEST: 0.0, BY_LENGTH: self.share}

    def labelled(self, labels: str, training: int) -> list[Preference]:
        """The pairs of a replicate, labelled anew; labels of two shares differ by the bias alone."""
        pairs, rng = pairs_unread(self.pairs[training]), np.random.default_rng(self.seed + training)
        return with_outcomes(pairs, biased_labels(pairs, self.shares[labels], rng))

    def own_settings(self, plan: PolicyPlan) -> tuple[str, dict[str, Any]]:
        """Of R-DPO what a token costs: as much as these labels pay for one."""
        kind, own = variant_settings(plan.loss, self.beta, 0.0)
        return kind, own | ({"length_alpha": self.price(plan)} if plan.loss == R_DPO else {})

    def price(self, plan: PolicyPlan) -> float:
        """Log-odds by which a reply wins more often for each token that it is longer; at least 0."""
        renderer = Renderer.load(self.starts[plan.training])
        pairs = self.labelled(plan.labels, plan.training)
        tokens = [renderer.reply_ids([getattr(p, side) for p in pairs]) for side in ("chosen", "rejected")]
        longer = np.array([len(a) - len(b) for a, b in zip(*tokens, strict=True)], dtype=float)
        penalty = RIDGE_OF_PRICE * len(longer)
        return max(0.0, float(fit_bradley_terry(longer[:, None], np.ones(len(longer)), penalty=penalty)[0]))


def train_length_policies(study: LengthPolicyStudy, place: Path) -> pd.DataFrame:
    """Train `POLICIES`, each replicate side by side, and let them answer.

    Args:
        study: What is trained and asked.
        place: The file for the answers, which `load_answers` of `variant_trainings` reads back.

    Returns:
        One row a policy and prompt, with the columns of `train_variants`.
    """
    write_labels(study)
    plans = [PolicyPlan(UNTRAINED, 0.0)]
    plans += [
        PolicyPlan(loss, study.rates[0], labels, k)
        for labels, loss in POLICIES.values()
        for k in range(len(study.pairs))
    ]
    found = answered_by(plans, study, "length policies")
    shutil.rmtree(study.folder)
    write_json(place, found.to_dict("list"))
    return found


def policy_sizes(study: LengthPolicyStudy) -> dict[str, float]:
    """What was trained and asked, for the report."""
    prices = [study.price(PolicyPlan(R_DPO, 0.0, BY_LENGTH, k)) for k in range(len(study.pairs))]
    return {
        "pairs": len(study.pairs[0]),
        "prompts": len(study.asked[REPORTED]),
        "trainings": len(study.pairs),
        "rate": study.rates[0],
        "beta": study.beta,
        "share": study.share,
        "price": float(np.mean(prices)),
        "ld_alpha": variant_settings("LD_DPO", study.beta, 0.0)[1]["ld_alpha"],
    }


def gold_at_equal_length(gold: np.ndarray, words: np.ndarray) -> Replicated:
    """Difference of gold between two policies where their replies are equally long.

    The intercept of a straight line of gold on words in each replicate; the mean over replicates, with the
    jackknife over prompts. Like the length-controlled win rate (Dubois et al. 2024) it describes: what a
    longer reply earns by saying more is taken off, too.

    Args:
        gold, words: Of the first policy minus the second, shape (replicates, prompts).
    """
    gold, words = as_replicates(gold), as_replicates(words)
    designs = [np.stack([np.ones_like(row), row], axis=1) for row in words]
    lines = [
        lambda weights, design=design, row=row: least_squares(weights, design, row)[:, :1]
        for design, row in zip(designs, gold, strict=True)
    ]
    prompts = np.arange(gold.shape[1])
    (mean,) = jackknife_intervals(lambda weights: np.mean([line(weights) for line in lines], axis=0), prompts)
    return replicated(mean, [line(np.ones((1, prompts.size)))[0, 0] for line in lines])


@dataclass(frozen=True, kw_only=True)
class LengthPolicies(Result):
    """What the trained policies showed.

    Attributes:
        policies: Keys of `POLICIES` -> numbers with `words`, `gold`, `equal` and `kl` and their intervals.
    """

    policies: dict[str, dict[str, float]]


def length_policies(rows: pd.DataFrame, sizes: Mapping[str, float]) -> LengthPolicies:
    """All policies together.

    Args:
        rows: Of `train_length_policies`.
        sizes: Of `policy_sizes`.

    Returns:
        Metrics under `length_bias.policy.`: sizes; `start.words`, `start.gold`; `<policy>.words`, `.gold`
        (changes against the start), `.equal` (gold at equal length) and `.kl`; `.words_lead`, `.gold_lead`
        and `.equal_lead` against DPO on the same labels; `.words_above`, words beyond the control's, and
        `.gold_behind`, the control's gold minus its own; `R_DPO.below_<other>`, words of R-DPO's replies
        minus those of LD-DPO and SamPO. And the claims of `policy_claims`.
    """
    shaped = {name: _answers(rows, loss, labels) for name, (labels, loss) in POLICIES.items()}
    start = _answers(rows, UNTRAINED, HONEST)
    numbers: dict[str, float] = dict(sizes)
    for measure in ("words", "gold"):
        numbers |= replicated_mean(start[measure][0]).named(f"start.{measure}")
    found = {name: compared_policies(one, start, shaped) for name, one in shaped.items()}
    for name, values in found.items():
        numbers |= prefixed(name, values)
    for other in ("LD_DPO", "SamPO"):
        apart = shaped[R_DPO]["words"] - shaped[other]["words"]
        numbers |= replicated_mean(apart).named(f"{R_DPO}.below_{other}")
    return LengthPolicies(
        metrics=prefixed("length_bias.policy", numbers), claims=policy_claims(numbers), policies=found
    )


def compared_policies(
    one: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray], shaped: Mapping[str, Mapping]
) -> dict[str, float]:
    """A policy beside its start, beside DPO on the same labels and beside the control."""
    numbers = replicated_mean(one["kl"]).named("kl")
    changed = {measure: one[measure] - start[measure] for measure in ("words", "gold")}
    for measure, change in changed.items():
        numbers |= replicated_mean(change).named(measure)
    numbers |= gold_at_equal_length(changed["gold"], changed["words"]).named("equal")
    if one is not shaped[PLAIN]:
        ahead = {measure: one[measure] - shaped[PLAIN][measure] for measure in changed}
        for measure, lead in ahead.items():
            numbers |= replicated_mean(lead).named(f"{measure}_lead")
        numbers |= gold_at_equal_length(ahead["gold"], ahead["words"]).named("equal_lead")
    if one is not shaped[CONTROL_POLICY]:
        control = shaped[CONTROL_POLICY]
        numbers |= replicated_mean(one["words"] - control["words"]).named("words_above")
        numbers |= replicated_mean(control["gold"] - one["gold"]).named("gold_behind")
    return numbers


def _answers(rows: pd.DataFrame, loss: str, labels: str) -> dict[str, np.ndarray]:
    """Gold, words and distance of a policy's replies, shape (replicates, prompts) each."""
    known = rows[(rows["part"] == REPORTED) & (rows["loss"] == loss) & (rows["labels"] == labels)]
    return {
        measure: known.pivot(index="training", columns="prompt", values=measure).to_numpy(dtype=float)
        for measure in ("gold", "words", "kl")
    }
