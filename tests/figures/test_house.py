"""The picture of the house shows the rooms and imports of the code as it is."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from matplotlib.patches import FancyArrowPatch
from PIL import Image

from rlhf_hw.errors import InputError
from rlhf_hw.figures.diagrams import DIAGRAMS
from rlhf_hw.figures.floors import lanes, order, place
from rlhf_hw.figures.house import Plan, draw, house, read_plan, sizes, too_long
from rlhf_hw.imports import imports, room
from rlhf_hw.paths import FIG, LIBRARY

# the longest arrow passes two floors, two lead to "sand"
TOWER = {"roof": ["hall", "sand"], "hall": ["cellar"], "cellar": ["sand"], "sand": [], "shed": ["sand"]}
SPACE = {"width": 16.0, "box": 3.7, "lane": 0.2, "gap": 0.3}


def test_the_stored_picture_is_that_of_the_code() -> None:
    with Image.open(FIG / "house.png") as picture:
        shown = json.loads(picture.text["Description"])
    assert shown == asdict(read_plan()), "the house has changed since it was drawn: run `make house`"


def test_the_arrows_are_the_imports_between_rooms() -> None:
    plan, rooms = read_plan(), {path.parent.name for path in LIBRARY.glob("*/*.py")}
    found = {(room(name), room(other)) for name, others in imports().items() for other in others}
    found = {(upper, lower) for upper, lower in found if {upper, lower} <= rooms and upper != lower}
    assert found == {(upper, lower) for upper, others in plan.arrows.items() for lower in others}
    assert plan.modules.keys() == rooms and plan.above == ["cli"]
    assert {"errors", "files", "paths"} <= set(plan.below)


def test_an_arrow_that_appears_in_the_code_appears_in_the_plan(tmp_path: Path) -> None:
    for name, text in (("stats", ""), ("models", ""), ("report", "def f():\n    import rlhf_hw.models.m")):
        folder = tmp_path / "rlhf_hw" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "m.py").write_text(text)
    plan = read_plan(tmp_path / "rlhf_hw")
    assert plan.arrows == {"models": [], "report": ["models"], "stats": []}
    assert plan.modules["report"] == ["m"]


@pytest.mark.parametrize("graph", [TOWER, read_plan().arrows], ids=["tower", "house"])
def test_every_arrow_leads_down_past_the_boxes_to_its_end(graph) -> None:
    floors, pieces = place(graph, **SPACE), lanes(graph)
    level = {name: number for number, floor in enumerate(floors) for name in floor}
    for upper, lower in pieces:
        assert level[upper] == level[lower] + 1
    for start, others in graph.items():
        ends, ways = set(), [lower for upper, lower in pieces if upper == start]
        while ways:
            way = ways.pop()
            ends |= {way} - {name for name in level if "@" in name}
            ways += [lower for upper, lower in pieces if upper == way and "@" in way]
        assert ends == set(others)
    for floor in floors:
        reach = [(x, (SPACE["lane"] if "@" in name else SPACE["box"]) / 2) for name, x in floor.items()]
        for (x, half), (y, other) in zip(reach, reach[1:], strict=False):
            assert y - x >= half + other + SPACE["gap"] - 1e-2
        assert reach[0][0] - reach[0][1] > -1e-2 and reach[-1][0] + reach[-1][1] < SPACE["width"] + 1e-2


def test_crossings_that_need_not_be_are_not_there() -> None:
    floors = order({"a": ["y"], "b": ["x"], "x": [], "y": []})
    assert floors[1] in (["a", "b"], ["b", "a"])
    assert floors[0].index("y") - floors[0].index("x") == floors[1].index("a") - floors[1].index("b")


def test_a_picture_that_is_too_wide_says_so() -> None:
    with pytest.raises(InputError, match="6 boxes and lanes does not fit into 16.0 cm"):
        place({f"room {number}": [] for number in range(6)}, **SPACE)


def test_drawn_twice_the_bytes_are_equal(tmp_path: Path) -> None:
    first, second = draw(tmp_path / "first"), draw(tmp_path / "second")
    assert [path.name for path in first] == ["house.png", "house.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "house" not in DIAGRAMS  # those the report needs


def test_each_piece_of_an_arrow_is_drawn_and_one_head_at_each_end() -> None:
    axes = house(Plan({name: ["m"] for name in TOWER}, TOWER, ["cli"], ["paths"])).axes[0]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == len(lanes(TOWER))
    texts = [text.get_text() for text in axes.texts]
    assert {*TOWER} <= set(texts) and "for everyone: paths" in texts


def test_sizes_are_counted(tmp_path: Path) -> None:
    long = "def long():\n" + "    x = 1\n" * 61
    files = {"rlhf_hw/cli.py": "def f(): ...\n", "rlhf_hw/stats/a.py": "x = 1\n" * 7, "tests/test_a.py": long}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    rows = [row.split() for row in sizes(tmp_path).splitlines()]
    assert rows[1:3] == [["(outside)", "1", "1", "1"], ["stats", "1", "7", "7"]]
    assert rows[3][-3:] == ["tests/test_a.py,", "62", "lines"]
    assert rows[4] == ["median", "length", "of", "2", "functions:", "31.5", "lines"]
    assert too_long(tmp_path) == ["too long: tests/test_a.py:1 long, 62 lines"]
