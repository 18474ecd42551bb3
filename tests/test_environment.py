"""What is installed: the same packages in all three lists, and of this library every file."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from setuptools import find_packages

from rlhf_hw.paths import LIBRARY, NOTEBOOKS, ROOT

# name on PyPI -> name on conda-forge, where they differ
CONDA_NAMES = {"torch": "pytorch", "typst": "typst-py"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(lines: list[str], separator: str = "==") -> dict[str, str]:
    parts = (line.split(separator) for line in lines)
    return {_canonical(name): version for name, version in parts}


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _project() -> dict:
    return _pyproject()["project"]


def _declared() -> dict[str, str]:
    project = _project()
    return _pins(project["dependencies"]) | _pins(project["optional-dependencies"]["test"])


def _locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return _pins([line for line in lines if line and not line.startswith("#")])


def test_the_lock_holds_every_direct_dependency_at_its_version() -> None:
    locked = _locked()
    assert {name: locked.get(name) for name in _declared()} == _declared()


def test_the_lock_fits_any_machine() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"@|file:|/|\+cpu|^nvidia|^cuda|^triton", text, re.MULTILINE)


def test_the_lock_fits_the_oldest_python_that_is_allowed() -> None:
    oldest = _project()["requires-python"].removeprefix(">=") + ".0"
    wanted = {}
    for name in _locked():
        try:
            wanted[name] = metadata(name)["Requires-Python"] or ""
        except PackageNotFoundError:  # of a package that this machine does not need
            continue
    assert len(wanted) > 100
    assert {name: said for name, said in wanted.items() if oldest not in SpecifierSet(said)} == {}


def test_conda_environment_names_the_same_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    packages = environment["dependencies"]
    pip = next(entry["pip"] for entry in packages if isinstance(entry, dict))
    conda = [entry for entry in packages if isinstance(entry, str)]
    assert "pip" in conda and "-e ." in pip
    assert f"python{_project()['requires-python']}" in conda
    listed = _pins([entry for entry in conda if re.search(r"[a-z]=\d", entry)], "=")
    listed |= _pins([entry for entry in pip if "==" in entry])
    assert listed == {CONDA_NAMES.get(name, name): version for name, version in _declared().items()}


def _imported(path: Path) -> set[str]:
    if path.suffix == ".ipynb":
        nbformat = pytest.importorskip("nbformat")
        cells = nbformat.read(path, as_version=4).cells
        source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        source = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    else:
        source = path.read_text(encoding="utf-8")
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"rlhf_hw"}


def test_what_the_code_imports_is_declared() -> None:
    declared = set(_pins(_project()["dependencies"]))
    # come with a declared package and are used through it
    declared |= {"nbclient", "traitlets", "ipython", "huggingface-hub"}
    distributions = packages_distributions()
    files = [*(ROOT / "rlhf_hw").rglob("*.py"), *NOTEBOOKS.glob("*.ipynb")]
    undeclared = {
        f"{path.name}: {name}"
        for path in files
        for name in _imported(path) - {"wandb", "mlflow"}  # trackers, which the user installs
        if not {_canonical(d) for d in distributions.get(name, [])} & declared
    }
    assert not undeclared


def test_every_folder_of_code_is_a_package_that_says_what_it_holds() -> None:
    folders = {path.parent for path in LIBRARY.rglob("*.py")}
    undescribed = [
        folder.name
        for folder in folders
        if not (folder / "__init__.py").exists()
        or not ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    ]
    assert not undescribed
    found = find_packages(str(ROOT), **_pyproject()["tool"]["setuptools"]["packages"]["find"])
    assert set(found) == {".".join(folder.relative_to(ROOT).parts) for folder in folders}


def test_a_wheel_holds_what_the_library_reads() -> None:
    listed = _pyproject()["tool"]["setuptools"]["package-data"][LIBRARY.name]
    held = {path for pattern in listed for path in LIBRARY.glob(pattern)}
    there = {path for path in LIBRARY.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert held and {path for path in there if path.suffix != ".py"} == held
