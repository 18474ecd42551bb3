"""What was expected of DPO's variants on a language model before any was trained, and what may be said.

The expectations were written from the literature (Rafailov et al. 2023, Azar et al. 2024, Chowdhury et al.
2024, Meng et al. 2024, Park et al. 2024, Pang et al. 2024, Gorbatovski et al. 2025) and stay as they were;
each names the claim that bears it out.
"""

from collections.abc import Mapping

from rlhf_hw.experiments.result import verdicts
from rlhf_hw.experiments.variants.variant_settings import VARIANTS
from rlhf_hw.stats.replicates import beyond

EXPECTATIONS = {
    "policies_dpo_gains": "DPO on pairs that SFT has not seen raises gold",
    "policies_likelihood_gains": "so does the likelihood of the chosen replies alone: imitation goes on",
    "policies_dpo_beats_likelihood": "DPO alone gains more gold than that likelihood alone",
    "policies_dpo_adds": "DPO with the likelihood gains more than the likelihood alone",
    "policies_likelihood_adds_nothing": "and no more than DPO alone",
    "policies_none_beats_dpo": "with a rate tuned for each, no variant gains more gold than DPO",
    "policies_without_reference_farther": "SimPO and ORPO, which have no reference, move farther than DPO",
    "policies_ipo_nearer": "IPO, whose margin is bounded, moves less far than DPO",
    "policies_lengths_shorter": "R-DPO and SimPO write shorter replies than DPO",
    "policies_flips_cost": "flipped labels cost DPO gold",
    "policies_rdpo_holds": "told their rate, rDPO then gains more than DPO",
    "policies_cdpo_holds": "so does cDPO",
    "policies_shuffled_nothing": "labels at random bring no gold (control)",
    "policies_shuffled_no_lead": "and none beyond the likelihood on the same labels (control)",
}


def variant_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What may be said: each beyond the intervals over prompts and over trainings.

    Args:
        numbers: Metrics of `policy_variants`, without their prefix.

    Returns:
        The claims of `EXPECTATIONS` whose losses were trained. `policies_dpo_loses` and
        `policies_likelihood_loses`: gold falls; `policies_likelihood_beats_dpo`; `policies_one_beats_dpo`:
        some variant gains more; `policies_one_rate`: none was chosen, for one was
        given to all; `policies_rate_at_edge`: a chosen rate is the smallest or largest tried.
    """
    sides = {  # claim -> keys, and on which sides of zero each of them may lie
        "policies_dpo_gains": (["DPO.gold"], {1}),
        "policies_dpo_loses": (["DPO.gold"], {-1}),
        "policies_likelihood_gains": (["NLL.gold"], {1}),
        "policies_likelihood_loses": (["NLL.gold"], {-1}),
        "policies_dpo_beats_likelihood": (["beyond_likelihood"], {1}),
        "policies_likelihood_beats_dpo": (["beyond_likelihood"], {-1}),
        "policies_dpo_adds": (["added"], {1}),
        "policies_likelihood_adds_nothing": (["DPO_NLL.gold_lead"], {-1, 0}),
        "policies_none_beats_dpo": ([f"{name}.gold_lead" for name in VARIANTS if name != "DPO"], {-1, 0}),
        "policies_without_reference_farther": (["SimPO.kl_lead", "ORPO.kl_lead"], {1}),
        "policies_ipo_nearer": (["IPO.kl_lead"], {-1}),
        "policies_lengths_shorter": (["R_DPO.words_lead", "SimPO.words_lead"], {-1}),
        "policies_flips_cost": (["flipped.DPO.lost"], {1}),
        "policies_rdpo_holds": (["flipped.rDPO.gold_lead"], {1}),
        "policies_cdpo_holds": (["flipped.cDPO.gold_lead"], {1}),
        "policies_shuffled_nothing": (["shuffled.DPO.gold"], {-1, 0}),
        "policies_shuffled_no_lead": (["shuffled.lead"], {-1, 0}),
    }
    claims = {
        name: all(beyond(numbers, key) in allowed for key in keys)
        for name, (keys, allowed) in sides.items()
        if all(key in numbers for key in keys)
    }
    leads = [key for name in VARIANTS if (key := f"{name}.gold_lead") in numbers]
    claims["policies_one_beats_dpo"] = any(beyond(numbers, key) > 0 for key in leads)
    claims["policies_one_rate"] = numbers.get("rates") == 1
    claims["policies_rate_at_edge"] = numbers.get("at_edge", 0) > 0 and not claims["policies_one_rate"]
    return claims


def variant_verdicts(claims: Mapping[str, bool]) -> list[dict[str, str]]:
    """Every expectation whose claim was tried, and whether it was borne out."""
    return verdicts({name: text for name, text in EXPECTATIONS.items() if name in claims}, claims)
