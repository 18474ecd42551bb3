"""Pairs scored by two reward models are matched by their texts, and McNemar's test reads them."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw import evaluation, score_files

ROWS = [
    {"prompt": f"q{n}", "chosen": f"a{n}", "rejected": "b", "chosen_score": float(n), "rejected_score": 1.5}
    for n in range(4)
]


@pytest.fixture
def pairs(tmp_path):
    return score_files.read_pairs(score_files.write_scores(tmp_path / "first.jsonl", ROWS))


def test_another_models_margins_are_found_whatever_their_order(tmp_path, pairs):
    other = [row | {"chosen_score": 10.0 * row["chosen_score"]} for row in reversed(ROWS)]
    table = score_files.read_pairs(score_files.write_scores(tmp_path / "other.jsonl", [*other, other[0]]))
    assert evaluation.same_pairs(pairs, table).tolist() == [-1.5, 8.5, 18.5, 28.5]


def test_pairs_that_the_other_model_lacks_or_scored_twice_are_named(pairs):
    with pytest.raises(ValueError, match=r"other.jsonl: pair 3 is not there \(2 in all\)"):
        evaluation.same_pairs(pairs, pairs.iloc[:2], "other.jsonl")
    twice = pd.concat([pairs, pairs.assign(margin=pairs["margin"] + 1)])
    with pytest.raises(ValueError, match="one pair has two margins"):
        evaluation.same_pairs(pairs, twice)


def test_mcnemar_compares_the_first_scorer_with_every_other():
    margins = {
        "reward model": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
        "length": np.array([-1, -1, -1, -1, -1, -1, 1, 1.0]),
        "words": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
    }
    table = evaluation.mcnemar_table(margins, range(8))
    assert table.index.tolist() == ["length", "words"] and table["p_value"].tolist() == [0.125, 1.0]
    assert table.loc["length", ["only_first", "only_second"]].tolist() == [6, 1]
    found = evaluation.table_metrics("mcnemar", table)
    assert found["mcnemar.length.only_first"] == 6 and found["mcnemar.words.accuracy_difference"] == 0
    assert evaluation.mcnemar_table({"reward model": margins["length"]}, range(8)).empty
