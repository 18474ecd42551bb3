"""Metrics become tables that can be read."""

import pandas as pd

from rlhf_hw.figures import tables


def test_an_interval_over_trainings_stands_behind_that_over_prompts():
    ends = {"a_low": 0.4, "a_high": 0.6, "a_trainings_low": 0.3, "a_trainings_high": 0.7}
    assert tables.metric_texts({"a": 0.5} | ends).to_dict() == {"a": "0.500 [0.400, 0.600] {0.300, 0.700}"}


def test_metric_texts_fold_intervals_into_their_values_and_leaves_other_ends_alone():
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
