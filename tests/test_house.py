"""The walls of the house: which room may import which; and one name for one thing, all over the house.

CONTRIBUTING tells the walls, README shows the arrows.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import rlhf_hw
from rlhf_hw.errors import InputError
from rlhf_hw.figures.house import too_long
from rlhf_hw.imports import imported, imports, modules, room
from rlhf_hw.paths import ROOT

CORE = {"preferences", "stats"}
MAY_IMPORT = {
    "stats": set(),
    "preferences": {"stats"},
    "world": CORE,
    "models": CORE,
    "training": CORE | {"models", "world"},
    "experiments": CORE | {"models", "world", "training"},
    "figures": {"stats"},
    "pipeline": set(),
    "report": {"figures", "pipeline", "stats"},
}
# Names that several modules have for their part of the same thing, and why
SHARED = {
    "main": "what `python -m` calls",
    "build_report": "the command, and what it calls",
    "check_data": "the command, and what it calls",
    "statements": "what an experiment's intervals allow to say",
}
SHARED_MODULES = {
    "build": "makes what leaves the room: the world's data files, the report",
    "text": "the texts of the room: the world's sentences, what is counted in any reply",
}
FOUNDATION = {"rlhf_hw", "paths", "files", "errors", "imports", "workers"}  # for everyone, and above nothing


def misplaced(graph: dict[str, set[str]]) -> list[str]:
    """The imports that go through a wall; the command line, above everything, has none."""
    found = []
    for module, others in graph.items():
        here = room(module)
        allowed = FOUNDATION | MAY_IMPORT.get(here, set()) | {here}
        found += [
            f"{module} imports {other}" for other in others if room(other) not in allowed and here != "cli"
        ]
    return sorted(found)


def test_rooms_import_only_what_they_may() -> None:
    graph = imports()
    assert {room(name) for name in graph} == MAY_IMPORT.keys() | FOUNDATION | {"cli"}, "a room without walls"
    assert misplaced(graph) == []


@pytest.mark.parametrize(
    "room_, line",
    [
        ("stats", "from rlhf_hw.models import loading"),
        ("figures", "def f():\n    import rlhf_hw.pipeline.runner"),
        ("figures", "import importlib\nimportlib.import_module('rlhf_hw.pipeline.runner')"),
    ],
)
def test_an_import_through_a_wall_is_found(tmp_path: Path, room_: str, line: str) -> None:
    library = tmp_path / "rlhf_hw"
    for name in ("models/loading", "pipeline/runner", f"{room_}/planted"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / f"{name}.py").write_text(line if name.endswith("planted") else "")
    found = misplaced(imports(library))
    assert len(found) == 1 and found[0].startswith(f"rlhf_hw.{room_}.planted imports rlhf_hw.")


@pytest.mark.parametrize(
    "line", ["from ..models import loading", "from .models import loading", "from . import x"]
)
def test_a_relative_import_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="here.py, line 2: a relative import"):
        imported(f"\n{line}", modules(), "here.py")


def test_no_module_imports_itself_through_others() -> None:
    graph = imports()

    def above(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, f"a circle: {' -> '.join([*seen, name])}"
        if name not in safe:
            for other in graph[name]:
                above(other, (*seen, name))
            safe.add(name)

    safe: set[str] = set()
    for module in graph:
        above(module, ())


def test_the_pages_tell_the_rooms_and_their_walls() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+|no other room) \|$", page, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", others)) for name, others in rows} == MAY_IMPORT
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[(\w+)\]\(rlhf_hw/\1/\) \|", readme, re.MULTILINE)) == MAY_IMPORT.keys()
    assert set(re.findall(r"^    (\w+)  ", rlhf_hw.__doc__, re.MULTILINE)) == MAY_IMPORT.keys()


def test_files_and_functions_stay_short() -> None:
    assert too_long() == []


def several(files: dict[str, Path]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Public classes and functions, and modules, whose name stands in several places."""
    defined, files_of = defaultdict(list), defaultdict(list)
    for module, path in files.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                defined[node.name].append(module)
        # figures/X draws what experiments/X found, under the same name
        if path.name != "__init__.py" and room(module) != "figures":
            files_of[module.rsplit(".", 1)[-1]].append(module)
    return tuple({name: at for name, at in found.items() if len(at) > 1} for found in (defined, files_of))


def test_no_name_means_two_things() -> None:
    defined, files = several(modules())
    assert {name: at for name, at in defined.items() if name not in SHARED} == {}
    assert {name: at for name, at in files.items() if name not in SHARED_MODULES} == {}
    assert SHARED.keys() <= defined.keys() and SHARED_MODULES.keys() <= files.keys(), "listed, but gone"


def test_a_name_in_two_places_is_found(tmp_path: Path) -> None:
    for name in ("one/reply.py", "two/reply.py", "figures/reply.py"):
        (tmp_path / "rlhf_hw" / name).parent.mkdir(parents=True)
        (tmp_path / "rlhf_hw" / name).write_text("class Reply: ...\ndef _own(): ...\n")
    defined, files = several(modules(tmp_path / "rlhf_hw"))
    assert list(defined) == ["Reply"] and len(defined["Reply"]) == 3
    assert files == {"reply": ["rlhf_hw.one.reply", "rlhf_hw.two.reply"]}
