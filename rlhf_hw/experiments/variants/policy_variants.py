"""Gold, distance from the start and length of policies trained with DPO's variants, in one result.

    answers = train_variants(study)
    found = policy_variants(answers, variant_sizes(study))
    found.metrics["policies.IPO.gold_lead"], found.claims["policies_dpo_gains"]

Everything but the choice of a learning rate is read off other prompts than the choice was made on. Changes
are against the start of the same replicate, reply by reply, with the same random numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.variants.variant_expectations import variant_claims
from rlhf_hw.experiments.variants.variant_settings import (
    BOTH,
    HONEST,
    LIKELIHOOD,
    PLAIN,
    SHUFFLED,
    TRIED_ON,
    VARIANTS,
)
from rlhf_hw.experiments.variants.variant_trainings import (
    CHOICE,
    REPORTED,
    UNTRAINED,
    VariantStudy,
    chosen_rates,
)
from rlhf_hw.stats.intervals import mean_interval
from rlhf_hw.stats.replicates import replicated_mean

MEASURES = ("gold", "kl", "words")


@dataclass(frozen=True, kw_only=True)
class PolicyVariants(Result):
    """What the trained policies showed.

    Attributes:
        frontier: Loss -> one mapping a learning rate, the smallest first: `rate`, `kl`, `gold` (change, with
            its interval over prompts), `chosen`; of the first replicate.
        trained: Labels -> loss -> changes of `MEASURES` at the chosen rate, with their intervals.
    """

    frontier: dict[str, list[dict[str, float]]]
    trained: dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class ReportedAnswers:
    """The answers of all policies to the prompts that are reported.

    Attributes:
        rows: Of `train_variants`.
    """

    rows: pd.DataFrame

    @cached_property
    def taken(self) -> dict[str, float]:
        """Loss -> its chosen learning rate."""
        return chosen_rates(self.rows)

    @cached_property
    def losses(self) -> list[str]:
        """Those that were tried, in the order of `VARIANTS`."""
        return [loss for loss in VARIANTS if loss in self.taken]

    def values(self, loss: str, labels: str, measure: str, rate: float | None = None) -> np.ndarray:
        """One number a replicate and prompt, shape (R, P): one replicate where the rate was not chosen."""
        known = self.rows[(self.rows["part"] == REPORTED) & (self.rows["loss"] == loss)]
        known = known[known["labels"] == labels]
        if loss != UNTRAINED:
            known = known[known["rate"] == (self.taken[loss] if rate is None else rate)]
        return known.pivot(index="training", columns="prompt", values=measure).to_numpy(dtype=float)

    def changes(self, loss: str, labels: str, measure: str, rate: float | None = None) -> np.ndarray:
        """The same as changes against the start; distances are from there already."""
        found = self.values(loss, labels, measure, rate)
        start = self.values(UNTRAINED, HONEST, measure)[: len(found)]
        return found - (0 if measure == "kl" else start)

    def tried_on(self, labels: str) -> list[str]:
        """The losses that were trained on such labels."""
        return [loss for loss in TRIED_ON[labels] if loss in self.losses]


def variant_sizes(study: VariantStudy) -> dict[str, float]:
    """What was trained and asked, for the report."""
    return {
        "pairs": len(study.pairs[0]),
        "prompts": len(study.asked[REPORTED]),
        "choice_prompts": len(study.asked[CHOICE]),
        "trainings": len(study.starts),
        "rates": len(study.rates),
        "rate_least": min(study.rates),
        "rate_most": max(study.rates),
        "beta": study.beta,
        "flipped_share": study.flipped,
        "told": study.told,
    }


def policy_variants(rows: pd.DataFrame, sizes: Mapping[str, float]) -> PolicyVariants:
    """All policies together.

    Args:
        rows: Of `train_variants`.
        sizes: Of `variant_sizes`.

    Returns:
        Metrics under `policies.`: sizes; `losses`, how many; `start.gold`, `start.words`; `<loss>.rate`,
        `<loss>.gold`, `.words` (changes against the start) and `.kl`, `<loss>.<measure>_lead` against DPO;
        `added`, gold of DPO with the likelihood minus that of the likelihood alone, and `beyond_likelihood`,
        the same of DPO alone; `<labels>.<loss>.*` and `.lost`, gold lost against honest labels;
        `shuffled.lead`, gold of DPO minus that of the likelihood there; `at_edge`, losses whose rate is the
        smallest or largest tried. And the claims of `variant_claims`.
    """
    answers = ReportedAnswers(rows)
    numbers: dict[str, float] = {**sizes, "losses": len(answers.losses)}
    for name in ("gold", "words"):
        numbers |= replicated_mean(answers.values(UNTRAINED, HONEST, name)).named(f"start.{name}")
    trained = {labels: compared_with_dpo(answers, labels) for labels in TRIED_ON}
    for labels, found in trained.items():
        for loss, values in found.items():
            numbers |= prefixed(loss if labels == HONEST else f"{labels}.{loss}", values)
    for loss, rate in answers.taken.items():
        numbers[f"{loss}.rate"] = rate
    numbers |= {"at_edge": edges_taken(answers.taken, sizes), **beside_likelihood(answers)}
    return PolicyVariants(
        metrics=prefixed("policies", numbers),
        claims=variant_claims(numbers),
        frontier={loss: frontier_of(answers, loss) for loss in answers.losses},
        trained=trained,
    )


def edges_taken(taken: Mapping[str, float], sizes: Mapping[str, float]) -> int:
    """How many losses took the smallest or the largest of several rates."""
    ends = (sizes["rate_least"], sizes["rate_most"])
    return sum(rate in ends for rate in taken.values()) if sizes["rates"] > 1 else 0


def compared_with_dpo(answers: ReportedAnswers, labels: str) -> dict[str, dict[str, float]]:
    """Loss -> its changes on such labels, its leads over DPO there, and what the labels cost it."""
    found: dict[str, dict[str, float]] = {}
    for loss in answers.tried_on(labels):
        numbers: dict[str, float] = {}
        for measure in MEASURES:
            changed = answers.changes(loss, labels, measure)
            numbers |= replicated_mean(changed).named(measure)
            if loss != PLAIN:
                lead = changed - answers.changes(PLAIN, labels, measure)
                numbers |= replicated_mean(lead).named(f"{measure}_lead")
        if labels != HONEST:
            lost = answers.changes(loss, HONEST, "gold") - answers.changes(loss, labels, "gold")
            numbers |= replicated_mean(lost).named("lost")
        found[loss] = numbers
    return found


def beside_likelihood(answers: ReportedAnswers) -> dict[str, float]:
    """What DPO gains in gold over the likelihood of the chosen replies alone."""
    pairs = {
        "added": (BOTH, HONEST),
        "beyond_likelihood": (PLAIN, HONEST),
        "shuffled.lead": (PLAIN, SHUFFLED),
    }
    numbers: dict[str, float] = {}
    for key, (loss, labels) in pairs.items():
        if {loss, LIKELIHOOD} <= set(answers.losses):
            lead = answers.changes(loss, labels, "gold") - answers.changes(LIKELIHOOD, labels, "gold")
            numbers |= replicated_mean(lead).named(key)
    return numbers


def frontier_of(answers: ReportedAnswers, loss: str) -> list[dict[str, float]]:
    """Gold against distance over the rates of one loss, in the first replicate."""
    rows = answers.rows
    rates = sorted(rows.loc[(rows["loss"] == loss) & (rows["part"] == CHOICE), "rate"].unique())
    found = []
    for rate in rates:
        gold, kl = (answers.changes(loss, HONEST, name, rate)[0] for name in ("gold", "kl"))
        point = {"rate": float(rate), "kl": float(kl.mean()), "chosen": rate == answers.taken[loss]}
        found.append(point | mean_interval(gold).named("gold"))
    return found
