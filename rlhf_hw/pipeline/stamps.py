"""The stamps by which only what is out of date runs.

A stamp is one hash over everything that a result depends on: the notebook's code, its parameters, the
content of the files these name and of what it needs, the library's code that it imports and the versions of
torch and transformers (module `fingerprints`). With a stamp stands what was made under it: if some of that is
gone or changed, the stamp counts no more. What the notebook read of others stands there, too, for the report
(module `consistency`).
"""

import ast
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat

from rlhf_hw.files import version_of, write_json
from rlhf_hw.paths import FIG, REPORT
from rlhf_hw.pipeline import graph
from rlhf_hw.pipeline.fingerprints import code_of, content, hash_of, named_files, packages, syntax
from rlhf_hw.pipeline.graph import KEPT_RESULTS, STAGES, Stage
from rlhf_hw.pipeline.profiles import default_values


def notebook_stamp(
    notebook: Path, parameters: Mapping[str, Any], folder: Path, stages: Mapping[str, Stage] = STAGES
) -> str:
    """Return the stamp of a notebook's result, as its inputs are now.

    Args:
        notebook: The notebook.
        parameters: What is injected into it.
        folder: The run's folder.
        stages: The declaration.
    """
    stage = stages.get(notebook.stem, Stage())
    values = default_values(notebook) | dict(parameters)
    files = {name: _named(value, stage, folder) for name, value in values.items() if name != "run"}
    cells = code_cells(notebook)
    return hash_of(
        cells=[syntax(cell) for cell in cells],
        library=library_of(cells),
        parameters=values,
        files={name: found for name, found in files.items() if found},
        needs={name: content(folder / name) for name in [*stage.needed(values), *stage.uses]},
        versions=packages(),
    )


def code_cells(notebook: Path) -> list[str]:
    """A notebook's code, cell by cell, as Python."""
    return list(_read_cells(notebook, *version_of(notebook)))


@lru_cache(maxsize=256)
def _read_cells(notebook: Path, *_version: int) -> tuple[str, ...]:
    cells = nbformat.read(notebook, as_version=4).cells
    return tuple(_plain(cell.source) for cell in cells if cell.cell_type == "code")


def library_of(cells: Sequence[str]) -> dict[str, Any]:
    """What of the library these cells reach, as `fingerprints.code_of` gives it."""
    return code_of("\n".join(cell for cell in cells if _parses(cell)))


def inputs_of(
    notebook: Path, parameters: Mapping[str, Any], folder: Path, stages: Mapping[str, Stage] = STAGES
) -> dict[str, str]:
    """Hashes of what a notebook reads of others in the run's folder, as it is now, by the artefact's name."""
    stage, values = stages.get(notebook.stem, Stage()), default_values(notebook) | dict(parameters)
    return {name: _hash(folder / name) for name in [*stage.needed(values), *stage.uses]}


def write_stamp(
    executed: Path,
    stamp: str,
    inputs: Mapping[str, str],
    folder: Path,
    stages: Mapping[str, Stage] = STAGES,
) -> None:
    """Note beside an executed notebook under which stamp it ran, and what of the run it read and made."""
    patterns = stages.get(executed.stem, Stage()).files()
    made = sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))
    found = {name: _hash(folder / name) for name in made}
    write_json(_stamp_file(executed), {"stamp": stamp, "read": dict(inputs), "made": found})


def read_stamp(executed: Path) -> dict[str, Any] | None:
    """What was noted beside an executed notebook; None where it did not run to its end, or nothing is noted.

    `stamp`, `made` and, unless an older version wrote it, `read`.
    """
    try:
        note = json.loads(_stamp_file(executed).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):
        return None
    parts = [note.get("made"), note.get("read", {})] if isinstance(note, dict) else [None]
    return note if all(isinstance(part, dict) for part in parts) and executed.exists() else None


def remove_stamp(executed: Path) -> None:
    """Forget how a notebook ran, before it runs again."""
    _stamp_file(executed).unlink(missing_ok=True)


def is_current(executed: Path, stamp: str, folder: Path) -> bool:
    """Whether a notebook ran under this stamp, and all that it made is there as it was made."""
    last = read_stamp(executed)
    if last is None or last.get("stamp") != stamp:
        return False
    return all(_hash(folder / name) == digest for name, digest in last["made"].items())


def report_stamp(folder: Path, languages: Sequence[str], engine: str) -> str:
    """Return the stamp of the report made from the run in `folder`."""
    numbers = ("metrics.json", "run.json", "tables", "fig")
    texts = [path for path in sorted(REPORT.glob("*")) if path.is_file() and path.suffix != ".pdf"]
    return hash_of(
        numbers={name: content(folder / name) for name in numbers},
        figures=content(FIG),
        kept=content(KEPT_RESULTS),
        text={path.name: content(path) for path in texts},
        library=code_of("import rlhf_hw.report.build"),
        declaration=syntax(Path(graph.__file__).read_text(encoding="utf-8")),
        how=[list(languages), engine, shutil.which("xelatex")],
    )


def _hash(path: Path) -> str:
    return hash_of(content=content(path))


def _stamp_file(executed: Path) -> Path:
    return executed.with_suffix(".stamp")


def _named(value: Any, stage: Stage, folder: Path) -> list[Any]:
    """Content of the files that a parameter names, but for those that the notebook makes itself."""
    own = [path for pattern in stage.makes for path in folder.glob(pattern)]
    files = named_files(value) if isinstance(value, str) else []
    return [
        content(path)
        for path in files
        if not folder.is_relative_to(path) and not any(path.is_relative_to(made) for made in own)
    ]


@lru_cache(maxsize=1024)
def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _plain(source: str) -> str:
    """A cell as Python; IPython's own commands (`%matplotlib inline`) become calls."""
    if _parses(source):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return TransformerManager().transform_cell(source)
    except SyntaxError:
        return source
