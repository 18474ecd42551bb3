"""Scores are described by set; random heads are the heads of untrained models, drawn many at a time."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments.score_distributions import (
    describe_scores,
    head_margins,
    reply_lengths,
    score_untrained,
)
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.stats.pairs import random_heads_accuracy


def test_each_column_holds_the_margins_of_the_untrained_model_with_that_seed(
    policy_folder, preferences, tmp_path
):
    base = RewardModel(policy_folder, untrained=True)
    table = score_untrained(base, preferences, tmp_path / "untrained.jsonl", heads=3, seed=5)
    margins, prompts = head_margins(table)
    assert margins.shape == (len(preferences), 3)
    asked = [p.prompt for p in preferences]  # a prompt is the whole conversation
    assert [list(prompts).index(key) for key in prompts] == [asked.index(prompt) for prompt in asked]
    for column, seed in enumerate((5, 6, 7)):
        scored = RewardModel(policy_folder, seed=seed, untrained=True).score_preferences(preferences)
        expected = [row["chosen_score"] - row["rejected_score"] for row in scored]
        assert margins[:, column] == pytest.approx(np.array(expected), abs=1e-4)
        if column == 0:  # the one whose scores the file holds
            assert table["margin"].tolist() == pytest.approx(expected, abs=1e-4)
            assert table["chosen_tokens"].tolist() == [row["chosen_tokens"] for row in scored]


def test_over_many_heads_the_untrained_model_guesses(policy_folder, preferences, tmp_path):
    base = RewardModel(policy_folder, untrained=True)
    table = score_untrained(base, preferences, tmp_path / "untrained.jsonl", heads=200)
    found = random_heads_accuracy(*head_margins(table))
    assert abs(found["accuracy"] - 0.5) < 0.05 and found["heads"] == 200
    assert found["accuracy_low"] <= 0.5 <= found["accuracy_high"]


@pytest.fixture
def pairs():
    texts = {"chosen": ["a b", "c"], "rejected": ["d", "e f g"], "prompt_key": ["q", "r"]}
    return pd.DataFrame({**texts, "chosen_score": [1.0, 2.0], "rejected_score": [0.0, 1.5]})


def test_sets_are_described_and_random_heads_where_they_were_drawn(pairs):
    found = describe_scores({"validation": pairs, "train": pairs.assign(chosen_score=[3.0, 4.0])})
    assert found.metrics["scores.train.chosen_mean"] == found.numbers["train"]["chosen_mean"] == 3.5
    assert found.metrics["scores.validation.margin_mean"] == 0.75
    assert found.random_heads == {} == found.claims
    assert [part.tolist() for part in found.by_length["chosen"]] == [[1.0, 2.0], [2, 1], ["q", "r"]]
    heads = (np.array([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]), ["q", "r"])
    found = describe_scores({"validation": pairs}, heads)
    assert found.metrics["untrained.validation.accuracy"] == found.random_heads["accuracy"] == 0.5
    assert found.claims == {"untrained_covers_half": True}


def test_lengths_are_tokens_where_known_and_words_elsewhere(pairs):
    lengths, unit = reply_lengths(pairs)
    assert unit == "words" and lengths["rejected"].tolist() == [1, 3]
    lengths, unit = reply_lengths(pairs.assign(chosen_tokens=3, rejected_tokens=4))
    assert unit == "tokens" and lengths["rejected"].tolist() == [4, 4]
