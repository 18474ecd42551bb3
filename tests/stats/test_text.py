"""Where a reply repeats itself; what is counted in replies is tested with the policies."""

import pytest

from rlhf_hw.stats.text import repeated_spans, repetition


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("a b c d A b  c d e a b c", ["A b  c d", "a b c"]),
        ("no word comes three times", []),
        ("\u6211\u7231\u8336 \u6211\u7231\u8336", ["\u6211\u7231\u8336"]),
        ("x x x x x x", ["x x x x x"]),
        ("", []),
    ],
)
def test_repeated_spans_are_what_repetition_counts(text, runs) -> None:
    found = [text[start:end] for start, end in repeated_spans(text)]
    assert found == runs
    assert (repetition(text) > 0) == bool(found)
