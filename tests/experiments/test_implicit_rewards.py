"""Log-ratios of held-out pairs, against plain log-probabilities, and what may be said of displacement."""

import numpy as np
import pytest

from rlhf_hw.experiments.implicit_rewards import describe_ratios, log_ratios
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.training import run
from rlhf_hw.training.config import DPOTraining

LIMITS = {"max_prompt_tokens": 512, "max_reply_tokens": 512}


def test_ratios_are_the_change_of_the_log_probabilities(settings, cache, preferences, policy_folder) -> None:
    trained = run.train_dpo(settings(DPOTraining, epochs=2)).checkpoint
    same = log_ratios(policy_folder, policy_folder, preferences, LIMITS, "fp32")
    assert np.abs(same).max() < 1e-4
    found = log_ratios(trained, policy_folder, preferences, LIMITS, "fp32")
    renderer = Renderer.load(trained, **LIMITS)
    from rlhf_hw.models.batches import tokenize_preferences

    groups, _, _ = tokenize_preferences(preferences, renderer)
    plain = [
        log_probs_groups(load_policy(p), groups, renderer.pad_id, "fp32") for p in (trained, policy_folder)
    ]
    assert found == pytest.approx(plain[0] - plain[1], abs=1e-4)
    assert (found[:, 0] > found[:, 1]).mean() > 0.8  # it was trained on these


@pytest.mark.parametrize(
    ("means", "claims"),
    [
        ((-2.0, -2.1, -1.9), {"displacement": True, "no_displacement": False}),
        ((2.0, 2.1, 1.9), {"displacement": False, "no_displacement": True}),
        ((-2.0, 2.1, -1.0), {"displacement": False, "no_displacement": False}),  # one seed does not decide
    ],
)
def test_displacement_is_said_beyond_both_intervals(means, claims) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (100, 2))
    found = describe_ratios([noise + [mean, mean - 1] for mean in means], beta=0.1)
    assert found.claims == claims
    assert found.metrics["dpo.held_out.margin"] == pytest.approx(
        0.1 * (1 + (noise[:, 0] - noise[:, 1]).mean())
    )
    assert found.metrics["dpo.held_out.pairs"] == 100
