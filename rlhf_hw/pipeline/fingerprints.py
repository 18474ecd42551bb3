"""What a result depends on, as hashes: files by their content, the library's code by what it does.

Dates and sizes say nothing here: a file that was changed behind them is seen, one that was only touched is
not. Of code the syntax tree counts, so comments, docstrings and layout do not; so do the data files (JSON,
YAML) in the folder of a module and those that it reads from a fixed place. The pipeline's own machinery,
which starts notebooks and changes no result of theirs, is left out.

    code_of("from rlhf_hw.models.scoring import RewardModel")   # {"rlhf_hw.models.scoring": "1f0c...", ...}
    content(Path("data/nano"))                                  # {"train.jsonl.gz": "93ab...", ...}
"""

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlhf_hw import imports, paths
from rlhf_hw.files import digest, version_of
from rlhf_hw.paths import local_copy, real_data, resolve

# start notebooks, choose which, show how far they are
MACHINERY = {
    "rlhf_hw.imports",
    "rlhf_hw.pipeline.consistency",
    "rlhf_hw.pipeline.fingerprints",
    "rlhf_hw.pipeline.graph",
    "rlhf_hw.pipeline.kept_results",
    "rlhf_hw.pipeline.kernel",
    "rlhf_hw.pipeline.machine",
    "rlhf_hw.pipeline.profiles",
    "rlhf_hw.pipeline.progress",
    "rlhf_hw.pipeline.record",
    "rlhf_hw.pipeline.runner",
    "rlhf_hw.pipeline.sizes",
    "rlhf_hw.pipeline.stamps",
    "rlhf_hw.pipeline.yaml_values",
}
# what modules read without being told: below the project's root or in the folder of real data
READS = {
    "rlhf_hw.world.text": ("data/world/*.yaml",),
    "rlhf_hw.experiments.plural.argument_votes": ("convarg1/votes.jsonl.gz",),
    "rlhf_hw.experiments.recorded": (
        "report/recorded.json",
        "fig/recorded_*",
        "recorded-run/*",
        "earlier-run/*",
    ),
}
LONGEST_NAME = 1000  # of a file; a longer text is none, and asking the system for it is an error
DATA_SUFFIXES = {".json", ".yaml", ".yml"}


def hash_of(**parts: Any) -> str:
    """One hash over named parts of plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=1)
def packages() -> tuple[str, ...]:
    """The versions of the packages that compute the results."""
    return version("torch"), version("transformers")


def content(path: Path) -> str | dict[str, str] | None:
    """Hash of a file, or of each file of a folder by its name in there; None where there is neither."""
    if path.is_dir():
        return dict(sorted(_contents(path)))
    return _digest(path) if path.is_file() else None


def _contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and hash of each file below a folder, also behind links to folders.

    A folder that is met again, by another link or by one that leads back, is not gone through again: which
    one it is, counts.
    """
    told = (".rlhf_hw", "README")  # notes of who wrote there, and what is told to people
    met: dict[str, str] = {}
    for place, folders, files in os.walk(folder, followlinks=True):
        name, real = os.path.relpath(place, folder), os.path.realpath(place)
        if real in met:
            folders.clear()
            yield name, f"the folder {met[real]}"
            continue
        met[real] = name
        folders.sort()
        for file in (Path(place, file) for file in files if not file.startswith(told)):
            if file.is_file():
                yield str(file.relative_to(folder)), _digest(file)


def named_files(text: str) -> list[Path]:
    """The files and folders that a text names, several separated by commas; local copies of hub ids too."""
    found = []
    for part in paths.sources_in(text):
        if len(part) > LONGEST_NAME:
            continue
        places = [resolve(part), local_copy(part)]
        found += [place for place in places if place is not None and os.path.exists(place)][:1]
    # "." or "/" are names of other things than data
    return [path for path in found if not paths.ROOT.is_relative_to(path.resolve())]


def identity(value: Any) -> Any:
    """The same plain data with the content of files in place of the texts that name them."""
    if isinstance(value, Mapping):
        return {key: identity(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [identity(part) for part in value]
    files = named_files(value) if isinstance(value, str) else []
    return [content(path) for path in files] or value


def code_of(source: str) -> dict[str, Any]:
    """Hashes of the library's modules that a source text reaches, with the data that lie beside them.

    Args:
        source: Python.

    Raises:
        SyntaxError: it cannot be parsed, or a module of the library cannot.
    """
    files = imports.modules(paths.LIBRARY)
    reached = imports.reached(source, files)
    # importing a module runs the packages that it lies in
    parents = {name.rsplit(".", n)[0] for name in reached for n in range(1, name.count(".") + 1)}
    found: dict[str, Any] = {}
    names = sorted((reached | parents & files.keys()) - MACHINERY)
    for name in names:
        found[name] = _read_syntax(files[name], *version_of(files[name]))
    return found | {
        place_name(path): _digest(path) for path in _read_by({name: files[name] for name in names})
    }


@lru_cache(maxsize=2048)
def syntax(source: str) -> str:
    """Hash of what a source text does: its syntax tree without docstrings, or the text where it has none."""
    return hashlib.sha256(_tree(source).encode()).hexdigest()


def _tree(source: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def _read_by(modules: Mapping[str, Path]) -> Iterator[Path]:
    """Data files in the folders of modules, and those that they are known to read."""
    for folder in {module.parent for module in modules.values()} - {paths.LIBRARY}:
        yield from (path for path in folder.rglob("*") if path.suffix in DATA_SUFFIXES)
    for pattern in (pattern for name in modules for pattern in READS.get(name, ())):
        for place in filter(None, (paths.ROOT, real_data())):
            yield from (path for path in place.glob(pattern) if path.is_file())


def place_name(path: Path) -> str:
    """A path's name that is the same on every machine: below the project's root or the real data's folder."""
    place = real_data()
    if place is not None and path.is_relative_to(place) and not path.is_relative_to(paths.ROOT):
        return f"$RLHF_HW_REAL_DATA/{path.relative_to(place)}"
    return str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)


@lru_cache(maxsize=2048)
def _read_syntax(path: Path, *_version: int) -> str:
    return syntax(path.read_text(encoding="utf-8"))


def _digest(path: Path) -> str:
    return _read_digest(path, *version_of(path))


@lru_cache(maxsize=100_000)
def _read_digest(path: Path, *_version: int) -> str:
    """Read big files once in a process; what changes them meanwhile changes their version, too."""
    return digest(path)
