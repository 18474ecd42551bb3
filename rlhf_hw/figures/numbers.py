"""How numbers are written in figures and reports: a minus sign, and powers of ten as one reads them.

with_minus("mean -1.12")                 "mean −1.12"
powers_of_ten("2e-04", "markdown")       "2·10^−4^"
powers_of_ten("2e-04", "figure")         "$2\\cdot10^{-4}$", a formula of matplotlib's
"""

import re

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

FORMS = {"markdown": "{digits}·10^{sign}{power}^", "figure": "${digits}\\cdot10^{{{sign}{power}}}$"}
SIGNS = {"markdown": "−", "figure": "-"}  # in a formula a hyphen is a minus sign
_POWER = re.compile(r"(\d(?:\.\d+)?)e([-+])0*(\d+)")
_HYPHEN = re.compile(r"(?<![\w.%)\]])-(?=\.?\d)")
_FORMULA = re.compile(r"(\$[^$]*\$)")


def powers_of_ten(text: str, form: str) -> str:
    """The text with its numbers like 2e-04 as multiples of powers of ten, in one of `FORMS`."""
    return _POWER.sub(
        lambda found: FORMS[form].format(
            digits=found[1], sign=SIGNS[form] if found[2] == "-" else "", power=found[3]
        ),
        text,
    )


def with_minus(text: str) -> str:
    """The text with a minus sign in the place of each hyphen before a number; formulas stay as they are."""
    parts = _FORMULA.split(text)
    return "".join(part if number % 2 else _HYPHEN.sub("−", part) for number, part in enumerate(parts))


def write_minus_signs(figure: Figure) -> None:
    """Gives all texts of a figure minus signs, names at ticks included."""
    for text in figure.findobj(Text):
        text.set_text(with_minus(text.get_text()))
    for axis in figure.findobj(Axis):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FixedFormatter):  # writes its texts anew at each drawing
            formatter.seq = [with_minus(str(text)) for text in formatter.seq]
