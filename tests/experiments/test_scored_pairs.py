"""Tables of scored pairs are read as outcomes: of replicates, of the best judge, of baselines."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments import scored_pairs
from rlhf_hw.preferences import score_files
from rlhf_hw.preferences.templates import Message, Preference

ROWS = [
    {"prompt": f"q{n}", "chosen": f"a{n}", "rejected": "b", "chosen_score": float(n), "rejected_score": 1.0}
    for n in range(4)
]


@pytest.fixture
def pairs(tmp_path):
    return score_files.read_pairs(score_files.write_scores(tmp_path / "first.jsonl", ROWS))


def test_another_models_margins_are_found_whatever_their_order(tmp_path, pairs):
    other = [row | {"chosen_score": 10.0 * row["chosen_score"]} for row in reversed(ROWS)]
    table = score_files.read_pairs(score_files.write_scores(tmp_path / "other.jsonl", [*other, other[0]]))
    assert scored_pairs.same_pairs(pairs, table).tolist() == [-1.0, 9.0, 19.0, 29.0]


def test_pairs_that_the_other_model_lacks_or_scored_twice_are_named(pairs):
    with pytest.raises(ValueError, match=r"other.jsonl: pair 3 is not there \(2 in all\)"):
        scored_pairs.same_pairs(pairs, pairs.iloc[:2], "other.jsonl")
    twice = pd.concat([pairs, pairs.assign(margin=pairs["margin"] + 1)])
    with pytest.raises(ValueError, match="one pair has two margins"):
        scored_pairs.same_pairs(pairs, twice)


def test_replicates_are_outcomes_of_the_same_pairs(pairs):
    right = scored_pairs.right_orders([pairs, pairs.assign(margin=-pairs["margin"])])
    assert right.tolist() == [[0, 0.5, 1, 1], [1, 0.5, 0, 0]]
    with pytest.raises(ValueError, match="replicate 1 scored other pairs than replicate 0"):
        scored_pairs.right_orders([pairs, pairs.iloc[::-1]])


def test_the_best_judge_sides_with_the_likelier_answer_and_loses_where_the_other_was_drawn():
    drawn = [(0.9, 1), (0.9, 2), (0.2, 2), (0.2, 1), (0.5, 1)]  # probability of the first reply, chosen reply
    table = pd.DataFrame({"meta": [{"probability": p, "chosen_index": c} for p, c in drawn]})
    assert scored_pairs.best_judge(table).tolist() == [1, 0, 1, 0, 0.5]
    assert scored_pairs.best_on_average(table) == pytest.approx((0.9 + 0.9 + 0.8 + 0.8 + 0.5) / 5)
    assert scored_pairs.best_judge(pd.DataFrame({"meta": [{}]})) is None


def test_baselines_learn_from_each_replicates_own_pairs_and_from_none_nothing(pairs):
    def train(better: str, worse: str) -> list[Preference]:
        return [Preference((Message("user", "q"),), f"{better} {n}", worse, row=n) for n in range(4)]

    found = scored_pairs.baseline_orders([train("b", "a0 a0 a0"), []], pairs.assign(chosen="a0"))
    assert found["words"].shape == found["length"].shape == (2, 4)
    assert found["words"].tolist() == [[0] * 4, [0.5] * 4]  # the first learned that b is better
    assert np.all(found["length"] == 0.5)  # one word each
