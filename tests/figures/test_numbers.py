"""Numbers as figures and reports write them: minus signs, powers of ten."""

import re

import matplotlib.pyplot as plt
import pytest
from drawings import DRAWINGS
from matplotlib.axis import Axis
from matplotlib.text import Text

from rlhf_hw.figures.numbers import powers_of_ten, with_minus


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_figure_has_a_hyphen_for_a_minus_sign_or_an_e_for_a_power_of_ten(name):
    figure = DRAWINGS[name]()
    for axis in figure.findobj(Axis):
        axis.get_ticklabels()  # which writes them anew
    said = [re.sub(r"\$[^$]*\$", "", text.get_text()) for text in figure.findobj(Text)]
    plt.close(figure)
    assert [text for text in said if re.search(r"(?<!\w)-\d|\de[-+]\d", text)] == []


def test_a_minus_sign_stands_before_numbers_only():
    assert with_minus("base, mean -1.12 [-1.50, -.7]") == "base, mean −1.12 [−1.50, −.7]"
    assert with_minus("read-out, 2024-05, GPT-2, -x") == "read-out, 2024-05, GPT-2, -x"
    assert with_minus("$-1$ and -1%") == "$-1$ and −1%"


def test_powers_of_ten_are_written_as_such():
    assert powers_of_ten("2e-04", "markdown") == "2·10^−4^"
    assert powers_of_ten("within 6.9e-09, not 1e+12", "markdown") == "within 6.9·10^−9^, not 1·10^12^"
    assert powers_of_ten("2e-04", "figure") == r"$2\cdot10^{-4}$"
    assert powers_of_ten("base 4, e-mail 0.02", "figure") == "base 4, e-mail 0.02"
