"""The report as it should be now: it and its explorer are made again where what they show has changed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_hw.files import write_text
from rlhf_hw.pipeline.consistency import refuse_mixed
from rlhf_hw.pipeline.fingerprints import code_of, content, hash_of
from rlhf_hw.pipeline.stamps import report_stamp
from rlhf_hw.report import TEXTS, explorer
from rlhf_hw.report.build import build_report

EXPLORED = ("scores", "run.json", "reward_model/tokenizer_config.json")  # what the explorer reads of a run


def refresh_report(
    folder: Path,
    languages: Sequence[str],
    engine: str,
    explored: Callable[[Path], Mapping[str, Any] | None],
    force: bool = False,
) -> list[Path] | None:
    """Build the report of a run and the explorer that it links to, unless both are as they should be.

    Args:
        folder: The run's folder.
        languages, engine: As in `build_report`.
        explored: Finds what the explorer shows, or None where the run has no replies.
        force: Also what is up to date.

    Returns:
        The files written; None where there was nothing to do.

    Raises:
        InputError: the run holds results that do not fit together.
    """
    refuse_mixed(folder)
    done = folder / "report" / f"{engine}-{'-'.join(languages)}.stamp"
    stamp = hash_of(
        report=report_stamp(folder, languages, engine),
        explorer=content(explorer.FOLDER),
        replies={name: content(folder / name) for name in EXPLORED},
        code=code_of(f"import {explored.__module__}, {explorer.__name__}"),
    )
    if not force and _is_made(done, stamp):
        return None
    for other in done.parent.glob("*.stamp"):  # they write the same files
        other.unlink()
    page, found = done.parent / explorer.PAGE, explored(folder)
    page.unlink(missing_ok=True)  # the report links to what is there
    pages = [explorer.write_explorer(found, page, languages[0])] if found else []
    written = build_report(folder.name, languages, engine=engine) + pages
    # Where a format could not be made, the next call tries again.
    wanted = {f"{text}.{name}.{kind}" for text in TEXTS for name in languages for kind in ("pdf", "html")}
    if wanted <= {path.name.replace(".typst.", ".") for path in written}:
        write_text(done, "\n".join([stamp, *(path.name for path in written)]))
    return written


def _is_made(done: Path, stamp: str) -> bool:
    """Whether the report was built under this stamp, and every file that was written then is still there."""
    if not done.exists():
        return False
    last, *files = done.read_text(encoding="utf-8").splitlines()
    return last == stamp and bool(files) and all((done.parent / name).exists() for name in files)
