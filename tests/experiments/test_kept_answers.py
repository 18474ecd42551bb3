"""What the kept experiments say of the written questions: numbers with margins, and flags by today's rules.

Length bias has its own test beside its remedies.
"""

import re

import numpy as np
import pytest

from rlhf_hw.experiments.length_bias.length_expectations import length_claims
from rlhf_hw.experiments.length_bias.policy_expectations import policy_claims
from rlhf_hw.experiments.plural.expectations import plural_claims
from rlhf_hw.experiments.selection.order_numbers import order_claims
from rlhf_hw.experiments.selection.over_expectations import over_claims
from rlhf_hw.experiments.tabular.exact_expectations import tabular_claims
from rlhf_hw.experiments.variants.variant_expectations import variant_claims
from rlhf_hw.paths import NOTEBOOKS, REPORT
from rlhf_hw.pipeline.kept_results import kept_results
from rlhf_hw.pipeline.profiles import default_values, load_profile
from rlhf_hw.stats.replicates import beyond

KEPT = kept_results("nano")


def numbers(experiment: str, prefix: str) -> dict[str, float]:
    metrics = KEPT[experiment].metrics
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def counted(known: dict[str, float], pattern: str) -> list[float]:
    return sorted({float(match[1]) for key in known if (match := re.match(pattern, key))})


def claims_by_todays_rules() -> dict[str, bool]:
    over, length = numbers("reward_overoptimization", "over."), numbers("length_bias", "length_bias.")
    plural = numbers("plural_preferences", "plural.")
    strengths = [percent / 100 for percent in counted(length, r"strength_(\d+)\.")]
    counts = [int(count) for count in counted(plural, r"each\.(\d+)\.")]
    return {
        **over_claims(over),
        **order_claims(numbers("reward_overoptimization", "over.order.")),
        **length_claims(length, strengths),
        **policy_claims(numbers("length_bias", "length_bias.policy.")),
        **plural_claims(plural, counts),
        **tabular_claims(numbers("dpo_variants", "variants.")),
        **variant_claims(numbers("dpo_variants", "policies.")),
    }


def test_every_flag_that_a_report_prints_is_what_the_kept_numbers_say() -> None:
    texts = [*REPORT.glob("*.md"), *REPORT.glob("*.yaml")]
    asked = set(re.findall(r"claims\.(\w+)", "".join(path.read_text(encoding="utf-8") for path in texts)))
    said = {name: holds for name, holds in claims_by_todays_rules().items() if name in asked}
    kept = {k: v for one in KEPT.values() for k, v in one.metrics.items() if k.startswith("claims.")}
    assert len(said) > 60
    assert [name for name, holds in said.items() if bool(kept.get(f"claims.{name}")) != holds] == []


def test_gold_turns_over_under_the_biased_score_and_not_under_gold() -> None:
    over = numbers("reward_overoptimization", "over.")
    assert beyond(over, "bonus.fall", -0.05) < 0 < beyond(over, "bonus.own_late", 0.3)
    assert abs(over["gold.fall"]) < 1e-9 and over["gold.least_step"] > -1e-9
    assert beyond(over, "labels.shuffled.accuracy", 0.5) == 0 and over["labels.shuffled.gold_most_high"] < 0


def test_one_reward_fails_the_minority_where_a_mixture_does_not() -> None:
    plural = numbers("plural_preferences", "plural.")
    assert beyond(plural, "single.brief.disputed", 0.45) < 0 < beyond(plural, "mixture.brief.disputed", 0.8)
    assert beyond(plural, "lead.brief", 0.3) > 0 and beyond(plural, "welfare.maxmin.brief.lead", 0.1) > 0
    assert beyond(plural, "shuffled_labels.brief.disputed", 0.5) == 0


def test_people_are_foretold_and_the_control_of_swapped_votes_is_at_one_half() -> None:
    people = numbers("plural_preferences", "plural.people.")
    assert beyond(people, "accuracy", 0.6) > 0 and people["shuffled_draws"] >= 10
    assert beyond(people, "shuffled_mean", 0.5) == 0 and abs(people["shuffled_mean"] - 0.5) < 0.03
    assert people["shuffled_mean_trainings_low"] < 0.5 < people["shuffled_mean_trainings_high"]


def test_dpo_is_rlhf_under_coverage_displacement_grows_and_noise_orders_as_derived() -> None:
    exact = numbers("dpo_variants", "variants.")
    assert max(exact[f"{pairs}.difference_most"] for pairs in ("everything", "chain")) < 1e-3
    assert beyond(exact, "islands.difference", 0.03) > 0
    changes = [exact[f"displacement.change.{percent}"] for percent in (0, 25, 50, 75, 90, 95)]
    assert (np.diff(changes) < 0).all() and beyond(exact, "displacement.slope", -1) < 0
    assert beyond(exact, "displacement.unlike", 1) > 0 > -0.3 > exact["displacement.alike"]
    kept = [exact[f"noise.{name}.kept"] for name in ("rDPO", "IPO", "DPO", "cDPO")]
    assert min(-np.diff(kept)) > 0.1 and exact["noise.error"] < 1e-6


@pytest.mark.parametrize("key", ["beyond_likelihood", "added"])
def test_what_dpo_adds_to_imitation_has_both_intervals_and_the_default_run_keeps_them_apart(key) -> None:
    policies = numbers("dpo_variants", "policies.")
    ends = {f"{key}{which}_{end}" for which in ("", "_trainings") for end in ("low", "high")}
    assert ends <= policies.keys() and policies[f"{key}_low"] < policies[key] < policies[f"{key}_high"]
    shown = beyond(policies, key) > 0
    default, own = default_values(NOTEBOOKS / "04_dpo_training.ipynb"), load_profile("nano").notebooks
    assert shown or (default | own["dpo_training"])["nll_weight"] == 0
