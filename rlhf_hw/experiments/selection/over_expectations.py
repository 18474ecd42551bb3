"""What was expected of choosing hard by a reward before it was tried, and what the numbers allow to say.

The expectations were written from the literature (Gao et al. 2023, Beirami et al. 2024, Coste et al. 2024,
Eisenstein et al. 2024, Wang et al. 2024; Dong et al. 2023 for filters of replies) and stay as they were; each
names the claim that bears it out.
"""

from collections.abc import Mapping

from rlhf_hw.stats.replicates import beyond

CLOSE = 0.05  # nats within which two divergences are the same
TINY = 1e-9  # of gold: what rounding makes of nothing
FOUND = 0.8  # area under the ROC curve that counts as finding flipped labels

EXPECTATIONS = {
    "over_control_rises": "chosen by gold itself, gold never falls (control)",
    "over_bonus_turns": "chosen by a score with a planted bias for length, gold falls after a peak",
    "over_bonus_score_rises": "while that score itself keeps rising",
    "over_model_below_gold": "the reward model brings less gold than choosing by gold itself",
    "over_model_flattens": "its last three doublings of n bring less gold than its first three",
    "over_divergence_formula": "where scores have no ties, the divergence is that of the formula",
    "over_divergence_ties": "where they have ties, as gold has, it is smaller",
    "over_forecast": "a parabola in its root, fitted on small n, foretells gold at the largest n",
    "over_pairs_help": "more pairs bring more gold",
    "over_noise_hurts": "flipped labels cost gold",
    "over_shuffled_nothing": "labels shuffled at one half bring none, and accuracy is guessing (control)",
    "over_length_labels_cost": "labels that favour length bring less gold than honest ones",
    "over_mean_helps_noisy": "the mean of several models of few noisy pairs beats one of them",
    "over_careful_beats_mean": "worst case or a price on disagreement beats the mean there",
    "over_shared_bias_stays": "no ensemble brings more gold where all members share a bias (control)",
    "over_noise_underconfident": "models of flipped labels are too unsure of honest ones",
    "over_noise_calibrated": "and calibrated to labels that are flipped alike",
    "over_flips_found": "margins of models that have not seen a pair find flipped labels (area above 0.8)",
    "over_seen_finds_less": "the model that was trained on them finds them less well",
    "over_directions_help": "a reward model that sees more of the states brings more gold",
    "over_filter_labels": "dropping the labels that models of other prompts are most against raises accuracy "
    "beyond dropping as many at random",
    "over_filter_truth": "dropping just the flipped ones raises it more still (control)",
    "over_filter_replies": "the replies to a prompt that the reward model scores highest have more gold than "
    "all of them",
    "over_filter_bias": "kept by the score with a bonus for length, they are longer and have less gold",
}


def over_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What may be said: each beyond the intervals over prompts and over trainings.

    Args:
        numbers: Metrics of `reward_overoptimization`, without their prefix.
    """

    def side(key: str, bound: float = 0.0) -> int:
        return beyond(numbers, key, bound)

    careful = [side(f"remedies.noisy.{rule}.over_mean") for rule in ("worst", "uncertainty")]
    shared = [side(f"remedies.biased.{rule}.lead") for rule in ("mean", "worst", "uncertainty")]
    own = [
        name
        for name in ("mean", "worst", "uncertainty", "averaged")
        if f"remedies.own.{name}.lead" in numbers
    ]
    return {
        "over_control_rises": numbers["gold.least_step"] > -TINY and abs(numbers["gold.fall"]) < TINY,
        "over_bonus_turns": side("bonus.fall") < 0,
        "over_bonus_score_rises": side("bonus.own_late") > 0,
        "over_bonus_loses": side("bonus.gold_most") < 0,
        "over_model_turns": side("model.fall") < 0,
        "over_model_gains": side("model.gold_most") > 0,
        "over_model_below_gold": side("model.below_gold") > 0,
        "over_model_flattens": side("model.flattening") > 0,
        "over_divergence_formula": abs(numbers["model.divergence_saved"]) < CLOSE,
        "over_divergence_ties": numbers["gold.divergence_saved"] > CLOSE,
        "over_forecast": side("model.forecast_error") == 0,
        "over_pairs_help": side("labels.pairs_gain") > 0,
        "over_noise_hurts": side("labels.noise_cost") > 0,
        "over_shuffled_nothing": side("labels.shuffled.accuracy", 0.5) == 0
        and side("labels.shuffled.gold_most") <= 0,
        "over_shuffled_loses": side("labels.shuffled.gold_most") < 0,
        "over_length_labels_cost": side("labels.length_cost") > 0,
        "over_length_labels_turn": side("labels.favour_length.fall") < 0,
        "over_mean_helps_noisy": side("remedies.noisy.mean.lead") > 0,
        "over_careful_beats_mean": max(careful) > 0,
        "over_shared_bias_stays": max(shared) <= 0,
        "over_some_remedy_helps_own": any(side(f"remedies.own.{name}.lead") > 0 for name in own),
        "over_noise_underconfident": side("calibration.noisy.over_confidence") < 0
        and side("calibration.less_sure") > 0,
        "over_noise_calibrated": side("calibration.noisy.alike") == 0,
        "over_flips_found": side("flips.unseen", FOUND) > 0,
        "over_flips_told": side("flips.unseen", 0.5) > 0,
        "over_seen_finds_less": side("flips.seen_less") > 0,
        "over_directions_help": side("labels.directions_gain") > 0,
        "over_filter_labels": side("filters.labels.lead") > 0,
        "over_filter_truth": side("filters.labels.truth_lead") > 0,
        "over_filter_replies": side("filters.model.gain") > 0,
        "over_filter_bias": side("filters.bonus_longer") > 0 and side("filters.bonus_cost") > 0,
    }
