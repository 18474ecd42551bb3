"""Where the boxes of a plan stand: on floors, above all they point to, with as few crossings as possible.

The layout of layered graphs after Sugiyama, Tagawa and Toda (1981). An arrow that passes a floor takes up a
lane there, and arrows to the same box share one, so that they join on the way. On each floor box after box
goes where it leaves the fewest crossings; the places are those for which the arrows run most nearly upright
(a linear program). The same graph gives the same picture.

    floors = place({"figures": ["stats"], "stats": []}, width=16, box=3.5, lane=0.3, gap=0.4)
    floors[0]  ->  {"stats": 8.0}: the name and the middle of each box, the lowest floor first
"""

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.optimize import linprog

from rlhf_hw.errors import InputError

Arrows = set[tuple[str, str]]
Floors = list[dict[str, float]]

ROUNDS = 4  # over all floors, in which boxes change places


def heights(graph: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Floor of each box: 0 where it points to nothing, else one above the highest it points to."""
    found: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((height(other) for other in graph[name]), default=-1)
        return found[name]

    return {name: height(name) for name in sorted(graph)}


def lanes(graph: Mapping[str, Iterable[str]]) -> Arrows:
    """The arrows cut at each floor; the lane to a box on floor 2 is called "box@2" there."""
    floor, found = heights(graph), set()
    for upper, others in graph.items():
        for lower in others:
            way = [f"{lower}@{level}" for level in range(floor[upper] - 1, floor[lower], -1)]
            found |= set(zip([upper, *way], [*way, lower], strict=True))
    return found


def crossings(floors: list[list[str]], arrows: Arrows) -> int:
    """How many pieces of arrows cross each other."""
    place = {name: (level, number) for level, names in enumerate(floors) for number, name in enumerate(names)}
    ends = sorted((place[upper], place[lower]) for upper, lower in arrows)
    return sum(
        first[0][0] == second[0][0] and first[0] < second[0] and first[1] > second[1]
        for number, first in enumerate(ends)
        for second in ends[number + 1 :]
    )


def order(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Boxes and lanes of each floor from left to right, the lowest floor first; with few crossings."""
    arrows, floor = lanes(graph), heights(graph)
    names = set(graph) | {end for arrow in arrows for end in arrow}
    level = {name: int(name.partition("@")[2]) if "@" in name else floor[name] for name in names}
    floors = [sorted(n for n in names if level[n] == k) for k in range(max(level.values()) + 1)]
    for _ in range(ROUNDS):
        for k in [*range(1, len(floors)), *range(len(floors) - 2, -1, -1)]:
            near = {(a, b) for a, b in arrows if k in (level[a], level[b])}
            for name in list(floors[k]):
                rest = [other for other in floors[k] if other != name]
                ways = [[*rest[:n], name, *rest[n:]] for n in range(len(rest) + 1)]
                counts = [crossings([*floors[:k], way, *floors[k + 1 :]], near) for way in ways]
                if min(counts) < counts[floors[k].index(name)]:
                    floors[k] = ways[counts.index(min(counts))]
    return floors


def place(graph: Mapping[str, Iterable[str]], *, width: float, box: float, lane: float, gap: float) -> Floors:
    """The middle of each box and lane, floor by floor, between 0 and `width`.

    Args:
        graph: What each box points to; without circles.
        width: Of the picture; `box` and `lane`: of one of them; `gap`: between two.
    """
    floors, arrows = order(graph), sorted(lanes(graph))
    names = [name for floor in floors for name in floor]
    number = {name: index for index, name in enumerate(names)}
    half = np.array([(lane if "@" in name else box) / 2 for name in names])
    rows, limits = [], []
    for index, (upper, lower) in enumerate(arrows):  # |x_upper - x_lower| <= one more unknown, to be small
        for sign in (1, -1):
            row = np.zeros(len(names) + len(arrows))
            row[[number[upper], number[lower], len(names) + index]] = sign, -sign, -1
            rows.append(row)
            limits.append(0.0)
    for floor in floors:
        for left, right in zip(floor, floor[1:], strict=False):
            row = np.zeros(len(names) + len(arrows))
            row[[number[left], number[right]]] = 1, -1
            rows.append(row)
            limits.append(-(half[number[left]] + half[number[right]] + gap))
    # lanes first: a bend beside a box is easier to follow than one on the way
    weights = [4.0 if "@" in upper and "@" in lower else 1.0 for upper, lower in arrows]
    bounds = [(h, width - h) for h in half] + [(0, None)] * len(arrows)
    found = linprog([0.0] * len(names) + weights, A_ub=rows or None, b_ub=limits or None, bounds=bounds)
    if not found.success:
        raise InputError(f"a floor with {max(map(len, floors))} boxes and lanes does not fit into {width} cm")
    x = found.x[: len(names)]
    x += (width - (x - half).min() - (x + half).max()) / 2  # in the middle of the picture
    return [{name: round(float(x[number[name]]), 3) for name in floor} for floor in floors]
