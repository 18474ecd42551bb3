"""Points of a figure that are single replies or pairs, and the case of the reply explorer that each one is.

    mark_cases(axes, words, scores, ("set=validation&a=dpo", keys))     a drawing function says so
    svg, drawn = without_cases(text)                                    for a page that makes links of them

`style.write_figure` writes them into the SVG as data that no viewer shows, so that they go wherever the
figure goes; print has none. Which link they become, only the page knows that lies beside an explorer (room
`report`).
"""

import json
import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary
from xml.sax.saxutils import escape, unescape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlhf_hw.errors import InputError

# What the points of a sample lead to: the explorer's address behind its #, and the key of each one's case
CaseAddresses = tuple[str, Sequence[str]]
_MARKED: WeakKeyDictionary[Figure, list[tuple[Axes, np.ndarray, CaseAddresses]]] = WeakKeyDictionary()
_DATA = re.compile(r'<metadata id="cases">(.*?)</metadata>\n', re.DOTALL)


def mark_cases(axes: Axes, x: ArrayLike, y: ArrayLike, addresses: CaseAddresses) -> None:
    """Remember which case each point is.

    Args:
        axes: Where they are drawn.
        x, y: The points, shape (points,), in the units of the axes.
        addresses: What they lead to, one key a point.

    Raises:
        InputError: there are more or fewer keys than points.
    """
    places = np.column_stack([x, y]).astype(float)
    if len(places) != len(addresses[1]):
        raise InputError(f"cases: {len(places)} points cannot have {len(addresses[1])} keys; give one each")
    _MARKED.setdefault(axes.figure, []).append((axes, places, addresses))


def with_cases(svg: str, figure: Figure) -> str:
    """A figure that was saved as SVG just now, as text, with those of its marked points that are seen."""
    size = 72 * figure.get_size_inches()  # an SVG's units are points
    drawn = []
    for axes, places, (address, keys) in _MARKED.get(figure, []):
        seen = axes.bbox.padded(1e-6).contains
        pixels = axes.transData.transform(places)
        at = figure.transFigure.inverted().transform(pixels) * size
        points = [
            [round(float(left), 1), round(float(size[1] - up), 1), key]
            for (left, up), pixel, key in zip(at, pixels, keys, strict=True)
            if np.isfinite(pixel).all() and seen(*pixel)
        ]
        drawn.append({"address": address, "points": points})
    if not drawn:
        return svg
    data = json.dumps({"size": [round(float(n), 2) for n in size], "groups": drawn}, separators=(",", ":"))
    return svg.replace("</svg>", f'<metadata id="cases">{escape(data)}</metadata>\n</svg>')


def without_cases(svg: str) -> tuple[str, dict[str, Any] | None]:
    """An SVG as text without its cases, and these.

    Returns:
        The cases are None where it has none; else `size` of the drawing, and `groups`, each with `address`
        and `points`: [from the left, from above, key of the case].
    """
    found = _DATA.search(svg)
    return (svg, None) if found is None else (_DATA.sub("", svg), json.loads(unescape(found[1])))
