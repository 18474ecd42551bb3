"""Bars of a histogram, and which cases of the reply explorer each of them counts.

    mark_bars(figure, [(scores, "set=validation&a=dpo&h=a.score&r.a.score="), ...])

What a bar leads to is the address behind the explorer's #, with the range of its values for an end. A range
ends between neighbouring values, so that its cases are those that the bar counts, whatever the bar's edge.
Where a bar lies is told as module `case_points` tells points: its upper left and its lower right corner,
both with "<range> <cases>" for a key.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError
from rlhf_hw.figures.case_points import mark_cases

DIGITS = 17  # that tell any two numbers apart


def mark_bars(figure: Figure, samples: Sequence[tuple[ArrayLike, str]]) -> None:
    """Remember which cases the bars of a figure's histograms count.

    Args:
        figure: After all is drawn.
        samples: For each histogram, in the order drawn: its values, and the address that a range of them
            ends; an empty one leads nowhere.

    Raises:
        InputError: there are more or fewer histograms than samples, or one shows other values.
    """
    drawn = [(axes, one) for axes in figure.axes for one in axes.containers if isinstance(one, BarContainer)]
    if len(drawn) != len(samples):
        raise InputError(f"bars: {len(drawn)} histograms cannot have {len(samples)} samples; give one each")
    for number, ((axes, bars), (values, address)) in enumerate(zip(drawn, samples, strict=True)):
        if address:
            _mark(axes, bars, np.sort(np.asarray(values, dtype=float)), address, f"histogram {number}")


def _mark(axes: Axes, bars: BarContainer, values: np.ndarray, address: str, where: str) -> None:
    """Mark one histogram's bars; `values` in order, of which each bar has the next ones."""
    heights = np.array([bar.get_height() for bar in bars])
    if not values.size or not heights.any():
        return
    ends = np.rint(np.cumsum(heights) / heights.sum() * values.size).astype(int)
    x, y, keys = [], [], []
    for bar, start, end in zip(bars, [0, *ends[:-1]], ends, strict=True):
        if start == end:
            continue
        left, right = bar.get_x(), bar.get_x() + bar.get_width()
        slack = 1e-9 * (abs(left) + abs(right))
        if not left - slack <= values[start] <= values[end - 1] <= right + slack:
            raise InputError(f"bars: {where} shows other values than its sample; give them as drawn")
        key = f"{_end(values, start, left, start)}..{_end(values, end, right, end - 1)} {end - start}"
        x += [left, right]
        y += [bar.get_height(), 0.0]
        keys += [key, key]
    mark_cases(axes, x, y, (address, keys))


def _end(values: np.ndarray, place: int, edge: float, own: int) -> str:
    """A short number between the values before and at `place`, near the bar's edge; "" if one is missing.

    Where no number lies between, it is the bar's own value there: an end belongs to its range.
    """
    if place in (0, values.size):
        return ""
    below, above = values[place - 1], values[place]
    return next(_between(below, above, edge), np.format_float_positional(values[own], trim="-"))


def _between(below: float, above: float, edge: float) -> Iterator[str]:
    wanted = edge if below < edge < above else (below + above) / 2
    for digits in range(1, DIGITS + 1):
        said = f"{round(wanted, digits) + 0.0:.{digits}f}"  # no minus before a zero
        if below < float(said) < above:
            yield said
