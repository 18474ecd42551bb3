"""Features that a language model computes: in the order of the rows, in the scale of the first set."""

import numpy as np

from rlhf_hw.experiments.plural import reply_states
from rlhf_hw.experiments.plural.crowd import WorldPairs
from rlhf_hw.experiments.plural.reply_states import DIRECTIONS, pairs_of_states
from rlhf_hw.preferences.reading import load_preferences


def test_shares_of_the_work_change_nothing(monkeypatch):
    monkeypatch.setenv("RLHF_HW_WORKERS", "1")
    rows = load_preferences("data/hard", "HOMEWORK", "validation", 12)[0]
    limits = {"max_prompt_tokens": 128, "max_reply_tokens": 128}
    whole = pairs_of_states("data/base-model", (rows, rows[:5]), limits, "fp32")
    monkeypatch.setattr(reply_states, "SHARE", 5)
    for one, other in zip(
        whole, pairs_of_states("data/base-model", (rows, rows[:5]), limits, "fp32"), strict=True
    ):
        assert np.allclose(one.first @ one.first.T, other.first @ other.first.T, atol=1e-2)
        assert np.allclose(one.second @ one.first.T, other.second @ other.first.T, atol=1e-2)
        assert one.prompts == other.prompts


def test_states_stand_in_the_order_of_the_replies_and_in_one_scale():
    rows = load_preferences("data/hard", "HOMEWORK", "validation", 30)[0]
    limits = {"max_prompt_tokens": 128, "max_reply_tokens": 128}
    first, second = pairs_of_states("data/base-model", (rows, rows[:5]), limits)
    assert first.first.shape == (30, min(DIRECTIONS, 60))
    assert np.allclose(first.first[:5], second.first, atol=1e-3)
    assert np.allclose(first.second[:5], second.second, atol=1e-3)
    both = np.concatenate([first.first, first.second])
    assert np.allclose(both.mean(axis=0), 0, atol=1e-6)
    assert first.seen == WorldPairs.of(rows).seen  # annotators see the same replies in the same order
