"""The functions of a notebook, for tests: what it imports and defines, and nothing that it runs."""

import ast
from typing import Any

import nbformat

from rlhf_hw.paths import NOTEBOOKS


def notebook_tree(stem: str) -> ast.Module:
    """Syntax tree of a notebook's code cells."""
    cells = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
    return ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))


def notebook_functions(stem: str) -> dict[str, Any]:
    """What a notebook imports and defines, by name."""
    tree = notebook_tree(stem)
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    tree.body = [node for node in tree.body if isinstance(node, kept)]
    names: dict[str, Any] = {}
    exec(compile(tree, stem, "exec"), names)
    return names
