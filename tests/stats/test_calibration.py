"""Calibration worked by hand, and temperatures that are judged on other prompts than they are fitted to."""

import numpy as np
import pytest
from scipy import special

from rlhf_hw.stats import calibration, intervals


def test_calibration_error_worked_by_hand():
    # Confidences 0.6, 0.6 (one right) and 0.9, 0.9 (both right), two bins: (|0.5 - 0.6| + |1 - 0.9|) / 2.
    margins = special.logit([0.6, 0.4, 0.9, 0.9])
    assert calibration.expected_calibration_error(margins, bins=2) == pytest.approx(0.1)
    table = calibration.reliability_curve(margins, bins=2)
    assert table["accuracy"].tolist() == [0.5, 1.0] and table["pairs"].tolist() == [2, 2]


def test_calibration_error_does_not_depend_on_the_order_of_equal_scores():
    margins = np.array([1.0] * 7 + [-1.0] * 5 + [2.0] * 9)
    shuffled = np.random.default_rng(0).permutation(margins)
    assert calibration.expected_calibration_error(margins, bins=4) == pytest.approx(
        calibration.expected_calibration_error(shuffled, bins=4)
    )


def test_temperature_is_recovered_and_scaling_is_honest():
    generator = np.random.default_rng(0)
    true = generator.normal(0, 1.5, 4000)
    margins = np.where(generator.random(4000) < special.expit(true), true, -true) * 3  # three times too sure
    assert calibration.fit_temperature(margins) == pytest.approx(3, rel=0.1)
    found = calibration.calibration_metrics(margins)
    assert found["ece_scaled"] < 0.03 < 0.1 < found["ece"]
    assert found["log_loss_scaled"] < found["log_loss"]


def test_temperature_of_extreme_models_stays_finite():
    assert (
        np.isfinite(calibration.fit_temperature([1.0, 2.0])) and calibration.fit_temperature([0.0, 0.0]) == 1
    )
    assert calibration.fit_temperature([-1.0, -2.0]) > 100  # always wrong: no confidence is low enough


def test_no_temperature_is_judged_on_the_prompts_it_was_fitted_to():
    margins, prompts = np.array([1.0, 1.0, -1.0, -1.0]), ["a", "a", "b", "b"]
    scaled = calibration.scale_margins(margins, prompts)
    assert scaled[0] < 0.01 and scaled[2] < -100  # each prompt gets the temperature of the other one


def test_bins_count_their_pairs_and_know_their_prompts():
    margins, codes = np.array([1.0, -1.0, 0.0, 2.0, 3.0]), np.array([1, 1, 0, 0, 0])
    table = calibration.accuracy_by_bin(margins, codes)
    assert table["accuracy"].tolist() == [2.5 / 3, 0.5] and table["pairs"].tolist() == [3, 2]
    assert table["accuracy_low"][1] == intervals.rate_interval([1, 0]).low
    shared = calibration.accuracy_by_bin(margins, codes, ["a", "b", "a", "a", "c"])
    assert shared["accuracy"].tolist() == table["accuracy"].tolist()
    assert shared["accuracy_low"][0] == intervals.rate_interval([0.5, 1, 1], ["a", "a", "c"]).low
