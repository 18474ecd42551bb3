"""What the default run must show: `RLHF_HW_CHECK_RUN=1 pytest tests/test_nano_run.py` after `make report`.

The bounds leave room for other processors; what the run reaches stands in its report.
"""

import json
import os

import pytest

from rlhf_hw.paths import RUNS

METRICS = RUNS / "nano" / "metrics.json"
pytestmark = pytest.mark.skipif(not os.environ.get("RLHF_HW_CHECK_RUN"), reason="see the module's docstring")


@pytest.fixture(scope="module")
def metrics() -> dict[str, float]:
    return json.loads(METRICS.read_text())


def test_the_reward_model_comes_near_what_is_possible(metrics) -> None:
    known = metrics["rm.validation.accuracy"] / metrics["data.best_possible_accuracy"]
    assert 0.93 < known < 1.05
    assert metrics["rm.validation.gold_spearman_margin"] > 0.84
    assert metrics["rm.validation.gold_spearman_within"] > 0.75
    assert metrics["rm.validation.accuracy_low"] > metrics["baseline.length.accuracy"]


def test_an_untrained_head_is_right_half_of_the_time(metrics) -> None:
    assert (
        metrics["untrained.validation.accuracy_low"] < 0.52
        and metrics["untrained.validation.accuracy_high"] > 0.48
    )


def test_imitation_and_preference_are_told_apart(metrics) -> None:
    """Whatever DPO adds: it is measured against SFT, over replicates, by two judges and by gold."""
    assert metrics["steps.validation.sft_base.gold_difference_low"] > 0.2
    assert metrics["steps.validation.sft_base.gold_difference_trainings_low"] > 0
    assert metrics["dpo.train.nll_weight"] == 0 and metrics["dpo.train.replicates"] >= 3
    for measure in ("gold_difference", "score_difference", "judge_difference", "gold_win_rate", "kl"):
        for end in ("low", "high", "trainings_low", "trainings_high"):
            assert f"steps.validation.dpo_sft.{measure}_{end}" in metrics
    assert 0 < metrics["steps.validation.dpo_sft.kl"] < 30


def test_over_optimisation_was_looked_for(metrics) -> None:
    """Where gold turns depends on the machine; that a strong setting moves far is what makes it visible."""
    assert metrics["choice.settings"] >= 4 and metrics["choice.prompts"] >= 100
    assert {"steps.validation.dpo_reference.gold_difference", "choice.gold_lost"} <= metrics.keys()


def test_the_base_model_is_fluent_and_leaves_room(metrics) -> None:
    assert metrics["base.well_formed"] > 0.93 and metrics["base.on_topic"] > 0.8
    assert metrics["base.gold.mean"] < 1
    assert 0.8 < metrics["base.gold.sd"] < 1.25  # gold's unit
