"""Plural preferences in the simulated world: one reward fails the minority where a plural one does not."""

from dataclasses import replace

import numpy as np
import pytest

from rlhf_hw.experiments.plural.crowd import NEUTRAL, Scale, WorldPairs, ask, population, right_for, typical
from rlhf_hw.experiments.plural.expectations import EXPECTATIONS
from rlhf_hw.experiments.plural.group_models import (
    GROUPS,
    Crowd,
    disputed,
    draw_votes,
    judge_gate,
    judge_groups,
    matched,
    tie_numbers,
)
from rlhf_hw.experiments.plural.plural_preferences import Study, measure, plural_preferences
from rlhf_hw.experiments.plural.user_models import Individuals
from rlhf_hw.experiments.plural.welfare import draw_candidates
from rlhf_hw.experiments.result import verdicts
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.stats.choice_models import TIED
from rlhf_hw.stats.populations import Mixture

CROWD = Crowd(users=60, each=24)


@pytest.fixture(scope="module")
def pairs() -> tuple[WorldPairs, WorldPairs]:
    train = WorldPairs.of(load_preferences("data/hard", "HOMEWORK", "train", 400)[0])
    return train, WorldPairs.of(load_preferences("data/hard", "HOMEWORK", "validation", 200)[0], train.scale)


@pytest.fixture(scope="module")
def judged(pairs):
    return judge_groups(CROWD, *pairs, seed=1)


@pytest.fixture(scope="module")
def found(pairs):
    train, held_out = pairs
    study = Study(
        train,
        held_out,
        draw_candidates(held_out.prompts[:24], 16, train.scale, GROUPS),
        crowd=replace(CROWD, users=40),
        people=Individuals(16, 12, 4, steps=10),
        majorities=(0.9,),
        counts=(1, 24),
        contexts=(0, 8),
    )
    return plural_preferences([measure(study, seed) for seed in (1, 2)], study)


def test_a_single_reward_fails_the_minority_where_a_mixture_does_not(judged, pairs):
    right, split = judged[0], disputed(pairs[1])
    single, mixture = (right[f"{model}.brief"][split].mean() for model in ("single", "mixture"))
    assert single < 0.45 and mixture > 0.8
    assert right["single.thorough"][split].mean() == pytest.approx(1 - single)
    assert right["mixture.thorough"][split].mean() > 0.8
    assert right["known groups.brief"][split].mean() > 0.8


def test_shuffled_labels_are_at_one_half(judged):
    for group in GROUPS:
        assert judged[0][f"shuffled labels.{group}"].mean() == pytest.approx(0.5, abs=0.1)


def test_where_all_are_of_one_mind_a_mixture_gains_nothing(judged, pairs):
    alike = judge_groups(replace(CROWD, majority=1.0, spread=0.0), *pairs, seed=1)
    assert alike[1]["gain"] < 0.01 < 0.05 < judged[1]["gain"]
    assert alike[0]["single.thorough"].mean() > 0.93
    assert alike[1]["explained"] > judged[1]["explained"] + 0.15


def test_only_rewards_of_groups_know_what_is_disputed(judged):
    numbers = judged[1]
    assert numbers["auroc_mixture"] > 0.85 > numbers["auroc_margin"]


def test_a_model_of_ties_takes_dispute_for_indifference(pairs):
    numbers = tie_numbers(CROWD, *pairs, seed=1)
    for model in ("rao_kupper", "davidson"):
        assert numbers[f"{model}.indifferent"] > 0.8 and numbers[f"{model}.disputed"] > 0.6
    assert 0.05 < numbers["share"] < 0.5


def test_a_gate_helps_where_the_prompt_shows_who_judges(pairs):
    visible, hidden = (judge_gate(CROWD, *pairs, seed=1, visible=seen) for seen in (True, False))
    assert visible["gate"].mean() > visible["single"].mean() + 0.03
    assert abs(hidden["gate"].mean() - hidden["single"].mean()) < 0.06


def test_all_is_reported_with_intervals_over_pairs_and_over_replicates(found):
    assert found.metrics["plural.replicates"] == 2
    for key in ("plural.single.brief.disputed", "plural.lead.brief", "plural.users.low_rank.last"):
        assert {f"{key}{end}" for end in ("", "_low", "_trainings_high")} <= found.metrics.keys()
    assert found.metrics["plural.few.comparisons"] == 1 and found.metrics["plural.many.comparisons"] == 24
    assert list(found.by_count) == [1, 24] and list(found.by_context["alone"]) == [0, 8]
    assert found.frontier.shape == (41, 2)
    assert found.metrics["plural.welfare.maxmin.worst"] > found.metrics["plural.welfare.single.worst"]


def test_with_a_name_for_every_expectation_there_is_a_verdict(found):
    rows = verdicts(EXPECTATIONS, found.claims)
    assert len(rows) == len(EXPECTATIONS)
    assert all(row["found"] in ("borne out", "not borne out") for row in rows)
    assert found.metrics["plural.single.brief.disputed"] < 0.45


def test_groups_agree_about_gold_and_differ_about_length(pairs):
    wanted = [pairs[1].wanted(typical(group)) for group in GROUPS]
    gold = np.array([first.gold - second.gold for first, second in pairs[1].seen])
    assert np.mean(wanted, axis=0) == pytest.approx(gold)
    assert 0.3 < disputed(pairs[1]).mean() < 0.6


def test_people_say_what_their_annotators_say(pairs):
    votes, group = draw_votes(replace(CROWD, spread=0.0), pairs[0], seed=3)
    assert (np.bincount(votes.users) == 24).all() and group.sum() == 18
    sure = np.abs(pairs[0].wanted(typical("brief"))) > 1.5
    mine = (group[votes.users] == 1) & sure[votes.rows]
    wanted = pairs[0].wanted(typical("brief"))[votes.rows[mine]] > 0
    assert (votes.outcomes[mine] == wanted).mean() > 0.9


def test_some_may_call_a_tie(pairs):
    import random

    base = replace(NEUTRAL, tie_threshold=0.5)
    votes = ask(population({"brief": 5}, 0, base), pairs[0], 40, random.Random(0))
    assert (votes.said == TIED).any() and not (votes.decided.said == TIED).any()


def test_parts_of_a_mixture_are_paired_with_the_groups_they_hold():
    members = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
    mixture = Mixture(np.array([0.6, 0.4]), np.array([[1.0], [2.0]]), members, ())
    rewards, share = matched(mixture, np.array([0, 0, 1]))
    assert rewards.tolist() == [[2.0], [1.0]] and share == 1


def test_features_that_never_vary_say_nothing_and_half_is_for_ties():
    scale = Scale.of(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert scale.apply(np.array([[3.0, 9.0]])).tolist() == [[1.0, 0.0]]
    assert right_for(np.array([1.0, -2.0, 0.0]), np.array([3.0, 1.0, 1.0])).tolist() == [1.0, 0.0, 0.5]
