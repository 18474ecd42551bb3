"""The house: which room of the library imports which, drawn from the code, and how large everything is.

    python -m rlhf_hw.figures.house        draws fig/house.png and .pdf, says the sizes (`make house`)

A box is a room, that is a sub-package, with its modules; an arrow goes from a room to one that it imports.
No arrow is placed by hand (`figures.floors` does it). The PNG carries the plan that it shows, so that a test
can tell when the code has moved on.
"""

import ast
import json
import logging
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Route

from rlhf_hw.figures.diagrams import HEAD, SMALL, WIDTH, box, sheet, write_line
from rlhf_hw.figures.floors import lanes, place
from rlhf_hw.figures.style import CYCLE, GREY, INK, styled, write_figure
from rlhf_hw.imports import imports, modules, room
from rlhf_hw.paths import FIG, LIBRARY, ROOT

# cm: width of a box, of an arrow that passes one, gap between them, height between floors, of a note
BOX, LANE, GAP, BETWEEN, NOTE = 3.7, 0.2, 0.3, 1.3, 0.8
TITLE, LINE, TINY = 0.75, 0.34, 7.0  # cm, cm, points: a room's name; a line of its modules
LONG_FILE, LONG_FUNCTION = 300, 60  # lines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What the picture shows.

    Attributes:
        modules: Room -> its modules.
        arrows: Room -> the rooms that it imports.
        above: Modules outside all rooms that import some.
        below: Modules outside all rooms that import none: for everyone.
    """

    modules: dict[str, list[str]]
    arrows: dict[str, list[str]]
    above: list[str]
    below: list[str]


def read_plan(library: Path = LIBRARY) -> Plan:
    """Read the plan from the library's code."""
    rooms = sorted(path.parent.name for path in library.glob("*/__init__.py"))
    inside: dict[str, set[str]] = {name: set() for name in rooms}
    arrows: dict[str, set[str]] = {name: set() for name in rooms}
    plan = Plan({}, {}, [], [])
    for name, others in imports(library).items():
        here, reached = room(name), {room(other) for other in others} & set(rooms)
        if here in rooms:
            inside[here] |= set(name.split(".")[2:3])
            arrows[here] |= reached - {here}
        elif here != library.name:
            (plan.above if reached else plan.below).append(here)
    plan.modules.update({name: sorted(found) for name, found in inside.items()})
    plan.arrows.update({name: sorted(found) for name, found in arrows.items()})
    return plan


@styled
def house(plan: Plan) -> Figure:
    """Draw the rooms on floors, each above all that it imports, with arrows to these."""
    floors = place(plan.arrows, width=WIDTH, box=BOX, lane=LANE, gap=GAP)
    lines = {name: textwrap.wrap(", ".join(found), 28) for name, found in plan.modules.items()}
    heights = [
        TITLE + 0.2 + LINE * max(len(lines[n]) for n in floor.keys() & lines.keys()) for floor in floors
    ]
    bottoms = [NOTE + sum(heights[:level]) + BETWEEN * level for level in range(len(floors))]
    figure, axes = sheet(bottoms[-1] + heights[-1] + NOTE)
    # the rooms that most others import first: their arrows are the longest
    wanted = sorted(plan.arrows, key=lambda n: -sum(n in others for others in plan.arrows.values()))
    colours = dict(zip(wanted, [*CYCLE, INK, *[GREY] * len(wanted)], strict=False))
    spans = {
        n: (x, y, y + h)
        for floor, y, h in zip(floors, bottoms, heights, strict=True)
        for n, x in floor.items()
    }
    _draw_arrows(axes, plan, spans, colours)
    for name, colour in colours.items():
        middle, bottom, top = spans[name]
        box(axes, middle - BOX / 2, bottom, BOX, top - bottom, [], colour)
        write_line(axes, middle, top - 0.45, name, size=HEAD, weight="bold", color=colour)
        for number, line in enumerate(lines[name]):
            write_line(axes, middle, top - TITLE - 0.2 - LINE * number, line, size=TINY)
    above = f"arrows lead to what a room imports; above all rooms: {', '.join(plan.above)}"
    write_line(axes, WIDTH / 2, bottoms[-1] + heights[-1] + NOTE / 2, above, size=SMALL, color=GREY)
    below = f"for everyone: {', '.join(plan.below)}"
    write_line(axes, WIDTH / 2, NOTE / 2, below, size=SMALL, color=GREY)
    return figure


def _draw_arrows(axes: Axes, plan: Plan, spans: dict, colours: dict[str, str]) -> None:
    """Draw each piece of an arrow as a curve that leaves and arrives upright, in the colour of its end."""
    arrows = lanes(plan.arrows)
    for upper, lower in sorted(arrows):
        goal, (x, bottom, top) = lower.partition("@")[0], spans[lower]
        start, floor, _ = spans[upper]
        if upper in colours:  # those that leave a box stand side by side
            beside = sorted((spans[other][0], other) for one, other in arrows if one == upper)
            start += 0.45 * (beside.index((x, lower)) - (len(beside) - 1) / 2)
        half = (floor - top) / 2
        points = [(start, floor), (start, floor - half), (x, top + half), (x, top)]
        route = Route(points, [Route.MOVETO, *[Route.CURVE4] * 3])
        style = {"arrowstyle": "-|>", "mutation_scale": 9} if lower in colours else {"arrowstyle": "-"}
        look = {"color": colours[goal], "linewidth": 1.2, "snap": False}
        axes.add_patch(FancyArrowPatch(path=route, shrinkA=0, shrinkB=0, **style, **look))
        if lower not in colours:
            axes.plot([x, x], [bottom, top], **look)


def draw(folder: Path = FIG) -> list[Path]:
    """Draw the house of today into a folder; return the files, a PNG, which carries the plan, and a PDF."""
    plan = read_plan()
    return write_figure(house(plan), Path(folder) / "house", ("png", "pdf"), about=json.dumps(asdict(plan)))


def sizes(folder: Path = ROOT) -> str:
    """How large rooms, files and functions are, as a table to read."""
    library, rooms = folder / LIBRARY.name, {}
    for name, path in modules(library).items():
        rooms.setdefault("(outside)" if path.parent == library else room(name), []).append(_lines(path))
    files, functions = code_sizes(folder)
    longest = max(files, key=files.get)
    table = [f"{'room':14}{'modules':>8}{'lines':>8}{'longest':>9}"]
    table += [f"{name:14}{len(found):8}{sum(found):8}{max(found):9}" for name, found in sorted(rooms.items())]
    return "\n".join(
        [
            *table,
            f"longest file, tests included: {longest}, {files[longest]} lines",
            f"median length of {len(functions)} functions: {median(functions.values()):g} lines",
            *too_long(folder),
        ]
    )


def code_sizes(folder: Path = ROOT) -> tuple[dict[str, int], dict[str, int]]:
    """Lines of each file of the library, the tests and the benchmarks, and of each function in them."""
    files, functions = {}, {}
    for part in (LIBRARY.name, "tests", "benchmarks"):
        for path in sorted((folder / part).rglob("*.py")):
            name = str(path.relative_to(folder))
            files[name] = _lines(path)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    functions[f"{name}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1
    return files, functions


def too_long(folder: Path = ROOT) -> list[str]:
    """Files and functions that are longer than they should be, with their lines."""
    limits = zip((LONG_FILE, LONG_FUNCTION), code_sizes(folder), strict=True)
    return [
        f"too long: {name}, {n} lines" for limit, found in limits for name, n in found.items() if n > limit
    ]


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    log.setLevel(logging.INFO)
    draw()
    log.info(sizes())
