"""Simulated annotators: exact probabilities, the effect of each dial, the noise of the stored comparisons."""

import math
import random

import pytest

from rlhf_hw.world import build
from rlhf_hw.world.annotators import GROUPS, TIE, Annotator, Features, best_possible_accuracy, users

PLAIN = Annotator(temperature=0.5, flip=0.0, length_bias=0.0)


def test_the_probability_is_bradley_terry_with_flips():
    first, second = Features(1.0, 30, 0), Features(0.5, 60, 0)
    assert PLAIN.compare(first, second) == pytest.approx(1 / (1 + math.exp(-1)))
    noisy = Annotator(temperature=0.5, flip=0.1, length_bias=0.0)
    assert noisy.compare(first, second) == pytest.approx(0.1 + 0.8 / (1 + math.exp(-1)))
    assert noisy.compare(Features(99.0, 1, 0), Features(-99.0, 1, 0)) == pytest.approx(0.9)


def test_swapping_the_replies_gives_the_opposite_probability():
    rng = random.Random(0)
    for annotator in (user for group in GROUPS for user in users(3, group)):
        for _ in range(50):
            first, second = (
                Features(rng.gauss(0, 1), rng.randrange(80), rng.randrange(2), rng.randrange(2)) for _ in "12"
            )
            assert annotator.compare(first, second) + annotator.compare(second, first) == pytest.approx(1)


def test_each_bias_moves_the_preference():
    for dial, first, second in (
        ("length_bias", Features(0, 40, 0), Features(0, 20, 0)),
        ("praise_bias", Features(0, 30, 1), Features(0, 30, 0)),
        ("refusal_bias", Features(0, 30, 0, 1), Features(0, 30, 0, 0)),
    ):
        assert PLAIN.compare(first, second) == 0.5
        biased = Annotator(**{"flip": 0.0, "length_bias": 0.0, dial: 0.5})
        assert biased.compare(first, second) > 0.6


def test_groups_disagree():
    long, short = Features(0, 60, 0), Features(0, 20, 0)
    refusal, answer = Features(0, 20, 0, 1), Features(0, 20, 0, 0)
    by_group = {group: users(1, group, spread=0.0)[0] for group in GROUPS}
    assert by_group["thorough"].compare(long, short) > 0.9 > 0.1 > by_group["brief"].compare(long, short)
    assert by_group["cautious"].compare(refusal, answer) > 0.9
    assert by_group["standard"].compare(refusal, answer) == 0.5


def test_answers_follow_the_probability():
    rng, first, second = random.Random(1), Features(0.3, 30, 0), Features(0.0, 25, 0)
    annotator = Annotator()
    wins = sum(annotator.prefer(first, second, rng) == 1 for _ in range(20_000)) / 20_000
    assert wins == pytest.approx(annotator.compare(first, second), abs=0.01)


def test_small_differences_are_ties():
    annotator = Annotator(tie_threshold=0.2, length_bias=0.0)
    assert annotator.prefer(Features(0.1, 9, 0), Features(0.0, 9, 0), random.Random(0)) == TIE
    assert annotator.prefer(Features(0.3, 9, 0), Features(0.0, 9, 0), random.Random(0)) in (1, 2)


def test_ties_are_not_stored():
    sizes = {"sft": 0, "medley": 0, "train": 200, "validation": 0, "ood": 0}
    rows = build.build(sizes=sizes, annotators=[Annotator(tie_threshold=0.5, length_bias=0.0)])["train"]
    assert len(rows) == 200
    assert all(abs(r["metadata"]["gold_1"] - r["metadata"]["gold_2"]) >= 0.5 for r in rows)


def test_users_are_individuals_and_reproducible():
    crowd = users(20)
    assert crowd == users(20) and crowd != users(20, seed=1)
    assert len({user.name for user in crowd}) == len({user.length_bias for user in crowd}) == 20


@pytest.mark.parametrize(
    "dials", [{"temperature": 0.0}, {"flip": 0.5}, {"flip": -0.1}, {"tie_threshold": -1.0}]
)
def test_impossible_dials_are_refused(dials):
    with pytest.raises(ValueError, match=next(iter(dials))):
        Annotator(**dials)


def test_unknown_groups_are_refused():
    with pytest.raises(KeyError, match="thorough"):
        users(1, "strict")


def test_best_possible_accuracy():
    assert best_possible_accuracy([0.9, 0.2, 0.5]) == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    with pytest.raises(ValueError, match="at least one"):
        best_possible_accuracy([])


def test_the_stored_comparisons_have_mild_noise_and_their_probabilities_are_true():
    splits = build.build(sizes={"sft": 0, "medley": 0, "train": 4000, "validation": 1000, "ood": 500})
    for split in ("train", "validation", "ood"):
        probabilities = [row["metadata"]["probability"] for row in splits[split]]
        assert 0.9 <= best_possible_accuracy(probabilities) <= 0.94
        wins = sum(row["overall_response"] == 1 for row in splits[split])
        spread = math.sqrt(sum(p * (1 - p) for p in probabilities))
        assert abs(wins - sum(probabilities)) < 4 * spread
        hits = sum(
            (row["overall_response"] == 1) == (row["metadata"]["probability"] > 0.5) for row in splits[split]
        )
        assert hits / len(probabilities) == pytest.approx(best_possible_accuracy(probabilities), abs=0.04)
