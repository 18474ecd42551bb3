"""Metrics become tables that can be read."""

import pandas as pd

from rlhf_hw.figures import tables


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
