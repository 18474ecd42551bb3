"""Where texts stand in every figure, in both languages: inside the page, and legends off their axes."""

import re

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from speaking_figures import speaking_figure

EDGE = 1.5  # points that a text may stand over the page: rims of letters
LEAST_GAP = 3  # points between a legend and what names the axis above it
LEAST_CONTRAST = 4.5  # of letters on white: WCAG 2.1, AA


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_are_on_the_page_and_legends_off_their_axes(name, language):
    with speaking_figure(name, language) as figure:
        figure.canvas.draw()
        point = figure.dpi / 72
        width, height = figure.get_size_inches() * figure.dpi
        for text in _shown(figure):
            box = text.get_window_extent()
            inside = min(box.x0, box.y0, width - box.x1, height - box.y1)
            assert inside >= -EDGE * point, f"{text.get_text()!r} leaves the page"
        for axes in figure.axes:
            legend, label = axes.get_legend(), axes.xaxis.label
            if legend is not None and label.get_text():
                below, above = legend.get_window_extent(), label.get_window_extent()
                if below.y0 < above.y0:
                    assert above.y0 - below.y1 >= LEAST_GAP * point, f"legend under {label.get_text()!r}"
    plt.close("all")


@pytest.mark.parametrize("name", DRAWINGS)
def test_letters_are_dark_enough(name):
    figure = DRAWINGS[name]()
    for text in _shown(figure):
        # letters in a coloured cell choose their own colour
        if re.search(r"\w", text.get_text()) and name != "planted_matrix":
            assert contrast(text.get_color()) >= LEAST_CONTRAST, text.get_text()
    plt.close("all")


def _shown(figure) -> list[Text]:
    hidden = {text for axes in figure.axes if not axes.get_visible() for text in axes.findobj(Text)}
    unused = {
        part
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for part in tick.findobj(Text)
    }
    texts = [text for text in figure.findobj(Text) if text not in hidden | unused]
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


def contrast(colour) -> float:
    """Of a colour on white (WCAG 2.1): from 1, none, to 21, black."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 1.05 / (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05)
