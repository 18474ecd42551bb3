"""Figures in a language, for tests of what stands where."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import pytest
from drawings import DRAWINGS
from matplotlib.figure import Figure

from rlhf_hw.figures.labels import language_font, speaking
from rlhf_hw.figures.style import STYLE


@contextmanager
def speaking_figure(name: str, language: str) -> Iterator[Figure]:
    """One of `DRAWINGS` with the words and the font of a language, within the `with`."""
    font = language_font(language) if language == "zh" else "DejaVu Sans"
    if font is None:
        pytest.skip("needs a Chinese font")
    figure = DRAWINGS[name]()
    style = STYLE | {"font.sans-serif": [font, *STYLE["font.sans-serif"]]}
    with speaking(figure, "zh") if language == "zh" else mpl.rc_context(), mpl.rc_context(style):
        yield figure
