"""The share of the best possible accuracy: worked examples and simulated coverage."""

import numpy as np
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.stats.ceiling import share_of_best


def labels(generator, count):
    """Outcomes of the best judge, and of a model that knows less, on the same noisy labels."""
    probability = generator.uniform(0.7, 1, count)  # of the better reply being chosen
    best = (generator.random(count) < probability).astype(float)
    agrees = generator.random(count) < 0.85  # with the best judge
    return np.where(agrees, best, 1 - best), best


def test_it_is_the_share_above_chance_on_the_same_labels():
    best = np.array([1.0] * 9 + [0.0])
    found = share_of_best([1.0] * 7 + [0.0] * 3, best)
    assert found["share_of_best"] == pytest.approx(0.2 / 0.4)
    assert share_of_best(best, best)["share_of_best"] == 1
    assert share_of_best([0.5] * 10, best)["share_of_best"] == 0


def test_agreement_everywhere_is_no_certainty():
    found = share_of_best(np.ones(30), np.ones(30))
    assert found["share_of_best"] == 1
    assert found["share_of_best_low"] < 0.93 and found["share_of_best_high"] > 1.05


def test_several_trainings_get_an_interval_of_their_own():
    best = np.ones(40)
    right = np.ones((3, 40))
    right[0, :4], right[1, :8], right[2, :6] = 0, 0, 0
    found = share_of_best(right, best)
    shares = [(1 - 2 * wrong / 40) for wrong in (4, 8, 6)]
    assert found["share_of_best"] == pytest.approx(np.mean(shares))
    half = 4.3027 * np.std(shares, ddof=1) / np.sqrt(3)
    assert found["share_of_best_trainings_low"] == pytest.approx(np.mean(shares) - half, abs=1e-4)
    assert "share_of_best_trainings_low" not in share_of_best(right[0], best)


def test_without_bounds_they_are_left_out():
    found = share_of_best([1.0, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0])
    assert found == {"share_of_best": pytest.approx(1.0)}
    assert set(share_of_best([1.0, 1.0], [1.0, 1.0], ["a", "a"])) == {"share_of_best"}
    with pytest.raises(InputError, match="nothing above chance"):
        share_of_best([1.0, 0.0], [0.5, 0.5])


def test_it_covers():
    generator, covered = np.random.default_rng(0), 0
    truth = (0.85 * 0.85 + 0.15 * 0.15 - 0.5) / 0.35
    for _ in range(1000):
        found = share_of_best(*labels(generator, 60))
        covered += found["share_of_best_low"] <= truth <= found["share_of_best_high"]
    assert 930 <= covered <= 975
