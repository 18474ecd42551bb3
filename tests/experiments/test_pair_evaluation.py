"""Pairs scored by two reward models are matched and compared; metrics become tables that can be read."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments import pair_evaluation
from rlhf_hw.figures import tables
from rlhf_hw.pipeline import run_folder
from rlhf_hw.preferences import score_files
from rlhf_hw.stats import intervals
from rlhf_hw.stats.intervals import wilson_interval

WILSON = tuple(wilson_interval(75, 100)[1:])
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
    assert pair_evaluation.same_pairs(pairs, table).tolist() == [-1.5, 8.5, 18.5, 28.5]


def test_pairs_that_the_other_model_lacks_or_scored_twice_are_named(pairs):
    with pytest.raises(ValueError, match=r"other.jsonl: pair 3 is not there \(2 in all\)"):
        pair_evaluation.same_pairs(pairs, pairs.iloc[:2], "other.jsonl")
    twice = pd.concat([pairs, pairs.assign(margin=pairs["margin"] + 1)])
    with pytest.raises(ValueError, match="one pair has two margins"):
        pair_evaluation.same_pairs(pairs, twice)


def test_mcnemar_compares_the_first_scorer_with_every_other():
    margins = {
        "reward model": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
        "length": np.array([-1, -1, -1, -1, -1, -1, 1, 1.0]),
        "words": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
    }
    table = pair_evaluation.mcnemar_table(margins, range(8))
    assert table.index.tolist() == ["length", "words"] and table["p_value"].tolist() == [0.125, 1.0]
    assert table.loc["length", ["only_first", "only_second"]].tolist() == [6, 1]
    found = run_folder.table_metrics("mcnemar", table)
    assert found["mcnemar.length.only_first"] == 6 and found["mcnemar.words.accuracy_difference"] == 0
    assert pair_evaluation.mcnemar_table({"reward model": margins["length"]}, range(8)).empty


@pytest.mark.parametrize(
    ("difference", "said"),
    [((0.1, 0.05, 0.2), "better"), ((-0.1, -0.2, -0.01), "worse"), ((0.1, 0.0, 0.2), "no difference shown")],
)
def test_a_verdict_is_what_the_interval_allows(difference, said):
    row = dict(zip((f"accuracy_difference{end}" for end in ("", "_low", "_high")), difference, strict=True))
    assert pair_evaluation.verdict(row) == f"{said} [{difference[1]:+.3f}, {difference[2]:+.3f}]"


def test_readable_folds_intervals_into_their_values_and_leaves_other_ends_alone():
    metrics = {
        "accuracy": 0.6328,
        "accuracy_low": 0.547,
        "accuracy_high": 0.711,
        "pairs": 128,
        "head_low": 0.4,
        "head_high": 0.6,
        "one": 1.0,
        "one_low": 0.5,
    }
    shown = tables.metric_texts(metrics)
    assert shown.to_dict() == {
        "accuracy": "0.633 [0.547, 0.711]",
        "pairs": "128",
        "head_low": "0.400",
        "head_high": "0.600",
        "one": "1.000",
        "one_low": "0.500",
    }


def test_a_table_of_texts_is_aligned_to_the_left_and_escaped():
    table = tables.TextTable(pd.DataFrame({"reply": ["a <td> b " + "long " * 40]}, index=["kind"]))
    html = table._repr_html_()
    assert '<td style="text-align: left">a &lt;td&gt; b long' in html and "..." not in html
    assert "a <td> b long" in repr(table)


def test_points_of_a_curve_get_wilsons_interval():
    found = intervals.with_intervals([{"step": 8, "value": 0.75}], 100)
    assert found == [{"step": 8, "value": 0.75, **dict(zip(("low", "high"), WILSON, strict=True))}]


def test_lengths_are_tokens_where_known_and_words_elsewhere(pairs):
    lengths, unit = pair_evaluation.reply_lengths(pairs)
    assert unit == "words" and lengths["chosen"].tolist() == [1, 1, 1, 1]
    lengths, unit = pair_evaluation.reply_lengths(pairs.assign(chosen_tokens=3, rejected_tokens=4))
    assert unit == "tokens" and lengths["rejected"].tolist() == [4, 4, 4, 4]
