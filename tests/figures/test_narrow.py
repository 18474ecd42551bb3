"""Figures drawn for a third of the text's width: whole, legible, and the wide figure is as it was."""

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS
from matplotlib.text import Text
from speaking_figures import speaking_figure

from rlhf_hw.figures.narrow import LOW, THIRD, narrowed
from rlhf_hw.figures.style import SMALLEST, save

NAMES = (
    "training_curve",
    "evaluation_curve",
    "dpo_log_probabilities",
    "learning_curve",
    "inference_distributions",
)
EDGE = 0.03  # inches that ink may stand over: less than half a letter


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_cut_off_and_nothing_too_small(name, language):
    with speaking_figure(name, language) as figure, narrowed(figure):
        figure.canvas.draw()
        ink = figure.get_tightbbox()
        shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert min(text.get_fontsize() for text in shown) >= SMALLEST
        assert -EDGE <= ink.x0 and ink.x1 <= THIRD + EDGE and -EDGE <= ink.y0 and ink.y1 <= LOW + EDGE
        heights = [axes.get_position().height * LOW for axes in figure.axes]
        assert min(heights) > (0.6 if len(heights) == 1 else 0.12)  # inches
    plt.close("all")


@pytest.mark.parametrize("name", ["learning_curve", "inference_distributions"])
def test_the_figure_is_afterwards_as_it_was(name, tmp_path):
    figure = DRAWINGS[name]()

    def looks() -> list:
        texts = [(text.get_text(), text.get_fontsize(), text.get_visible()) for text in figure.findobj(Text)]
        names = [(axes.get_ylabel(), axes.get_title(loc="left")) for axes in figure.axes]
        layout = figure.get_layout_engine().get()
        return [*figure.get_size_inches(), len(figure.legends), figure.get_supylabel(), names, layout, texts]

    figure.canvas.draw()
    before = looks()
    written = [path.relative_to(tmp_path).as_posix() for path in save(figure, tmp_path, "one")]
    figure.canvas.draw()
    assert looks() == before
    assert {"narrow/one.pdf", "narrow/one.svg"} < set(written)
    box = f"/MediaBox [ 0 0 {72 * THIRD:.0f} {72 * LOW:.1f} ]".encode()
    assert box in (tmp_path / "narrow" / "one.pdf").read_bytes()
    plt.close("all")
