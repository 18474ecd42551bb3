"""The walls of the house: which room may import which. CONTRIBUTING tells them, README shows the arrows."""

from pathlib import Path

import pytest

from rlhf_hw.imports import imports, room

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
FOUNDATION = {"rlhf_hw", "paths", "files", "errors", "imports"}  # for everyone, and above nothing


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
    ],
)
def test_an_import_through_a_wall_is_found(tmp_path: Path, room_: str, line: str) -> None:
    library = tmp_path / "rlhf_hw"
    for name in ("models/loading", "pipeline/runner", f"{room_}/planted"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / f"{name}.py").write_text(line if name.endswith("planted") else "")
    found = misplaced(imports(library))
    assert len(found) == 1 and found[0].startswith(f"rlhf_hw.{room_}.planted imports rlhf_hw.")


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
