"""Which modules of this library a piece of code imports, read from its import statements.

Read, not run: imports inside functions count too, and nothing is loaded. What a notebook's results depend on
(`pipeline.graph`), the walls between the rooms (`tests/test_house.py`) and the picture of the house
(`figures.house`) all come from here.

    reached("from rlhf_hw.models.scoring import RewardModel")   # rlhf_hw.models.scoring and all it imports
"""

import ast
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.files import version_of
from rlhf_hw.paths import LIBRARY


def modules(library: Path = LIBRARY) -> dict[str, Path]:
    """Every module of the library by its dotted name; a package stands for its `__init__.py`."""
    found = {}
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """The sub-package a module lies in, or its own name where it lies in none."""
    return module.split(".")[1] if "." in module else module


def imported(source: str, known: Iterable[str], file: str = "<source>") -> set[str]:
    """Those of the known modules that a source text names in import statements; errors name the `file`."""
    try:
        names, relative = _named(source)
    except SyntaxError as error:
        error.filename = file
        raise
    if relative:
        where = f"{file}, line {relative}"
        raise InputError(f"{where}: a relative import; write `from rlhf_hw.room.module import ...`")
    found = names & set(known)
    # `from rlhf_hw.models import scoring` names the package only to reach the module
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


@lru_cache(maxsize=2048)
def _named(source: str) -> tuple[frozenset[str], int]:
    """All that a source text's import statements name, and the line of a relative one, else 0."""
    names: set[str] = set()
    relative = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            relative = relative or node.lineno
        if isinstance(node, ast.Call) and _last_name(node.func) in ("import_module", "__import__"):
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name`: a module of the package, or something that is defined in it
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names), relative


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def imports(library: Path = LIBRARY) -> dict[str, frozenset[str]]:
    """For every module of the library those it imports itself."""
    return dict(_graph(_versions(modules(library))))


def reached(source: str, files: Mapping[str, Path] | None = None) -> set[str]:
    """The modules that a source text imports, directly or through others.

    Args:
        source: Python.
        files: The library's modules, where they are known already, see `modules`.
    """
    graph = _graph(_versions(modules() if files is None else files))
    found, new = set(), imported(source, graph)
    while new:
        found |= new
        new = set().union(*(graph[name] for name in new)) - found
    return found


def _versions(files: Mapping[str, Path]) -> tuple[tuple, ...]:
    return tuple((name, path, version_of(path)) for name, path in files.items())


@lru_cache(maxsize=8)
def _graph(files: tuple[tuple, ...]) -> dict[str, frozenset[str]]:
    known = {name for name, *_ in files}
    return {
        name: frozenset(imported(path.read_text(encoding="utf-8"), known, str(path)))
        for name, path, _ in files
    }
