"""Smaller models are trained as the full one was, and the curve compares them on the same pairs."""

import pandas as pd
import pytest

from rlhf_hw.experiments import learning_curve
from rlhf_hw.experiments.scored_pairs import score_pairs
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.run import train_reward_model


@pytest.fixture
def settings(policy_folder, pairs_file, tmp_path) -> RewardTraining:
    return RewardTraining(
        model=str(policy_folder),
        output_dir=tmp_path / "reward_model",
        train_dataset=str(pairs_file),
        eval_dataset=str(pairs_file),
        max_train=16,
        batch_size=4,
        learning_rate=1e-2,
        report_to="none",
        seed=4,
    )


def test_a_smaller_model_is_the_one_that_its_settings_train(settings, tmp_path, preferences):
    train_reward_model(settings)
    found, pairs = learning_curve.trained_on(settings.output_dir)
    assert found == settings and len(pairs) == 16
    table = learning_curve.train_and_score(found, 8, preferences, tmp_path / "scores" / "curve_8.jsonl")
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["curve_8.jsonl"]  # no weights are left
    again = settings.model_copy(update={"max_train": 8, "output_dir": tmp_path / "again"})
    train_reward_model(again)
    expected = score_pairs(RewardModel(again.output_dir), preferences, tmp_path / "again.jsonl")
    assert table["margin"].tolist() == pytest.approx(expected["margin"].tolist(), abs=1e-4)


def test_curve_and_its_numbers(preferences):
    def scored(right: int) -> pd.DataFrame:
        texts = {"chosen": [p.chosen for p in preferences], "rejected": [p.rejected for p in preferences]}
        margins = [1.0 if row < right else -1.0 for row in range(len(preferences))]
        return pd.DataFrame({**texts, "margin": margins, "prompt_key": range(len(preferences))})

    tables = {24: scored(24), 6: scored(6), 12: scored(12)}
    result = learning_curve.measure_curve(tables, preferences)
    points = result.points
    assert [p["accuracy"] for p in points["reward model"]] == [0.25, 0.5, 1.0]
    assert [p["pairs"] for p in points["words"]] == [6, 12, 24] and points["words"][-1]["accuracy"] > 0.8
    assert all(p["low"] <= p["accuracy"] <= p["high"] for curve in points.values() for p in curve)
    found = {key.removeprefix("learning_curve."): value for key, value in result.metrics.items()}
    assert result.claims == {"more_pairs_help": True}
    assert result.accuracies.loc[[6, 12, 24], "reward model"].tolist() == [0.25, 0.5, 1.0]
    assert (found["6.accuracy"], found["first_pairs"], found["last_pairs"]) == (0.25, 6, 24)
    assert (found["previous_pairs"], found["rise"]) == (12, 0.5) and 0 < found["rise_low"] < 0.5
    assert found["24.words"] == points["words"][-1]["accuracy"]


def test_sizes_are_numbers_below_the_full_model(caplog):
    assert learning_curve.curve_sizes("1500, 500,", 6000) == [500, 1500]
    assert learning_curve.curve_sizes("500", 6000) == [500] and not caplog.records
    assert learning_curve.curve_sizes("6000,500", 6000) == [500]
    assert learning_curve.curve_sizes("1000", 256) == []
    assert "the full model has 256 pairs" in caplog.text
    for text in ("a few", "0,500", "-3", "1.5"):
        with pytest.raises(ValueError, match="expected numbers such as"):
            learning_curve.curve_sizes(text, 6000)


def test_a_checkpoint_of_another_system_has_no_settings(reward_folder):
    with pytest.raises(FileNotFoundError, match="leave learning_curve_pairs empty"):
        learning_curve.trained_on(reward_folder)
