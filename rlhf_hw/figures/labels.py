"""Figures in the report's other language: every text of a figure, replaced by its translation.

    with speaking(figure, "zh") as untranslated:      texts are Chinese in here
        figure.savefig(...)

The translations are `labels.yaml`, beside this file. There a `{n}`, `{m}` or `{k}` stands for a number, and
`{a}`, `{b}` or `{c}` for words that are translated in turn, and `{x}` for a name that stays. Texts without
letters outside of formulas are the same in every language. What has none stays English, and is told.
"""

import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

import yaml
from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

TABLE = Path(__file__).with_name("labels.yaml")
# The first of these that is here is used: families, and files that TeX brings.
FONTS = {"zh": ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "FandolHei-Regular.otf")}
FONT_PACKAGE = "fonts-noto-cjk"
_NUMBER = r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?"
_HOLES = {**dict.fromkeys("nmk", _NUMBER), **dict.fromkeys("abcx", ".+?")}
_HOLE = re.compile(r"\{([a-z])\}")
_GAP = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")  # Chinese has spaces beside Latin words only
_SILENT = re.compile(rf"\$[^$]*\$|{_NUMBER}")  # formulas and numbers: the same everywhere

log = logging.getLogger(__name__)


@lru_cache
def label_table(language: str) -> tuple[tuple[re.Pattern, str], ...]:
    """Patterns of the English texts with their translations; those with the fewest holes come first."""
    words = yaml.safe_load(TABLE.read_text(encoding="utf-8"))[language]
    ordered = sorted(words.items(), key=lambda pair: len(_HOLE.findall(pair[0])))
    return tuple((re.compile(_pattern(english)), said) for english, said in ordered)


def _pattern(english: str) -> str:
    """A regular expression for a text with holes."""
    parts = _HOLE.split(english)  # text, hole, text, hole, ...
    return "".join(
        f"(?P<{part}>{_HOLES[part]})" if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )


def translation(text: str, language: str) -> str | None:
    """A figure's text in another language, line by line; None where a line has no translation."""
    lines = [_line_in(line, language) for line in text.split("\n")]
    return None if None in lines else _GAP.sub("", "\n".join(lines))


def _line_in(line: str, language: str) -> str | None:
    if not re.search(r"[^\W\d_]", _SILENT.sub("", line)):
        return line
    for pattern, said in label_table(language):
        if match := pattern.fullmatch(line):
            parts = {
                hole: part if hole in "nmkx" else _line_in(part, language)
                for hole, part in match.groupdict().items()
            }
            if None not in parts.values():
                return _HOLE.sub(lambda hole, parts=parts: parts[hole[1]], said)
    return None


@lru_cache
def language_font(language: str) -> str | None:
    """Family of a font for the language; None, with a warning, where there is none."""
    families = {font.name for font in font_manager.fontManager.ttflist}
    for name in FONTS[language]:
        if name in families:
            return name
        if "." in name and (found := _tex_file(name)):
            font_manager.fontManager.addfont(found)
            return font_manager.get_font(found).family_name
    log.warning(
        "no font for figures in Chinese (%s): the Chinese report shows the English ones; "
        "apt-get install %s and run again",
        ", ".join(FONTS[language]),
        FONT_PACKAGE,
    )
    return None


def _tex_file(name: str) -> str:
    """Where TeX has a file; empty where it has none, or is not there."""
    if not shutil.which("kpsewhich"):
        return ""
    return subprocess.run(["kpsewhich", name], capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def speaking(figure: Figure, language: str) -> Iterator[list[str]]:
    """A figure whose texts are in another language for as long as the `with` lasts.

    Yields:
        The texts without a translation, which stay English.
    """
    missing: list[str] = []

    def said(text: str) -> str:
        found = translation(text, language)
        if found is None:
            missing.append(text)
        return text if found is None else found

    with ExitStack() as afterwards:
        ticks = set()
        for axis in figure.findobj(Axis):
            before = axis.get_major_formatter()
            if isinstance(before, FuncFormatter):  # ticks with words have it, and write them at each drawing
                axis.set_major_formatter(FuncFormatter(lambda x, n, ask=before: said(ask(x, n))))
                afterwards.callback(axis.set_major_formatter, before)
            ticks |= {
                text
                for tick in axis.get_major_ticks() + axis.get_minor_ticks()
                for text in tick.findobj(Text)
            }
        for text in figure.findobj(Text):
            if text not in ticks and text.get_text().strip():
                afterwards.callback(text.set, text=text.get_text(), linespacing=1.2)
                text.set(text=said(text.get_text()), linespacing=1.5)  # Chinese characters are tall
        yield missing
