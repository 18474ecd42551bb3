"""Absolute locations of the project's folders, so that nothing depends on the working directory.

papermill starts a kernel where it was called, nbval in the notebook's folder: relative paths would differ.
"""

from pathlib import Path

LIBRARY = Path(__file__).resolve().parent
ROOT = LIBRARY.parent
NOTEBOOKS = ROOT / "notebooks"
DATA = ROOT / "data"
FIG = ROOT / "fig"
REPORT = ROOT / "report"
RUNS = ROOT / "runs"
PROFILES = LIBRARY / "profiles"


def resolve(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one is looked up below the project's root."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else ROOT / path
