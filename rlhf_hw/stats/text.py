"""What replies look like before anyone scores them: length, repetition, diversity, endings.

Reward models are easily impressed by text that a reader would throw away, so every table of scores of
generated replies stands beside these counts. A word is a run of characters between blanks; each Chinese
character is a word. Repetition is the share of n-grams that occurred before in the same reply (1 - distinct-n
of that reply); distinct-n of a set of replies is the number of different n-grams divided by their number (Li
et al. 2016).
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.stats.intervals import as_vector

WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
# What shows nothing by itself, though its category does not say so, or only in a later Unicode than Python's
HIDDEN = re.compile(
    "["
    # Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt: joiners, marks of direction,
    # fillers of Hangul, vowels of Khmer, selectors of variants, tags, and what is kept for more of such
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U00013430-\U0001343f"  # how hieroglyphs are put together: format characters (Cf) of Unicode 12 to 15
    # letters, marks and signs whose glyph is blank by the code charts: of Braille, the full and the half one
    # of hieroglyphs, the filler of Khitan, the notehead that is none
    "\u2800\U00013441\U00013442\U00016fe4\U0001d159"
    "]"
)
# Signs of Arabic, Syriac and Kaithi that go before the numbers which they enclose: they format, and are seen
SEEN = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
LOOP = 0.5  # a reply of which more than half the 3-grams repeat earlier ones is called looping


def words(text: str) -> list[str]:
    """The words of a text, as written."""
    return WORD.findall(text)


def is_hidden(character: str) -> bool:
    """Whether a character shows nothing by itself: blanks, controls, joiners, marks of direction.

    Between others it may change how they look, as joiners do in emoji and Persian words.
    """
    kind = unicodedata.category(character)
    blank = kind[0] == "Z" or kind in ("Cc", "Cf")
    return bool(HIDDEN.match(character)) or blank and not SEEN.match(character)


def seen_part(text: str) -> str:
    """A text without what shows nothing at its two ends; empty where nothing of it is seen."""
    start, end = 0, len(text)
    while start < end and is_hidden(text[start]):
        start += 1
    while end > start and is_hidden(text[end - 1]):
        end -= 1
    return text[start:end]


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, stripped; empty ones are left out."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]


def ngrams(items: Sequence, n: int) -> list[tuple]:
    """All runs of `n` neighbouring items."""
    return list(zip(*(items[start:] for start in range(n)), strict=False))


def repetition(text: str) -> float:
    """Share of the word 3-grams (lower case) that occurred before in the text; 0 for a shorter text."""
    grams = ngrams([word.lower() for word in words(text)], 3)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def repeated_spans(text: str) -> list[tuple[int, int]]:
    """Where a text repeats itself: the words of all 3-grams that `repetition` counts, in runs.

    Returns:
        (start, end) of each run of words, in characters, in their order.
    """
    found = list(WORD.finditer(text))
    seen, runs = set(), []
    for first, gram in enumerate(ngrams([word[0].lower() for word in found], 3)):
        if gram in seen:
            start, end = found[first].start(), found[first + 2].end()
            if runs and first <= runs[-1][2] + 1:
                start = runs.pop()[0]
            runs.append((start, end, first + 2))
        seen.add(gram)
    return [(start, end) for start, end, _ in runs]


def sentence_repetition(text: str) -> float:
    """Share of the sentences that occurred before in the text."""
    parts = [part.lower() for part in sentences(text)]
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Distinct-n of a set of replies; it falls with the number of words, so compare sets of similar size."""
    grams = [gram for text in texts for gram in ngrams([word.lower() for word in words(text)], n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def reply_table(texts: Sequence[str], finished: Sequence[bool] | None = None) -> pd.DataFrame:
    """One row a reply.

    Args:
        texts: the replies.
        finished: whether each ended with the end-of-turn token (False: cut off at the limit); None if
            unknown.

    Returns:
        Columns `words`, `repetition`, `sentence_repetition`, `empty`, `looping`, `degenerate` (empty, looping
        or cut off) and, where known, `finished`.
    """
    table = pd.DataFrame(
        {
            "words": [len(words(text)) for text in texts],
            "repetition": [repetition(text) for text in texts],
            "sentence_repetition": [sentence_repetition(text) for text in texts],
        }
    )
    table["empty"] = [not seen_part(text) for text in texts]
    table["looping"] = (table["repetition"] > LOOP) | (table["sentence_repetition"] > LOOP)
    table["degenerate"] = table["empty"] | table["looping"]
    if finished is not None:
        if len(finished) != len(table):
            raise InputError(
                f"{len(finished)} finished flags for {len(table)} replies: give one for each reply"
            )
        table["finished"] = np.asarray(finished, dtype=bool)
        table["degenerate"] |= ~table["finished"]
    return table


def reply_metrics(
    texts: Sequence[str],
    scores: ArrayLike,
    finished: Sequence[bool] | None = None,
    gold: ArrayLike | None = None,
) -> dict[str, float]:
    """Summary of one policy's replies, under the keys of `inference.<set>.<policy>`.

    Returns:
        score_mean, score_sd, words_mean, repetition, sentence_repetition, looping, empty, distinct_1,
        distinct_2; finished and degenerate where `finished` is given; gold_mean and gold_sd where `gold` is
        given.
    """
    scores, table = as_vector(scores, "scores", len(texts)), reply_table(texts, finished)
    found = {
        "score_mean": float(scores.mean()),
        "score_sd": float(scores.std(ddof=1)) if len(texts) > 1 else 0.0,
    }
    found["words_mean"] = float(table["words"].mean())
    shares = ["repetition", "sentence_repetition", "looping", "empty"]
    shares += ["finished", "degenerate"] if finished is not None else []
    found |= {name: float(table[name].mean()) for name in shares}
    found |= {f"distinct_{n}": distinct(texts, n) for n in (1, 2)}
    if gold is not None:
        gold = as_vector(gold, "gold", len(texts))
        found |= {
            "gold_mean": float(gold.mean()),
            "gold_sd": float(gold.std(ddof=1)) if len(texts) > 1 else 0.0,
        }
    return found
