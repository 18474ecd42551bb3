"""What was expected of policies from labels with a taste for length, and what the numbers allow to say.

The expectations were written from the literature (Park et al. 2024, Meng et al. 2024, Liu et al. 2024, Lu et
al. 2024) before any of these policies was trained, and stay as they were; each names the claim that bears it
out.
"""

from collections.abc import Mapping

from rlhf_hw.experiments.length_bias.length_expectations import MARGIN
from rlhf_hw.experiments.result import verdicts
from rlhf_hw.stats.replicates import beyond

CONTROL_POLICY = "control"
MARGIN_WORDS = 2.0  # replies that are longer by less count as no longer
LENGTH_LOSSES = ("R_DPO", "SimPO", "LD_DPO", "SamPO")  # beside DPO, on labels with a taste for length
EXPECTATIONS = {
    "length_policy_planted": "DPO on labels that length decides in part writes longer replies than DPO on "
    "honest labels",
    "length_policy_costs": "and gains less gold",
    "length_policy_earned": "DPO on honest labels lengthens replies, too (length is in part earned)",
    "length_policy_all_shorter": "R-DPO, SimPO, LD-DPO and SamPO each write shorter replies than DPO on the "
    "same labels",
    "length_policy_works": "one of them at least does so, no longer than the control and without loss of "
    "gold",
    "length_policy_price_first": "R-DPO, which is told what the labels pay for a token, takes off more than "
    "LD-DPO and SamPO, which do not look at the labels",
    "length_policy_equal_kept": "at equal length none of the four falls behind DPO in gold",
}


def policy_verdicts(claims: Mapping[str, bool]) -> list[dict[str, str]]:
    """Every expectation whose claim was tried, and whether it was borne out."""
    return verdicts({name: text for name, text in EXPECTATIONS.items() if name in claims}, claims)


def policy_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What may be said: each beyond the intervals over prompts and over trainings.

    Args:
        numbers: Metrics of `length_policies`, without their prefix.

    Returns:
        The claims of `EXPECTATIONS`. For each of `LENGTH_LOSSES` `length_policy_<loss>_shorter` and `_longer`
        than DPO on the same labels, `_as_control`: its replies are no longer than the control's, up to
        `MARGIN_WORDS`, `_keeps_gold` and `_keeps_equal`: no loss of gold against DPO beyond `MARGIN`, as they
        are and at equal length, `_gains` and `_loses` gold against DPO. That a difference was not seen bears
        none of these out: its intervals have to end before the margin.
        `length_policy_dpo_gains` and `_dpo_loses`: gold of DPO on biased labels against the start.
    """

    def side(key: str) -> int:
        return beyond(numbers, key)

    claims: dict[str, bool] = {}
    for name in LENGTH_LOSSES:
        key = f"length_policy_{name}"
        claims[f"{key}_shorter"] = side(f"{name}.words_lead") < 0
        claims[f"{key}_longer"] = side(f"{name}.words_lead") > 0
        claims[f"{key}_as_control"] = beyond(numbers, f"{name}.words_above", MARGIN_WORDS) < 0
        claims[f"{key}_keeps_gold"] = beyond(numbers, f"{name}.gold_lead", -MARGIN) > 0
        claims[f"{key}_keeps_equal"] = beyond(numbers, f"{name}.equal_lead", -MARGIN) > 0
        claims[f"{key}_gains"] = side(f"{name}.gold_lead") > 0
        claims[f"{key}_loses"] = side(f"{name}.gold_lead") < 0
    works = ("shorter", "as_control", "keeps_gold")
    return claims | {
        "length_policy_dpo_gains": side("DPO.gold") > 0,
        "length_policy_dpo_loses": side("DPO.gold") < 0,
        "length_policy_planted": side("DPO.words_above") > 0,
        "length_policy_costs": side("DPO.gold_behind") > 0,
        "length_policy_earned": side(f"{CONTROL_POLICY}.words") > 0,
        "length_policy_all_shorter": all(claims[f"length_policy_{name}_shorter"] for name in LENGTH_LOSSES),
        "length_policy_works": any(
            all(claims[f"length_policy_{name}_{what}"] for what in works) for name in LENGTH_LOSSES
        ),
        "length_policy_price_first": all(side(f"R_DPO.below_{other}") < 0 for other in ("LD_DPO", "SamPO")),
        "length_policy_equal_kept": all(
            claims[f"length_policy_{name}_keeps_equal"] for name in LENGTH_LOSSES
        ),
    }
