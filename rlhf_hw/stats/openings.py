"""How replies begin: their first words, and the openings that many of them share.

An opening is a tuple of words and signs as `reply_signs.tokens` gives them, or one word's first letters and
an ellipsis: what begins with "Human", "Humanity" and "Humans" shares the opening "human\u2026".
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from rlhf_hw.stats.reply_signs import tokens

FIRST, STEM = 5, 5  # words of an opening at most; first letters that are one too
MORE = "\u2026"
Opening = tuple[str, ...]


def first_words(texts: Sequence[str]) -> list[Opening]:
    """The longest opening of each text; empty for an empty one."""
    return [tuple(tokens(text, FIRST)) for text in texts]


def frequent_openings(starts: Sequence[Opening], least: float) -> list[Opening]:
    """The openings that so many replies have."""
    counts = Counter(start[:size] for start in starts for size in range(1, len(start) + 1))
    counts.update((start[0][:STEM] + MORE,) for start in starts if start and len(start[0]) >= STEM)
    return [opening for opening, count in counts.items() if count >= least]


def begin_so(opening: Opening, starts: Sequence[Opening]) -> np.ndarray:
    """Whether each reply begins so."""
    if opening[0].endswith(MORE):
        return np.array(
            [bool(start) and start[0].startswith(opening[0][:-1]) for start in starts], dtype=bool
        )
    return np.array([start[: len(opening)] == opening for start in starts], dtype=bool)


def opening_text(opening: Opening) -> str:
    """An opening as text, without blanks before marks and between Chinese characters."""
    return re.sub(r" (?=[^\w\s])|(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])", "", " ".join(opening))
