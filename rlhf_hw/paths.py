"""Absolute locations of the project's folders, so that nothing depends on the working directory.

papermill starts a kernel where it was called, nbval in the notebook's folder: relative paths would differ.
"""

import os
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent
ROOT = LIBRARY.parent
NOTEBOOKS = ROOT / "notebooks"
DATA = ROOT / "data"
FIG = ROOT / "fig"
REPORT = ROOT / "report"
RUNS = ROOT / "runs"
PROFILES = LIBRARY / "profiles"
NOTES = ".rlhf_hw.json"  # in a checkpoint's folder: what runs of ours wrote there
# hub ids whose data may lie in the folder that RLHF_HW_REAL_DATA names, and how it is called there
LOCAL_COPIES = {
    "Anthropic/hh-rlhf": "hh-rlhf",
    "PKU-Alignment/align-anything": "align-anything-t2t",
    "PKU-Alignment/PKU-SafeRLHF": "pku-saferlhf",
}


def resolve(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one is looked up below the project's root."""
    path = Path(os.path.expanduser(path))  # which leaves ~nobody as it is
    return path if path.is_absolute() else ROOT / path


def sources_in(text: str) -> list[str]:
    """The names in a text: the text itself where that is a file or folder, else its parts between commas."""
    if text.strip() and os.path.exists(resolve(text)):
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def is_of_part(source: str, part: str) -> bool:
    """Whether a source is of a part of mixed data: a part is all sources whose names begin so."""
    return Path(source).name.startswith(part)


def from_here(source: str) -> str:
    """Files or folders seen from the caller's folder, as absolute paths; hub ids as they are.

    The library looks relative paths up below the project's root, where a user of the shell need not be.
    """
    path = os.path.expanduser(source)  # which leaves ~nobody as it is
    if source and os.path.exists(path):
        return os.path.realpath(path)
    return ",".join(from_here(part.strip()) for part in source.split(",")) if "," in source else source


def places(source: str | Path) -> list[Path]:
    """The files and folders there are that a text names, from here or below the project's root.

    It may name several, separated by commas.
    """
    parts = dict.fromkeys([str(source), *sources_in(str(source))])
    possible = [place for part in parts if part for place in (Path(part), resolve(part))]
    return [place.resolve() for place in possible if os.path.exists(place)]  # not of names beyond any length


def real_data() -> Path | None:
    """The folder that the environment variable RLHF_HW_REAL_DATA names, if it is set."""
    named = os.environ.get("RLHF_HW_REAL_DATA")
    return Path(named).expanduser().resolve() if named else None


def cache() -> Path:
    """Folder for what is fetched once for all runs: RLHF_HW_CACHE, else the system's place for such."""
    if named := os.environ.get("RLHF_HW_CACHE"):
        return Path(named).expanduser().resolve()
    above = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(above) if os.path.isabs(above) else Path.home() / ".cache") / "rlhf-hw"


def local_copy(source: str) -> Path | None:
    """Where in `real_data` the data of a hub id have to lie; None for what is not looked up there."""
    repository, _, folder = source.partition("//")
    copy, place = LOCAL_COPIES.get(repository.partition(":")[0]), real_data()
    return place / copy / folder if place is not None and copy else None
