"""What was expected of plural preferences before anything was run, and what the numbers allow to say.

The expectations were written from the literature (Siththaranjan et al. 2024, Chakraborty et al. 2024, Poddar
et al. 2024) and stay as they were; each names the claim that bears it out.
"""

from collections.abc import Mapping, Sequence

from rlhf_hw.experiments.plural.group_models import GROUPS
from rlhf_hw.stats.replicates import beyond

LARGER, SMALLER = GROUPS
EXPECTATIONS = {
    "plural_single_fails_smaller": "one reward is wrong for the minority on most disputed pairs",
    "plural_mixture_serves_smaller": "a mixture found by EM serves the minority",
    "plural_explained_falls": "r^2 of the mean-variance model falls when groups are mixed",
    "plural_spread_separates": "its spread tells disputed pairs from others",
    "plural_em_fails_with_few": "EM does not find the minority from one comparison a user",
    "plural_users_climb": "models of users get better with every comparison that a user shows",
    "plural_maxmin_helps_smaller": "best-of-n by max-min raises the worse-off group above the single reward",
    "plural_mean_helps_smaller": "so does the mean of the rewards of the groups, though less",
    "plural_gate_helps_visible": "a gate over objective heads helps where the prompt shows who judges",
    "plural_gate_silent_hidden": "and does not where it does not",
}


def plural_claims(metrics: Mapping[str, float], counts: Sequence[int]) -> dict[str, bool]:
    """What may be said: each beyond the intervals over pairs and over replicates.

    Args:
        metrics: Of `plural_preferences`, without their prefix.
        counts: Comparisons a user that EM was tried with.
    """

    def side(key: str, bound: float = 0.0) -> int:
        return beyond(metrics, key, bound) if f"{key}_low" in metrics else 0

    few, many = min(counts), max(counts)
    members = metrics[f"each.{many}.members"]
    return {
        "plural_single_fails_smaller": side(f"single.{SMALLER}.disputed", 0.5) < 0,
        "plural_mixture_serves_smaller": side(f"mixture.{SMALLER}.disputed", 0.5) > 0
        and side(f"lead.{SMALLER}") > 0,
        "plural_mixture_serves_larger": side(f"lead.{LARGER}") > 0,
        "plural_explained_falls": side("explained_falls") > 0,
        "plural_spread_separates": side("auroc_spread", 0.5) > 0,
        "plural_mixture_separates": side("auroc_mixture", 0.5) > 0,
        "plural_ties_take_dispute": side("ties.rao_kupper.disputed", 0.5) > 0,
        "plural_em_works_with_few": side(f"each.{few}.disputed", 0.5) > 0,
        "plural_em_fails_with_few": side(f"each.{few}.disputed", 0.5) <= 0,
        "plural_members_need_many": side(f"each.{few}.members", members) < 0,
        "plural_users_climb": side("users.user_variable.climb") > 0 and side("users.low_rank.climb") > 0,
        "plural_users_beat_single": side("users.user_variable.lead") > 0 and side("users.low_rank.lead") > 0,
        "plural_maxmin_helps_smaller": side(f"welfare.maxmin.{SMALLER}.lead") > 0,
        "plural_maxmin_costs_larger": side(f"welfare.maxmin.{LARGER}.lead") < 0,
        "plural_mean_helps_smaller": side(f"welfare.mean.{SMALLER}.lead") > 0,
        "plural_gate_helps_visible": side("gate.visible.lead") > 0,
        "plural_gate_silent_hidden": side("gate.hidden.lead") <= 0,
    }
