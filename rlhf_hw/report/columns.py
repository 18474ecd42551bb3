"""How wide the columns of a table are that the run wrote: what its cells hold decides."""

import math
import re
import unicodedata
from collections.abc import Sequence

RAGGED = 3  # characters that stay free at the end of a line, on average
HEADING = 12  # characters: a short heading, or part of one, is not broken, in Chinese neither
LINE = 85  # characters of usual width in a line of a table as wide as the text
_WORDS = re.compile(r"(?:[^\s\u200b\u2e80-\U0010ffff]|\xa0)+")
_PARTS = re.compile(r"[ ，：、/]")
_SPANS = {"Lu": 1.5, "Mn": 0, "Cf": 0}


def column_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """Share a line among columns: each holds its longest word, the rest goes where it saves most lines."""
    texts = [[cell.replace("\\", "") for cell in line] for line in lines]
    spans = [[_span(text) for text in line] for line in texts]
    columns = range(len(texts[0]))
    words = [[_span(word) for line in texts for word in _WORDS.findall(line[i])] for i in columns]
    short = [
        [span for part in _PARTS.split(texts[0][i]) if (span := _span(part)) <= HEADING] for i in columns
    ]
    widths = [math.ceil(max(found + heads, default=2)) for found, heads in zip(words, short, strict=True)]
    for _ in range(LINE - sum(widths)):
        saved = [0.0 for _ in columns]
        for line in spans:
            heights = [line[i] / max(1, widths[i] - RAGGED) if line[i] > widths[i] else 0 for i in columns]
            saved[heights.index(max(heights))] += max(heights)
        if not any(saved):
            break
        widths[max(columns, key=saved.__getitem__)] += 1
    return widths


def _span(text: str) -> float:
    """How wide a text is, in characters of usual width."""
    return sum(_SPANS.get(unicodedata.category(c), 2 if c >= "\u2e80" else 1) for c in text)
