"""Unfamiliar states are seen to be unfamiliar, and equal texts have equal signs."""

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap.unfamiliarity import head_spread, hidden_distance


def test_signs_are_zero_for_equal_replies(measure, equal_replies):
    signs = measure(equal_replies).unfamiliar
    assert signs.shape == (len(equal_replies), 2) and signs == pytest.approx(0)


def test_heads_disagree_more_about_states_far_from_the_training_ones():
    generator = np.random.default_rng(0)
    quality = np.array([1.0, 0, 0, 0])
    training = generator.normal(size=(300, 2, 4)) + np.array([0.5, -0.5])[:, None] * quality
    near, far = generator.normal(size=(200, 4)), 4 * generator.normal(size=(200, 4))
    spread = [head_spread(states, training).mean() for states in (near, far)]
    assert spread[1] > 2 * spread[0] > 0
    assert head_spread(near, training) == pytest.approx(head_spread(near, training))


def test_hidden_distance_is_one_for_familiar_and_larger_for_shifted_states():
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(8, 8))
    familiar = generator.normal(size=(3000, 8)) @ mixing
    assert (hidden_distance(familiar, familiar) ** 2).mean() == pytest.approx(1, abs=0.1)
    assert hidden_distance(familiar[:100] + 5 * mixing[0], familiar).mean() > 1.5
