"""The curve compares smaller models with the full one on the same pairs, from none on."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments import learning_curve


def scored(preferences, right: int) -> pd.DataFrame:
    texts = {"chosen": [p.chosen for p in preferences], "rejected": [p.rejected for p in preferences]}
    margins = [1.0 if row < right else -1.0 for row in range(len(preferences))]
    return pd.DataFrame({**texts, "margin": margins, "prompt_key": range(len(preferences))})


def test_curve_and_its_numbers(preferences):
    tables = {n: [scored(preferences, right)] for n, right in {24: 24, 6: 6, 12: 12}.items()}
    result = learning_curve.measure_curve(tables, [preferences])
    points = result.points
    assert [p["accuracy"] for p in points["reward model"]] == [0.25, 0.5, 1.0]
    assert [p["pairs"] for p in points["words"]] == [6, 12, 24] and points["words"][-1]["accuracy"] > 0.8
    for curve in points.values():
        assert all(p["accuracy_low"] <= p["accuracy"] <= p["accuracy_high"] for p in curve)
    found = {key.removeprefix("learning_curve."): value for key, value in result.metrics.items()}
    assert result.claims == {"more_pairs_help": True}
    assert result.accuracies.loc[[6, 12, 24], "reward model"].tolist() == [0.25, 0.5, 1.0]
    assert (found["6.accuracy"], found["first_pairs"], found["last_pairs"]) == (0.25, 6, 24)
    assert (found["first_accuracy"], found["last_accuracy"]) == (0.25, 1.0)
    assert (found["previous_pairs"], found["rise"]) == (12, 0.5) and 0 < found["rise_low"] < 0.5
    assert found["24.words"] == points["words"][-1]["accuracy"]
    assert "rise_trainings_low" not in found


def test_the_curve_starts_where_nothing_was_learned(preferences):
    tables = {n: [scored(preferences, right)] for n, right in {24: 24, 6: 20}.items()}
    heads = np.random.default_rng(0).normal(size=(24, 500)), range(24)
    result = learning_curve.measure_curve(tables, [preferences], heads)
    starts = {name: curve[0] for name, curve in result.points.items()}
    assert all(point["pairs"] == 0 for point in starts.values())
    assert abs(starts["reward model"]["accuracy"] - 0.5) < 0.05
    assert starts["reward model"]["accuracy_low"] < 0.5 < starts["reward model"]["accuracy_high"]
    assert starts["words"]["accuracy"] == starts["length"]["accuracy"] == 0.5
    found = result.metrics
    assert found["learning_curve.0.accuracy"] == starts["reward model"]["accuracy"]
    assert found["learning_curve.0.words"] == 0.5 and found["learning_curve.first_pairs"] == 6


def test_more_pairs_help_beyond_both_intervals(preferences):
    """Each replicate learns from the first of its own pairs; one that loses by more pairs casts doubt."""
    train = [preferences, preferences[::-1]]
    small = [scored(preferences, 4), scored(preferences, 6)]
    steady = {24: [scored(preferences, 22), scored(preferences, 23)], 12: small}
    found = learning_curve.measure_curve(steady, train)
    assert found.claims == {"more_pairs_help": True}
    assert found.metrics["learning_curve.rise"] == pytest.approx(17.5 / 24)
    assert found.metrics["learning_curve.24.accuracy_trainings_low"] < 45 / 48
    wild = {24: [scored(preferences, 24), scored(preferences, 8)], 12: small}
    found = learning_curve.measure_curve(wild, train)
    assert found.metrics["learning_curve.rise_low"] > 0 and found.claims == {"more_pairs_help": False}
