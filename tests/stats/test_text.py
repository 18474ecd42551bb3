"""Where a reply repeats itself, what is seen; what is counted in replies is tested with the policies."""

import sys

import pytest
import regex  # of transformers; its tables are those of a newer Unicode than Python's

from rlhf_hw.stats.text import SEEN, is_hidden, repeated_spans, repetition


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


def test_what_unicode_says_is_not_shown_is_hidden() -> None:
    """What may be left out when it is shown, what separates, controls or formats, but for what is seen."""
    unseen = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Z}\p{Cc}\p{Cf}]")
    blank = set("\u2800\U00013441\U00013442\U00016fe4\U0001d159")  # by their glyphs, as no property says it
    for character in map(chr, range(sys.maxunicode + 1)):
        told = bool(unseen.match(character)) and not SEEN.match(character) or character in blank
        assert is_hidden(character) == told, ascii(character)
