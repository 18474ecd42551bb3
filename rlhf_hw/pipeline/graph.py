"""Stamps: one hash over everything a result depends on, so that only what is out of date is made again.

A notebook depends on its code, the library, its parameters, the data files they name, the notebooks before it
and the versions of torch and transformers; the report on the run's numbers and figures, its own text and the
library. Any change in the library counts: sometimes a run too many, never a stale number.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

from rlhf_hw.paths import DATA, FIG, REPORT, resolve

PACKAGE = Path(__file__).resolve().parent.parent


def notebook_stamp(path: Path, parameters: dict[str, Any], before: Iterable[str], own_folder: Path) -> str:
    """Return the stamp of a notebook's result.

    Args:
        path: The notebook.
        parameters: What is injected into it; the files and folders they name count with time and size.
        before: Stamps of the notebooks before it.
        own_folder: The run's folder: what lies in there was made by those notebooks.
    """
    cells = nbformat.read(path, as_version=4).cells
    sources = [DATA, *(p for p in _named_files(parameters) if not p.is_relative_to(own_folder))]
    return _hash(
        cells=[cell.source for cell in cells if cell.cell_type == "code"],
        library=_library(),
        parameters=parameters,
        files=[_listing(source) for source in sources],
        before=list(before),
        versions=[version("torch"), version("transformers")],
    )


def report_stamp(folder: Path, languages: Sequence[str], engine: str) -> str:
    """Return the stamp of the report made from the run in `folder`."""
    numbers = [folder / "metrics.json", folder / "run.json", *sorted((folder / "tables").glob("*.json"))]
    return _hash(
        numbers=_contents(path for path in numbers if path.exists()),
        figures=[_listing(folder / "fig"), _listing(FIG)],
        text=_contents(path for path in sorted(REPORT.glob("*")) if path.is_file() and path.suffix != ".pdf"),
        library=_library(),
        how=[list(languages), engine, shutil.which("xelatex")],
    )


def _hash(**parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _library() -> list[tuple[str, str]]:
    files = sorted(p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".json"})
    return _contents(files, PACKAGE)


def _contents(paths: Iterable[Path], base: Path | None = None) -> list[tuple[str, str]]:
    """Name and content hash of each file."""
    return [
        (str(path.relative_to(base) if base else path.name), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    ]


def _named_files(parameters: dict[str, Any]) -> list[Path]:
    """Files and folders that the parameters name (a text may list several), and the real data at hand."""
    real_data = os.environ.get("RLHF_HW_REAL_DATA")
    paths = [Path(real_data).expanduser().resolve()] if real_data else []
    for value in parameters.values():
        if isinstance(value, str) and len(value) < 1000:
            paths += [resolve(part.strip()) for part in value.split(",") if part.strip()]
    return [path for path in paths if path.exists()]


def _listing(source: Path) -> list[tuple[str, int, int]]:
    """Name, time and size of a file, or of every file in a folder."""
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    return [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files if p.exists()]
