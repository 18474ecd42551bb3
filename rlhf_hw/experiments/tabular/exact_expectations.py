"""What was expected of the exact worlds before anything was run, and what the numbers allow to say.

The expectations were written from the literature and the derivations in the worlds' modules, and stay as they
were; each names the claim that bears it out.
"""

from collections.abc import Mapping

from rlhf_hw.stats.replicates import beyond

TOLERANCE = 1e-3  # within which two policies are the same
APART = 0.05  # total variation, or difference of probabilities, that counts as another policy

EXPECTATIONS = {
    "variants_covered_equal": "with all pairs and unlimited labels DPO is RLHF's policy to 0.001",
    "variants_chain_equal": "so it is with a chain of pairs, as long as it connects all replies",
    "variants_islands_differ": "pairs within two halves only lead to another policy",
    "variants_islands_blind": "DPO's loss does not see probability that goes from one half to the other",
    "variants_labels_help_covered": "with coverage, more labels lead to RLHF's policy",
    "variants_labels_no_help_islands": "without, they do not",
    "variants_small_class_short": "in a class that is too small, DPO falls short of the class's best policy",
    "variants_small_class_pairs": "and where it ends depends on how often which pair is compared",
    "variants_whole_class_none": "in the class of all policies neither is so (control)",
    "variants_noise_order": "of its margin without noise rDPO keeps all, then IPO, DPO, cDPO",
    "variants_noise_none_same": "without noise the three logistic losses have one minimum (control)",
    "variants_rdpo_needs_labels": "rDPO is worse than DPO with few labels and better with many",
    "variants_rounds_help_far": "at equal labels iterative DPO beats offline where the best policy is far",
    "variants_rounds_no_help_near": "and does not where it is near the reference (control)",
    "variants_offline_classifies": "offline DPO orders pairs of the reference at least as well",
    "variants_displacement_grows": "the more alike the replies, the lower the chosen one at an equal margin",
    "variants_displacement_alike": "very much alike, it is less likely than at the start",
    "variants_displacement_unlike": "unlike, it is more likely than at the start (control)",
    "variants_anchors_hold": "DPOP and the likelihood of the chosen reply keep it from falling",
}


def tabular_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What may be said: what is exact within a tolerance, what is a mean over worlds beyond its interval.

    Args:
        numbers: Metrics of `dpo_variants`, without their prefix.
    """

    def side(key: str, bound: float = 0.0) -> int:
        return beyond(numbers, key, bound)

    equal = {name: numbers[f"{name}.difference_most"] < TOLERANCE for name in ("everything", "chain")}
    return {
        "variants_covered_equal": equal["everything"],
        "variants_chain_equal": equal["chain"],
        "variants_islands_differ": side("islands.difference", TOLERANCE) > 0,
        "variants_islands_blind": numbers["islands.loss_change_most"] < 1e-9
        and side("islands.shift", APART) > 0,
        "variants_labels_help_covered": side("everything.nearer") > 0
        and side("everything.distance_most_labels", APART) < 0,
        "variants_labels_no_help_islands": side("islands.distance_most_labels", APART) > 0,
        "variants_small_class_short": side("small.gap") > 0,
        "variants_small_class_pairs": side("small.spread", APART) > 0,
        "variants_whole_class_none": max(numbers["whole.gap_most"], numbers["whole.spread_most"]) < TOLERANCE,
        "variants_noise_order": numbers["noise.order"] > 0 and numbers["noise.error"] < TOLERANCE,
        "variants_noise_none_same": numbers["noise.same"] < TOLERANCE,
        "variants_rdpo_needs_labels": numbers["noise.few_labels_lead"]
        < 0
        < numbers["noise.many_labels_lead"],
        "variants_rounds_help_far": side("rounds.far.lead") > 0,
        "variants_rounds_no_help_near": side("rounds.near.lead") <= 0,
        "variants_offline_classifies": side("rounds.far.accuracy_lead") >= 0,
        "variants_offline_classifies_better": side("rounds.far.accuracy_lead") > 0,
        "variants_displacement_grows": side("displacement.slope") < 0,
        "variants_displacement_alike": side("displacement.alike") < 0,
        "variants_displacement_unlike": side("displacement.unlike") > 0,
        "variants_anchors_hold": min(side("displacement.DPOP"), side("displacement.DPO_NLL")) > 0,
    }
