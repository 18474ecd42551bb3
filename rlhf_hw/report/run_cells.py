"""Cells of a run's own tables as a report writes them: in a language's words, no longer than told."""

import re
from collections.abc import Mapping

from rlhf_hw.report.fields import ESTIMATE, INTERVAL, Value

CUT = " […]"  # where the rest of a text is left out
_ESTIMATED = re.compile(r"({0}) \[({0}), ({0})\]".format(r"[-+]?[\d.]+%?"))


def with_interval(value: Value | None, language: str) -> Value | None:
    """A run's "0.55 [0.48, 0.61]" as a language writes estimates."""
    if not isinstance(value, str) or not (found := _ESTIMATED.fullmatch(value)):
        return value
    number, low, high = (part if part.strip("-+0.%") else part.lstrip("-+") for part in found.groups())
    interval = INTERVAL[language].format(low=low, high=high)
    return ESTIMATE[language].format(value=number, words="", interval=interval)


def shorter(value: Value | None, limit: int | None) -> Value | None:
    """The text up to a limit of characters, ended at a word where there are words."""
    if limit is None or not isinstance(value, str) or len(value) <= limit:
        return value
    return (value[: limit + 1].rpartition(" ")[0] or value[:limit]).rstrip() + CUT


def in_words(value: Value | None, words: Mapping[str, str] | None) -> Value | None:
    """A cell of a run's table with the words of a language in the place of its own, and Chinese marks."""
    if not words or not isinstance(value, str):
        return value
    known = "|".join(re.escape(word) for word in words)

    def said(found: re.Match) -> str:
        return ("、" if found[1] else "") + words[found[2]] + ("：" if found[3] else "")

    return re.sub(rf"(^|, )({known})(?:(: )|(?=$| -?\d))", said, value)
