"""What can be seen of replies without a model: their length and kind, and the same replies cut to a length.

Kinds are read from the surface, by rules that anyone can check, since they must serve any run:

    list       two lines or more begin with a number or a bullet
    refusal    the beginning refuses, apologises, warns, or says what an AI does not do
    unfinished the last sentence does not end, as in a reply that met its limit of tokens

    table = forms_of(replies["response"])         words, repetition and the kinds, one row a reply
    cut_to_words(reply, 83)                       its first sentences, about 83 words of them
"""

import re
from collections.abc import Sequence

import pandas as pd

from rlhf_hw.stats.text import SENTENCE_END, reply_table, words

LIST_LINE = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)
REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|cannot|can['’]t|unable|not (?:appropriate|ethical|acceptable|legal)"
    r"|illegal|unethical|as an ai|ai (?:language )?model)\b",
    re.IGNORECASE,
)
ENDED = re.compile(r"[.!?:。！？][\"'”’)\]*]*\s*$")
OPENING = 200  # characters in which a refusal shows
LIST_LINES = 2
KINDS = ("list", "refusal", "unfinished")


def is_list(text: str) -> bool:
    """Whether a reply is written as a list."""
    return len(LIST_LINE.findall(text)) >= LIST_LINES


def is_refusal(text: str) -> bool:
    """Whether a reply opens with a refusal or a warning."""
    return REFUSAL.search(text[:OPENING]) is not None


def is_unfinished(text: str) -> bool:
    """Whether a reply breaks off."""
    return bool(text.strip()) and ENDED.search(text) is None


def forms_of(texts: Sequence[str]) -> pd.DataFrame:
    """One row a reply: `words`, `repetition`, and each of `KINDS` as 0 or 1."""
    table = reply_table(list(texts))[["words", "repetition"]]
    for kind, holds in zip(KINDS, (is_list, is_refusal, is_unfinished), strict=True):
        table[kind] = [float(holds(text)) for text in texts]
    return table


def cut_to_words(text: str, target: int) -> str:
    """The first sentences of a reply, of about `target` words.

    A sentence stays if most of it fits; the first always stays (as in `score_gap.edits.cut_to`). A reply that
    has no more words than that is left as it is.
    """
    if len(words(text)) <= target:
        return text
    ends = [match.start() for match in SENTENCE_END.finditer(text)] + [len(text)]
    kept, used, start = "", 0, 0
    for end in ends:
        sentence = text[start:end]
        size = len(words(sentence))
        if used and used + size / 2 > target:
            break
        kept, used, start = text[:end], used + size, end
    return kept.rstrip()
