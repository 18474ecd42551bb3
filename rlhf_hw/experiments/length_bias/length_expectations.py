"""What was expected of length bias before anything was run, and what the numbers allow to say.

The expectations were written from the literature (Singhal et al. 2024, Shen et al. 2023, Chen et al. 2024,
Huang et al. 2025, Bu et al. 2025) and stay as they were; each names the claim that bears it out.
"""

from collections.abc import Mapping, Sequence

from rlhf_hw.experiments.length_bias.remedies import INDEPENDENT, REMEDIES
from rlhf_hw.experiments.result import verdicts
from rlhf_hw.stats.replicates import TRAININGS, beyond

MARGIN = 0.1  # of gold: a smaller loss at the best of many counts as none
EXPECTATIONS = {
    "length_planted": "labels that length decides in part teach a taste for length at equal gold",
    "length_control_free": "labels without it do not (control)",
    "length_grows": "the larger the share, the larger the taste",
    "length_splits_accuracy": "the biased model is right more often where the better reply is the longer one",
    "length_costs_gold": "the best of many by the biased model is worth less than by the control",
    "length_lengthens": "and it is longer",
    "length_remedies_lower": "every remedy lowers the coefficient of length",
    "length_balance_leaves": "balanced pairs lower it and leave some of it",
    "length_remedy_works": "one remedy at least brings its interval over 0 without loss of gold",
    "length_independence_costs": "what makes score and length independent overshoots: length is in part "
    "earned",
    "length_too_strong": "twice the penalty turns the coefficient below 0",
    "length_too_strong_costs": "and costs gold against the penalty itself",
    "length_whole_planted": "whole models learn the taste as heads on frozen states do",
    "length_whole_works": "and the remedy works on them, too",
}


def length_verdicts(claims: Mapping[str, bool]) -> list[dict[str, str]]:
    """Every expectation whose claim was tried, and whether it was borne out."""
    return verdicts({name: text for name, text in EXPECTATIONS.items() if name in claims}, claims)


def length_claims(numbers: Mapping[str, float], strengths: Sequence[float]) -> dict[str, bool]:
    """What may be said: each beyond the intervals over prompts and over replicates.

    Args:
        numbers: Of `length_bias`, without their prefix.
        strengths: Of the penalty that were tried.

    Returns:
        The claims of `EXPECTATIONS`, those on whole models only where they were trained. For each remedy
        `length_<remedy>_over_zero`, `_above_zero` and `_below_zero`: where its coefficient lies;
        `_keeps_gold`: its best candidates are worth at least as much as without remedy, up to `MARGIN`;
        `_as_control`: its coefficient cannot be told from the control's.
    """

    def side(key: str) -> int:
        return beyond(numbers, key)

    def splits(name: str) -> int:
        return side(f"{name}.split") if f"{name}.split" in numbers else 0

    remedies = [name for name in REMEDIES if name != "none"]
    claims = {}
    for name in (*remedies, *(["whole.balanced"] if "whole.balanced.coefficient" in numbers else [])):
        key = f"length_{name.replace('.', '_')}"
        claims[f"{key}_over_zero"] = covers_zero(numbers, f"{name}.coefficient")
        claims[f"{key}_above_zero"] = side(f"{name}.coefficient") > 0
        claims[f"{key}_below_zero"] = side(f"{name}.coefficient") < 0
        claims[f"{key}_keeps_gold"] = beyond(numbers, f"{name}.gold_lead", -MARGIN) > 0
        if f"{name}.above_control" in numbers:
            claims[f"{key}_as_control"] = side(f"{name}.above_control") == 0
    twice = f"strength_{round(100 * max(strengths))}"
    claims |= {
        "length_planted": side("none.coefficient") > 0 and side("none.above_control") > 0,
        "length_control_free": covers_zero(numbers, "control.coefficient"),
        "length_control_pays": side("control.coefficient") > 0,
        "length_grows": side("grows") > 0,
        "length_splits_accuracy": splits("none") > 0,
        "length_control_splits": splits("control") > 0,
        "length_costs_gold": side("none.gold_behind") > 0,
        "length_lengthens": numbers["none.words_low"] > numbers["control.words_high"],
        "length_remedies_lower": all(side(f"{name}.lowered") > 0 for name in remedies),
        "length_balance_leaves": side("balanced.lowered") > 0 and side("balanced.coefficient") > 0,
        "length_remedy_works": any(
            claims[f"length_{name}_over_zero"] and claims[f"length_{name}_keeps_gold"] for name in remedies
        ),
        "length_independence_costs": all(side(f"{name}.coefficient") < 0 for name in INDEPENDENT),
        "length_too_strong": side(f"{twice}.coefficient") < 0,
        "length_too_strong_costs": side("too_strong") < 0,
        "length_is_earned": numbers["correlation"] > 0,
    }
    if "whole.biased.coefficient" in numbers:
        claims["length_whole_planted"] = side("whole.biased.coefficient") > 0
        claims["length_whole_works"] = (
            side("whole.balanced.lowered") > 0 and claims["length_whole_balanced_keeps_gold"]
        )
    return claims


def covers_zero(numbers: Mapping[str, float], key: str) -> bool:
    """Whether 0 lies within both intervals of a number."""
    heads = [head for head in (key, f"{key}{TRAININGS}") if f"{head}_low" in numbers]
    return all(numbers[f"{head}_low"] <= 0 <= numbers[f"{head}_high"] for head in heads)
