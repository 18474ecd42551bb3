"""Unfamiliar states are seen to be unfamiliar, and equal texts have equal signs."""

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap.unfamiliarity import FamiliarStates


def pairs_of_states(generator, mixing=None):
    """States of 300 training pairs, where the first dimension is quality."""
    quality = np.array([0.5, -0.5])[:, None] * np.eye(1, 4)
    states = generator.normal(size=(300, 2, 4)) + quality
    return states if mixing is None else states @ mixing


def test_signs_are_zero_for_equal_replies(measure, equal_replies):
    signs = measure(equal_replies).unfamiliar
    assert signs.shape == (len(equal_replies), 2) and signs == pytest.approx(0)


def test_heads_disagree_more_about_states_far_from_the_training_ones():
    generator = np.random.default_rng(0)
    training = pairs_of_states(generator)
    near, far = generator.normal(size=(200, 4)), 4 * generator.normal(size=(200, 4))
    known = FamiliarStates(training)
    spread = [known.disagreement(states).mean() for states in (near, far)]
    assert spread[1] > 2 * spread[0] > 0
    assert FamiliarStates(training).disagreement(near) == pytest.approx(known.disagreement(near))
    assert known.signs(near) == pytest.approx(
        np.column_stack([known.distance(near), known.disagreement(near)])
    )


def test_hidden_distance_is_one_for_familiar_and_larger_for_shifted_states():
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(4, 4))
    training = pairs_of_states(generator, mixing)
    known, flat = FamiliarStates(training), training.reshape(-1, 4)
    assert (known.distance(flat) ** 2).mean() == pytest.approx(1, abs=0.1)
    assert known.distance(flat[:100] + 5 * mixing[0]).mean() > 1.5
