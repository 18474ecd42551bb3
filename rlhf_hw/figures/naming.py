"""Names beside marks that lie close to each other: each stands where it covers no name, mark or line.

For every name some places round its mark are tried, near ones first; what a place would cover is counted, and
the place with the least is taken, in a few rounds, since each name is in the way of the others. A name away
from its mark is joined to it by a thin line. Names are ink: a mark's own colour may be too pale for letters.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rlhf_hw.figures.style import GREY, INK, SMALLEST

DISTANCES = (4, 11, 18, 26, 34)  # points between a mark's middle and the name's edge
JOINED_FROM = 8  # points: a name so far away is joined to its mark
DIRECTIONS = 16
ROUNDS = 3
MARK = 4.5  # points: half the width of a mark and its rim
# what it costs to cover a square point of a name or mark, a point of a line; to leave the panel; to be far
COST_MARK, COST_LINE, COST_OUTSIDE, COST_FAR = 1.0, 1.5, 10.0, 0.5
COST_UNCLEAR, CLEARER = 15.0, 3  # to stand less than so many points nearer to its own mark than to another


def name_marks(
    axes: Axes,
    names: Sequence[str],
    marks: ArrayLike,
    others: ArrayLike = (),
    lines: Sequence[ArrayLike] = (),
) -> None:
    """Writes each name beside its mark. Call it when all else is drawn: the panel's size must be known.

    Args:
        axes: The panel.
        names: One for each mark; an empty one is left out.
        marks: Where the marks are, in the units of the axes, shape (N, 2).
        others: Marks without a name, shape (M, 2).
        lines: Curves, whiskers: corners in the units of the axes, each of shape (K, 2).
    """
    axes.figure.draw_without_rendering()
    points = 72 / axes.figure.dpi  # a pixel in points
    middles, others = (
        axes.transData.transform(np.reshape(np.asarray(some, dtype=float), (-1, 2))) * points
        for some in (marks, others)
    )
    covered = np.concatenate([_along(axes.transData.transform(line) * points) for line in lines or [[]]])
    middles = np.concatenate([middles, others])
    inside = np.ravel(axes.get_window_extent().get_points()) * points
    look = {"color": INK, "fontsize": SMALLEST, "ha": "center", "va": "center", "zorder": 6}
    written = [
        axes.annotate(name, at, (0, 0), textcoords="offset points", **look)
        for name, at in zip(names, marks, strict=True)
    ]
    sizes = [np.array(text.get_window_extent().size) * points for text in written]
    boxes = _boxes(names, sizes, middles, covered, inside)
    for text, box, at in zip(written, boxes, middles, strict=False):
        if not text.get_text():
            text.remove()
            continue
        middle = (box[:2] + box[2:]) / 2 - at
        text.set_position(tuple(middle))
        if _gap(box, at) >= JOINED_FROM:
            axes.annotate(
                "",
                axes.transData.inverted().transform(at / points),
                tuple(np.clip(-middle, box[:2] - at - middle, box[2:] - at - middle) + middle),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            )


def _boxes(names, sizes, middles, covered, inside) -> list[np.ndarray]:
    """The place of each name, whose mark is that of `middles` with its number; all in points."""
    squares = np.concatenate([middles - MARK, middles + MARK], axis=1)
    boxes = [np.zeros(4) for _ in names]
    for _ in range(ROUNDS):
        for n, name in enumerate(names):
            if name:
                taken = np.array([box for other, box in enumerate(boxes) if other != n and names[other]])
                blocks = np.concatenate([squares, taken.reshape(-1, 4)])
                nearby = np.delete(middles, n, axis=0)
                boxes[n] = _best_place(middles[n], sizes[n], blocks, covered, nearby, inside)
    return boxes


def _along(corners: np.ndarray) -> np.ndarray:
    """Points every point's length along a line, shape (P, 2)."""
    corners = np.reshape(corners, (-1, 2))
    parts = [corners[:1]]
    for start, end in zip(corners, corners[1:], strict=False):
        steps = max(int(np.hypot(*(end - start))), 1)
        parts.append(start + (end - start) * np.linspace(0, 1, steps + 1)[1:, None])
    return np.concatenate(parts)


def _gap(box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of points, shape (..., 2), from a box: zero inside."""
    return np.linalg.norm(np.clip(np.maximum(box[:2] - points, points - box[2:]), 0, None), axis=-1)


def _best_place(at, size, blocks, covered, nearby, inside) -> np.ndarray:
    """The box (left, bottom, right, top) of the cheapest place round a mark; all in points."""
    best, least = None, np.inf
    for distance in DISTANCES:
        for angle in np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False):
            toward = np.array([np.cos(angle), np.sin(angle)])
            middle = at + toward * distance + np.clip(toward * 1.42, -1, 1) * size / 2
            box = np.concatenate([middle - size / 2, middle + size / 2])
            cost = _cost(box, blocks, covered, inside) + COST_FAR * distance
            own = _gap(box, at)
            if own < JOINED_FROM:  # nothing but its place tells whose name it is
                cost += COST_UNCLEAR * (_gap(box, nearby) < own + CLEARER).sum()
            if cost < least - 1e-6:
                best, least = box, cost
    return best


def _cost(box, blocks, covered, inside) -> float:
    sides = np.minimum(box[2:], blocks[:, 2:]) - np.maximum(box[:2], blocks[:, :2])
    areas = np.prod(np.clip(sides, 0, None), axis=1).sum()
    on_lines = np.all((covered > box[:2]) & (covered < box[2:]), axis=1).sum()
    outside = np.clip(np.concatenate([inside[:2] - box[:2], box[2:] - inside[2:]]), 0, None).sum()
    return COST_MARK * areas + COST_LINE * on_lines + COST_OUTSIDE * outside
