"""Random heads are the heads of untrained reward models, drawn many at a time."""

import numpy as np
import pytest

from rlhf_hw.experiments.pair_evaluation import head_margins
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.stats.pairs import random_heads_accuracy


def test_each_column_holds_the_margins_of_the_untrained_model_with_that_seed(policy_folder, preferences):
    margins, prompts = head_margins(RewardModel(policy_folder, seed=5), preferences, heads=3, seed=5)
    assert margins.shape == (len(preferences), 3) and prompts == [p.prompt for p in preferences]
    for column, seed in enumerate((5, 6, 7)):
        scored = RewardModel(policy_folder, seed=seed).score_preferences(preferences)
        expected = [row["chosen_score"] - row["rejected_score"] for row in scored]
        assert margins[:, column] == pytest.approx(np.array(expected), abs=1e-4)


def test_over_many_heads_the_untrained_model_guesses(policy_folder, preferences):
    found = random_heads_accuracy(*head_margins(RewardModel(policy_folder), preferences, heads=200))
    assert abs(found["accuracy"] - 0.5) < 0.05 and found["heads"] == 200
    assert found["accuracy_low"] <= 0.5 <= found["accuracy_high"]
