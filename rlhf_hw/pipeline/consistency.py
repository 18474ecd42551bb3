"""Whether what the notebooks of a run left there belongs together: a report is made of nothing else.

A run that was killed, or one of whose notebooks ran alone with other settings, holds results of two states.
The runner sees that, and repeats what is out of date; a report must not be made before it has. What a
notebook no longer writes goes.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.files import version_of
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.fingerprints import content, hash_of
from rlhf_hw.pipeline.graph import STAGES, Stage
from rlhf_hw.pipeline.kept_results import own_experiments
from rlhf_hw.pipeline.profiles import Parameters, default_values, numbered_notebooks, resolve_parameters
from rlhf_hw.pipeline.record import read_record, recorded_profile
from rlhf_hw.pipeline.sizes import full_sizes
from rlhf_hw.pipeline.stamps import read_stamp

SHOWN = ("metrics/", "tables/")  # of what a notebook makes, what a report takes its numbers from
FEW = 3  # names in a message


def refuse_mixed(folder: Path, notebooks: Path = NOTEBOOKS, stages: Mapping[str, Stage] = STAGES) -> None:
    """Hold the results in a run's folder to be those of one run.

    Every notebook has to have ended there, with the parameters that the run's profile gives it, on what the
    others have made, and what it wrote has to be there. Experiments that the run left out do not count. Of
    a folder without executed notebooks, numbers copied from elsewhere, nothing is known and nothing asked.

    Args:
        folder: The run's folder.
        notebooks: Folder with the notebooks.
        stages: What they need and make.

    Raises:
        InputError: they are not; it names the notebooks and says of each what does not fit.
    """
    if not (folder / "notebooks").is_dir():
        return
    own = own_experiments(folder)
    counted = [stem for stem, stage in stages.items() if not stage.experiment or stem in own]
    notes = {stem: read_stamp(folder / "notebooks" / f"{stem}.ipynb") for stem in counted}
    made = {name: digest for note in notes.values() if note for name, digest in note["made"].items()}
    found = [*_of_other_files(folder, notes, made), *_of_other_parameters(folder, notebooks, counted)]
    if found:
        raise InputError(
            f"{folder}: no report is made of results that do not fit together: {'; '.join(found)}. Run the "
            "profile again, `rlhf-hw run` with its --profile and --set: it repeats what is out of date"
        )


def shown_files(folder: Path) -> dict[Path, tuple[int, ...]]:
    """What a run's folder has for its report, each file with what changes when it is written anew."""
    found = (path for kind in ("metrics", "tables", "fig") for path in (folder / kind).rglob("*"))
    return {path: version_of(path) for path in found if path.is_file()}


def remove_unwritten(before: Mapping[Path, tuple[int, ...]], stage: Stage, folder: Path) -> None:
    """Remove what a notebook showed in an earlier run and has not written now: nobody would know it as old.

    Args:
        before: What was there when the notebook began, as `shown_files` gives it.
        stage: What the notebook can make.
        folder: The run's folder.
    """
    own = {path for pattern in stage.files() for path in folder.glob(pattern)}
    for path in own & before.keys():
        if version_of(path) == before[path]:
            path.unlink()


def _of_other_files(
    folder: Path, notes: Mapping[str, Mapping | None], made: Mapping[str, str]
) -> Iterator[str]:
    """Say which notebooks did not end, read what is another now, or wrote what is another now."""
    for stem, note in notes.items():
        if note is None:
            yield f"{stem} did not run there to its end"
            continue
        # what its maker last wrote is not hashed again: models may be large
        read = {name: digest for name, digest in note.get("read", {}).items() if made.get(name) != digest}
        wrote = {name: digest for name, digest in note["made"].items() if name.startswith(SHOWN)}
        for verb, files in (("read", read), ("wrote", wrote)):
            if changed := [name for name in files if hash_of(content=content(folder / name)) != files[name]]:
                yield f"{stem} {verb} another {', '.join(changed[:FEW])} than is there now"


def _of_other_parameters(folder: Path, notebooks: Path, counted: Collection[str]) -> Iterator[str]:
    """Say which notebooks ran with other parameters than the run's profile, as it last ran, gives them.

    Experiments may have either of their two sizes.
    """
    profile, recorded = recorded_profile(folder), read_record(folder).get("parameters", {})
    if profile is None:
        return
    paths = numbered_notebooks(notebooks)
    try:
        sizes = [resolve_parameters(one, paths) for one in (profile, full_sizes(profile))]
    except InputError:  # notebooks declare other names since then
        return
    for path in (path for path in paths if path.stem in recorded and path.stem in counted):
        ran = default_values(path) | recorded[path.stem]
        told = [_others(ran, default_values(path) | given[path.stem]) for given in sizes]
        if all(told):
            yield f"{path.stem} ran with {', '.join(told[0][:FEW])}"


def _others(ran: Parameters, asked: Parameters) -> list[str]:
    names = (name for name in sorted(ran.keys() & asked.keys()) if ran[name] != asked[name])
    return [f"{name}={ran[name]!r}, not {asked[name]!r}" for name in names]
