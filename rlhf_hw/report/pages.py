"""Whether all of a PDF's text stands where it can be read: within the margins, and no word upon another.

XeLaTeX tells of lines and pages that are too full in its log. Typst says nothing, so its pages are measured
with poppler's `pdftotext`, where that is installed. In the default run's report such a place is an error, in
others a warning.
"""

import html
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rlhf_hw.errors import RunFailed

log = logging.getLogger(__name__)

POINTS = 72 / 2.54  # in a centimetre
TOO_WIDE = 2.0  # points that a TeX line may run over its width: less than a letter
HANGING = 6.0  # points: Typst hangs punctuation into the margin, a Chinese comma has an empty half
UPON = 2.0  # points that the frames of two words may share
REMEDY = "Widen the column, shorten the text or let it break"
SHOWN = 5  # places that a message names
_OVERFULL = re.compile(r"Overfull \\([hv])box \(([\d.]+)pt too (?:wide|high)\)(.*)")
_FONT = re.compile(r"\\[A-Z]\w*/\S+ |\[\]|\$\S*")
_PAGE = re.compile(r'<page width="([\d.]+)" height="([\d.]+)">')
_WORD = re.compile(r'<word xMin="(.+?)" yMin="(.+?)" xMax="(.+?)" yMax="(.+?)">(.*)</word>')


class Word(NamedTuple):
    """A word of a PDF: its page, the page's size, its frame in points from the top left, and its text."""

    page: int
    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    text: str


def report_places(
    name: str, places: Sequence[str], strict: bool, what: str = "text does not fit", remedy: str = REMEDY
) -> None:
    """Raise `RunFailed` for places where text does not fit, or warn where not `strict`."""
    if not places:
        return
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    message = f"{name}: {what}: " + "; ".join(places[:SHOWN]) + more
    if strict:
        raise RunFailed(f"{message}. {remedy}")
    log.warning("%s", message)


def overfull_boxes(tex_log: str, tolerance: float = TOO_WIDE) -> list[str]:
    """Return the places of a TeX log whose line or page is too full by more than `tolerance` points.

    A place is named by the page that was being filled, the lines of the TeX source, and the text.
    """
    places, page, lines = [], 1, tex_log.splitlines()
    for number, line in enumerate(lines):
        if match := _OVERFULL.search(line):
            kind, points, where = match.groups()
            if float(points) > tolerance:
                text = _FONT.sub("", lines[number + 1]).strip()[:80] if kind == "h" else ""
                places.append(f"page {page}: {points} pt too much{where} {text}".rstrip())
        else:
            page += len(re.findall(r"\[\d+(?=[\]{<\s]|$)", line))
    return places


def misplaced_words(pdf: Path, margin: float) -> list[str]:
    """Return the words of a PDF beyond its margins (in cm) or upon each other, with their pages."""
    if not shutil.which("pdftotext"):
        log.info("%s: margins not checked; apt-get install poppler-utils", pdf.name)
        return []
    places = []
    for page, on_page in groupby(_words(pdf), key=lambda word: word.page):
        words = list(on_page)
        places += [
            f"page {page}: '{word.text[:40]}' in the margin" for word in words if _beyond(word, margin)
        ]
        places += [
            f"page {page}: '{one.text[:40]}' and '{two.text[:40]}' upon each other"
            for one, two in _overlaps(words)
        ]
    return places


def _words(pdf: Path) -> Iterator[Word]:
    done = subprocess.run(["pdftotext", "-bbox", str(pdf), "-"], capture_output=True, check=True)
    page, size = 0, (0.0, 0.0)
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if match := _PAGE.search(line):
            page, size = page + 1, (float(match[1]), float(match[2]))
        elif match := _WORD.search(line):
            yield Word(page, *size, *map(float, match.groups()[:4]), html.unescape(match[5]))


def _beyond(word: Word, margin: float) -> bool:
    inner = margin * POINTS - HANGING
    sideways = word.left < inner or word.right > word.width - inner
    return sideways or (word.bottom > word.height - inner and not word.text.isdigit())  # a page's number


def _overlaps(words: Sequence[Word]) -> Iterator[tuple[Word, Word]]:
    """Words whose letters meet; frames of signs and Chinese punctuation are wider than what they show."""
    order = sorted(words, key=lambda word: word.left)
    for number, one in enumerate(order):
        for two in order[number + 1 :]:
            if two.left > one.right - UPON:
                break
            shared = min(one.bottom, two.bottom) - max(one.top, two.top)
            height = min(one.bottom - one.top, two.bottom - two.top)
            if shared > 0.8 * height and one.text[-1:].isalnum() and two.text[:1].isalnum():
                yield one, two
