"""What is planted is found: gold turns over under a biased score; what pairs, noise and ensembles change."""

from dataclasses import replace

import numpy as np
import pytest

from rlhf_hw.experiments.result import verdicts
from rlhf_hw.experiments.selection.ensembles import combine, remedy_numbers
from rlhf_hw.experiments.selection.over_expectations import EXPECTATIONS, over_claims
from rlhf_hw.experiments.selection.over_inputs import Variations
from rlhf_hw.experiments.selection.reward_overoptimization import proxies_of, proxy_curves
from rlhf_hw.experiments.selection.state_heads import Labels, draw_heads, fit_head, flipped, rows_of


def numbers_of(found) -> dict[str, float]:
    return {key.removeprefix("over."): value for key, value in found.metrics.items()}


def test_gold_turns_over_under_the_biased_score_and_not_under_gold(found):
    numbers = numbers_of(found)
    assert numbers["bonus.fall_high"] < -0.2 and numbers["bonus.own_late_low"] > 0.3
    assert numbers["gold.fall"] == 0 and numbers["gold.least_step"] > -1e-9
    assert found.claims["over_bonus_turns"] and found.claims["over_control_rises"]
    assert found.claims["over_bonus_score_rises"] and not found.claims["over_model_turns"]
    assert numbers["bonus.words"] > numbers["words"] + 15 and found.claims["over_model_below_gold"]
    assert numbers["bonus.peak"] < 16 and found.curves["bonus"]["n"].iloc[-1] == 64 == numbers["most"]
    assert numbers["gold.kl_64"] < numbers["model.kl_64"] == pytest.approx(numbers["formula"])


def test_without_the_bias_in_gold_nothing_turns(world):
    harmless = replace(world, words=np.random.default_rng(0).normal(40, 15, world.words.shape))
    numbers = proxy_curves(harmless, proxies_of(harmless), 16)[1]
    assert numbers["bonus.fall_high"] > -0.1 and numbers["bonus.gold_most_low"] > 0.5


def test_pairs_help_noise_hurts_and_shuffled_labels_teach_nothing(found):
    numbers = numbers_of(found)
    assert numbers["labels.pairs_gain_low"] > 0.1 and numbers["labels.noise_cost_low"] > 0.5
    assert numbers["labels.length_cost"] > 0.1
    assert abs(numbers["labels.shuffled.accuracy"] - 0.5) < 0.15
    assert numbers["labels.many.accuracy"] > numbers["labels.flipped.accuracy"] + 0.1
    assert found.claims["over_shuffled_nothing"]
    accuracy = [one["accuracy"] for one in found.by_flips.values()]
    assert accuracy == sorted(accuracy, reverse=True) and list(found.by_pairs) == [20, 80, 300]


def test_an_ensemble_removes_what_members_do_not_share_and_nothing_else(found):
    numbers = numbers_of(found)
    assert numbers["remedies.noisy.mean.lead_low"] > 0.1
    assert numbers["remedies.own.averaged.lead"] == pytest.approx(numbers["remedies.own.mean.lead"], abs=0.1)
    assert numbers["remedies.biased.single.gold"] == pytest.approx(numbers["bonus.gold_most"])
    assert found.claims["over_shared_bias_stays"] and numbers["remedies.biased.mean.lead"] < 0.5


def test_the_rules_of_ensembles():
    members = np.array([[[3.0, 0, -3]], [[1.0, -2, 1]]])
    known = [members[0] / np.sqrt(6), members[1] / np.sqrt(2)]
    assert combine(members, "worst") == pytest.approx(np.minimum(*known))
    mean, variance = np.mean(known, axis=0), np.var(known, axis=0)
    assert combine(members, "mean") == pytest.approx(mean)
    assert combine(members, "uncertainty") == pytest.approx(mean - 0.5 * variance)
    alike = np.random.default_rng(0).normal(size=(1, 3, 4, 16))[:, :1].repeat(3, axis=1)
    numbers = remedy_numbers(alike, np.random.default_rng(1).normal(size=(4, 16)), (2, 16))
    for rule in ("mean", "worst", "uncertainty"):  # members that are one and the same have nothing to add
        assert numbers[f"{rule}.lead"] == pytest.approx(0) == numbers[f"{rule}.lead_middle"]


def test_flipped_labels_make_unsure_and_are_found(found):
    numbers = numbers_of(found)
    honest, noisy = (numbers[f"calibration.{name}.over_confidence"] for name in ("honest", "noisy"))
    assert noisy < honest - 0.05 and found.claims["over_noise_underconfident"]
    assert abs(numbers["calibration.noisy.alike"]) < 0.06
    assert 0.8 < numbers["flips.unseen"] < numbers["flips.truth"] and numbers["flips.unseen_low"] > 0.75
    assert {"confidence", "accuracy"} <= found.reliability[0.2][0].keys() and 0.5 not in found.reliability


def test_draws_share_no_pair_and_flips_are_as_many_as_said(world):
    rows = [rows_of(draw, 100, 1200) for draw in range(12)]
    assert len(set(np.concatenate(rows))) == 1200
    assert flipped(4000, 0.3, 1).mean() == pytest.approx(0.3, abs=0.03) and not flipped(99, 0.0, 1).any()
    turned = fit_head(world.train, rows[0], Labels(1.0), 0)
    assert turned == pytest.approx(-fit_head(world.train, rows[0], Labels(), 0), abs=1e-6)
    assert draw_heads(world.train, 50, Labels(), 3).shape == (3, 16)
    likes = fit_head(world.train, np.arange(1200), Labels(favour_length=True), 0)
    honest = fit_head(world.train, np.arange(1200), Labels(), 0)
    assert likes[1] > 0.3 > 0 > honest[1] and min(likes[0], honest[0]) > 1  # of length; of quality


def test_every_expectation_has_a_claim_and_a_claim_needs_its_interval(found):
    assert [row["expected"] for row in verdicts(EXPECTATIONS, found.claims)] == list(EXPECTATIONS.values())
    assert all(np.isfinite(value) for value in found.metrics.values())
    numbers = numbers_of(found)
    wide = {"bonus.fall_high": 0.1}
    assert over_claims(numbers)["over_bonus_turns"] and not over_claims(numbers | wide)["over_bonus_turns"]
    assert not over_claims(numbers | {"gold.fall": -0.1})["over_control_rises"]
    for rates in ((0.1, 0.5), (0.0, 0.4)):
        with pytest.raises(ValueError, match="the control"):
            Variations(rates=rates)
    for rate in (0.17, 0):
        with pytest.raises(ValueError, match="none of the rates above 0"):
            Variations(flip_rate=rate)
