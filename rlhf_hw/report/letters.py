"""How large the letters of a figure are in print, and which drawing of it stands at a width.

Figures have no letters smaller than `style.SMALLEST` points where they are drawn; the report shrinks or
enlarges them to a share of its text's width.
"""

import re
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.figures.narrow import FOLDER
from rlhf_hw.figures.style import SMALLEST
from rlhf_hw.report.pages import POINTS

TEXT_WIDTH = 16 * POINTS  # of the long report; the short one's is a little wider
LEAST_LETTERS = 7.0  # points: what can be read in print without effort
NARROW_BELOW = 0.4  # of the text's width: three figures stand in a row
LARGER = f"{LEAST_LETTERS:.0f} points are the least: widen the figures, or draw them for that width"
RUN_AGAIN = "run its notebook again, with --force"
_SIZE = re.compile(rb"/MediaBox \[ ?0 0 ([\d.]+) [\d.]+ ?\]")


def drawing_for(figure: Path, share: float) -> Path:
    """The figure's PDF, or where it stands three in a row and was drawn for that, the narrow one."""
    narrow = figure.parent / FOLDER / figure.name
    return narrow if share < NARROW_BELOW and narrow.exists() else figure


def is_older(drawn: Path, share: float) -> bool:
    """Whether a figure that stands three in a row has no narrow drawing: its run is older than those."""
    return share < NARROW_BELOW and drawn.parent.name != FOLDER


def printed_letters(drawn: Path, share: float) -> float:
    """Points of a figure's smallest letters, printed at a share of the text's width.

    Raises:
        InputError: the file is no PDF with a size.
    """
    found = _SIZE.search(drawn.read_bytes())
    if found is None:
        raise InputError(f"{drawn}: no PDF of a known size; {RUN_AGAIN}")
    return SMALLEST * share * TEXT_WIDTH / float(found[1])
