"""The pair to follow by hand: loss and gold follow from the recorded numbers."""

import math

import pytest

from rlhf_hw.experiments.worked_example import worked_example
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.training import run
from rlhf_hw.training.config import DPOTraining

LIMITS = {"max_prompt_tokens": 512, "max_reply_tokens": 512}


def test_the_loss_follows_by_hand(settings, cache, preferences, policy_folder) -> None:
    trained = run.train_dpo(settings(DPOTraining, epochs=2)).checkpoint
    found = worked_example(trained, policy_folder, preferences, 0.5, LIMITS, "fp32").metrics
    ratios = [
        found[f"worked.policy_{side}"] - found[f"worked.reference_{side}"] for side in ("chosen", "rejected")
    ]
    assert ratios[0] > ratios[1]  # it was trained on this pair
    margin = 0.5 * (ratios[0] - ratios[1])
    assert found["worked.margin"] == pytest.approx(margin, abs=1e-5)
    assert found["worked.loss"] == pytest.approx(math.log(1 + math.exp(-margin)), abs=1e-5)
    assert not any("gold" in key for key in found) and "worked.prompt" not in found


def test_gold_is_the_sum_of_its_parts(policy_folder) -> None:
    asked = (Message("user", "Give me two tips for cooking rice."),)
    pair = Preference(asked, "Keep the lid on while the rice cooks.", "That is how it usually goes.")
    found = worked_example(policy_folder, policy_folder, [pair], 0.1, LIMITS, "fp32", world=True).metrics
    assert found["worked.loss"] == pytest.approx(math.log(2))  # a policy that equals its reference
    assert (found["worked.chosen"], found["worked.rejected"]) == (pair.chosen, pair.rejected)
    for side in ("chosen", "rejected"):
        parts = [
            value
            for key, value in found.items()
            if key.startswith("worked.gold.")
            and key.endswith(side)
            and key.split(".")[2] not in ("total", "gold")
        ]
        assert sum(parts) == pytest.approx(found[f"worked.gold.total.{side}"])
        assert found[f"worked.gold.gold.{side}"] == pytest.approx(sum(parts) / found["worked.scale"])
    assert found["worked.gold.coverage.chosen"] > 0 == found["worked.gold.coverage.rejected"]
    assert "worked.gold.unsafe.chosen" not in found
