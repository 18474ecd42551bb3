"""Filters of data: labels that a model is against are often wrong; what is kept is as good as its score."""

from dataclasses import replace

import numpy as np
import pytest

from rlhf_hw.experiments.selection.data_filter import kept_gain, label_filter_numbers, reply_filter_numbers
from rlhf_hw.experiments.selection.head_trials import direction_numbers, judge_labels
from rlhf_hw.experiments.selection.over_inputs import Variations
from rlhf_hw.experiments.selection.reward_overoptimization import proxies_of
from rlhf_hw.experiments.selection.state_heads import Labels


def first_pairs(pairs, count: int):
    """The first pairs of a set."""
    cut = {name: getattr(pairs, name)[:count] for name in ("differences", "prompts", "favoured", "gold")}
    return replace(pairs, **cut)


def test_suspects_are_mostly_flipped_and_dropping_them_helps_where_flips_hurt(world) -> None:
    few = first_pairs(world.train, 150)
    found = label_filter_numbers(few, world.held_out, 0.3, 24)
    assert found["caught"] > 0.5  # of which at random 0.3 would be
    assert found["lead_low"] > 0 and found["lead_trainings_low"] > 0
    assert found["truth_lead"] > 0
    accuracy = {kind: found[f"{kind}.accuracy"] for kind in ("all", "random", "suspects", "flipped")}
    assert accuracy["random"] < accuracy["suspects"] < accuracy["flipped"] > accuracy["all"]
    assert found["gain"] == pytest.approx(accuracy["suspects"] - accuracy["all"])


def test_what_is_kept_is_as_good_as_the_score(world) -> None:
    found = reply_filter_numbers(proxies_of(world), world.gold, world.words, 0.1)
    assert 1 < found["model.gain"] < found["gold.gain"] and found["bonus.gain"] < 0.5
    assert found["bonus_cost_low"] > 0.5 and found["bonus_longer_low"] > 5
    guessed = np.random.default_rng(0).random((3, *world.gold.shape))
    assert abs(kept_gain(guessed, world.gold, 0.1).mean()) < 0.1
    assert kept_gain(world.gold[None], world.gold, 1.0) == pytest.approx(0)
    best = world.gold.max(axis=1) - world.gold.mean(axis=1)
    assert kept_gain(world.gold[None], world.gold, 1e-6)[0] == pytest.approx(best)


def test_a_reward_model_that_does_not_see_the_quality_is_worse(world) -> None:
    """The quality, the first of the directions, comes last."""
    hidden = replace(
        world,
        states=world.states[..., ::-1],
        train=replace(world.train, differences=world.train.differences[:, ::-1]),
        held_out=replace(world.held_out, differences=world.held_out.differences[:, ::-1]),
    )
    wanted = Variations(sizes=(20, 300), rates=(0.0, 0.2, 0.5), draws=3, directions=(2, 14, 99))
    whole = judge_labels(hidden, wanted)[Labels()]
    rows, numbers = direction_numbers(hidden, whole, wanted)
    assert list(rows) == [2, 14, 16] and numbers["narrow_directions"] == 2
    assert abs(rows[2]["accuracy"] - 0.5) < 0.1 < rows[16]["accuracy"] - rows[14]["accuracy"]
    assert numbers["directions_gain_low"] > 0.5
