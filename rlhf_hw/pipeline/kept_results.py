"""What experiments found, kept in the repository for the reports of runs that left them out.

An experiment (`Stage.experiment`) runs only where asked for. What it found in a run of a profile in
full size (module `sizes`) is copied by `rlhf-hw keep`: its numbers and tables to `data/kept/<notebook>/`, its
figures to `fig/`, where all others are. Beside them `record.json` says who made them (profile, commit,
machine) and what they rest on, part by part as hashes: code cells and parameters of the notebook and of those
that made what it read, the library behind them, data, versions. So a test can tell what has changed since.

    keep_results("nano")                             # what `rlhf-hw keep` does
    kept_results("nano")["plural_preferences"]       # for the report
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_hw import paths
from rlhf_hw.errors import InputError
from rlhf_hw.files import digest, read_json, write_json
from rlhf_hw.paths import NOTEBOOKS, real_data
from rlhf_hw.pipeline.fingerprints import content, hash_of, named_files, packages, place_name, syntax
from rlhf_hw.pipeline.graph import KEPT_RESULTS, STAGES, Stage, maker_of
from rlhf_hw.pipeline.machine import git_commit
from rlhf_hw.pipeline.profiles import (
    Parameters,
    available_profiles,
    default_values,
    load_profile,
    notebook_name,
    numbered_notebooks,
    resolve_parameters,
)
from rlhf_hw.pipeline.record import read_record
from rlhf_hw.pipeline.run_folder import Run
from rlhf_hw.pipeline.sizes import full_sizes
from rlhf_hw.pipeline.stamps import code_cells, is_current, library_of, notebook_stamp

HASH_LENGTH = 12  # of a part's hash in the record: enough to see a change
MACHINE = ("processor", "threads", "dtype")


@dataclass(frozen=True)
class KeptResult:
    """What was kept of one experiment.

    Attributes:
        stem: Its notebook, "10_plural_preferences".
        record: Who made it: `profile`, `commit`, `processor`, `threads`, `dtype`; `files`, the hash of each
            below the project's root; `rests_on`, a hash for each part.
        metrics: Its numbers by dotted key.
        tables: Rows by the table's name.
        figures: The English PDFs by the figure's name; other forms and languages beside them.
    """

    stem: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    tables: Mapping[str, list[dict]]
    figures: Mapping[str, Path]


def keep_results(
    profile: str,
    only: Sequence[str] = (),
    notebooks: Path = NOTEBOOKS,
    stages: Mapping[str, Stage] = STAGES,
) -> list[str]:
    """Copy into the repository what experiments found in the finished run of a profile.

    Args:
        profile: Name of a profile that comes with the package.
        only: Keep these alone, by number or name; else all that have left something in the run.
        notebooks: Folder with the notebooks.
        stages: What they need and make.

    Returns:
        Stems of what was kept.

    Raises:
        InputError: a profile of one's own, no such experiment, or results that are not those of the code,
            data and settings of a full run as they are now; nothing is copied then.
    """
    if profile not in available_profiles():
        raise InputError(
            f"profile {profile!r}: only what a profile of the package found is kept, so that anyone can run "
            f"it again; choose from {', '.join(available_profiles())}"
        )
    parameters, run = _parameters(profile, notebooks), Run(profile)
    chosen = [stem for stem in _experiments(stages) if _is_named(stem, only) or not only]
    if only and len(chosen) < len(only):
        raise InputError(
            f"keep {', '.join(only)}: experiments are {', '.join(_experiments(stages))}; name of these"
        )
    chosen = [stem for stem in chosen if only or any(made_for_report(stages[stem], run.path))]
    for stem in chosen:
        old = [
            name
            for name in upstream(stem, parameters, stages)
            if not stage_is_current(run.path, notebooks / f"{name}.ipynb", parameters[name], stages)
        ]
        if old:
            raise InputError(
                f"{run.path}: {stem} cannot be kept, for {', '.join(old)} did not run with the code, data "
                f"and settings of a full run as they are now; first `rlhf-hw run --profile {profile} "
                "--experiments full`"
            )
        if not any(made_for_report(stages[stem], run.path)):  # what was kept would go, and nothing come
            raise InputError(f"{run.path}: {stem} found no data here, so it left nothing that could be kept")
    for stem in chosen:
        _copy(stem, profile, run, stages[stem], rests_on(stem, parameters, notebooks, stages))
    return chosen


def kept_results(profile: str, stages: Mapping[str, Stage] = STAGES) -> dict[str, KeptResult]:
    """What was kept of the runs of a profile, by the notebook's name without its number.

    Raises:
        InputError: a file of it is missing or no JSON.
    """
    found = {}
    for stem in _experiments(stages):
        folder = KEPT_RESULTS / stem
        if not folder.is_dir() or not any(folder.iterdir()):
            continue
        record = _read_kept(folder / "record.json")
        if record["profile"] == profile:
            tables = {path.stem: _read(path) for path in sorted((folder / "tables").glob("*.json"))}
            figures = {
                name: paths.FIG / f"{name}.pdf"
                for name in stages[stem].figures
                if f"fig/{name}.pdf" in record["files"]
            }
            numbers = _read(folder / "metrics.json")
            found[experiment_name(stem)] = KeptResult(stem, record, numbers, tables, figures)
    return found


def experiment_name(stem: str) -> str:
    """What reports call an experiment: its notebook's name without the number."""
    return notebook_name(Path(stem))


def own_experiments(folder: Path) -> list[str]:
    """Stems of the experiments of which a run had results, up to date, when it last ran."""
    return list(read_record(folder).get("experiments", ()))


def reduced_experiments(folder: Path) -> list[str]:
    """Stems of those that were up to date in a smaller size than that of a full run."""
    return list(read_record(folder).get("reduced", ()))


def left_out(folder: Path, stages: Mapping[str, Stage] = STAGES) -> dict[str, list[Path]]:
    """Files in a run's folder that its report must not show: of experiments not up to date there, by stem."""
    own = own_experiments(folder)
    found = {s: list(made_for_report(stages[s], folder)) for s in _experiments(stages) if s not in own}
    return {stem: files for stem, files in found.items() if files}


def upstream(stem: str, parameters: Mapping[str, Parameters], stages: Mapping[str, Stage]) -> list[str]:
    """A notebook and all those that make what it, or one of them, needs or uses; in the graph's order."""
    found = {stem}
    for name in reversed(list(stages)):  # makers come before those who need them
        if name in found:
            read = [*stages[name].needed(parameters.get(name, {})), *stages[name].uses]
            found |= {maker_of(artefact, stages) for artefact in read}
    return [name for name in stages if name in found]


def stage_is_current(
    folder: Path, notebook: Path, parameters: Parameters, stages: Mapping[str, Stage]
) -> bool:
    """Whether a notebook's result in a run's folder is that of code, data and settings as they are now."""
    executed = folder / "notebooks" / notebook.name
    return is_current(executed, notebook_stamp(notebook, parameters, folder, stages), folder)


def rests_on(
    stem: str,
    parameters: Mapping[str, Parameters],
    notebooks: Path = NOTEBOOKS,
    stages: Mapping[str, Stage] = STAGES,
) -> dict[str, str]:
    """Everything that an experiment's results depend on, without any run: a part's name -> its hash.

    Args:
        stem: The experiment's notebook.
        parameters: Of each notebook, as the profile gives them.
        notebooks: Folder with the notebooks.
        stages: What they need and make.
    """
    found: dict[str, Any] = dict(zip(("torch", "transformers"), packages(), strict=True))
    for name in upstream(stem, parameters, stages):
        notebook = notebooks / f"{name}.ipynb"
        cells, values = code_cells(notebook), default_values(notebook) | parameters.get(name, {})
        found[f"code of {name}"] = [syntax(cell) for cell in cells]
        found[f"parameters of {name}"] = values
        found |= library_of(cells) | dict(_data(values))
    return {name: hash_of(part=part)[:HASH_LENGTH] for name, part in sorted(found.items())}


def changed_since(
    result: KeptResult, notebooks: Path = NOTEBOOKS, stages: Mapping[str, Stage] = STAGES
) -> list[str]:
    """Names of what kept results rest on that is another now, has come or is gone; [] if all is the same.

    Files outside the project count only where the folder of real data is there.
    """
    now = rests_on(result.stem, _parameters(result.record["profile"], notebooks), notebooks, stages)
    then = result.record["rests_on"]
    names = [name for name in sorted(now.keys() | then.keys()) if now.get(name) != then.get(name)]
    return [name for name in names if real_data() is not None or not name.startswith("$")]


def damaged_files(result: KeptResult) -> list[str]:
    """Files of kept results, below the project's root, that are gone or not what was kept."""
    files = {name: paths.ROOT / name for name in result.record["files"]}
    return [n for n, path in files.items() if not path.is_file() or digest(path) != result.record["files"][n]]


def _experiments(stages: Mapping[str, Stage]) -> list[str]:
    return [stem for stem, stage in stages.items() if stage.experiment]


def _is_named(stem: str, only: Sequence[str]) -> bool:
    return bool({stem, experiment_name(stem), stem.split("_")[0]} & set(only))


def _parameters(profile: str, notebooks: Path) -> dict[str, Parameters]:
    """Of each notebook in a full run."""
    return resolve_parameters(full_sizes(load_profile(profile)), numbered_notebooks(notebooks))


def made_for_report(stage: Stage, folder: Path) -> Iterator[Path]:
    """What a report can show of a stage: files with its numbers, its tables, its figures."""
    patterns = [name for name in stage.files() if name.startswith(("metrics/", "tables/", "fig/"))]
    return (path for pattern in patterns for path in sorted(folder.glob(pattern)))


def _copy(stem: str, profile: str, run: Run, stage: Stage, rests: Mapping[str, str]) -> None:
    """Put what was found in the place of what was kept before, and the record after all of it."""
    folder = KEPT_RESULTS / stem
    before: Mapping[str, str] = {}
    with suppress(InputError):  # of a record that is missing or torn nothing is known
        before = _read_kept(folder / "record.json")["files"]
    for name in before:
        (paths.ROOT / name).unlink(missing_ok=True)
    copies = []
    for source in made_for_report(stage, run.path):
        kind, *rest = source.relative_to(run.path).parts
        target = {"metrics": folder / "metrics.json", "tables": folder / "tables" / source.name}.get(
            kind, paths.FIG.joinpath(*rest)
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        copies.append(target)
    record = read_record(run.path)
    made = {"profile": profile, "commit": git_commit(apart=("data/kept", "fig"))}
    made |= {name: record[name] for name in MACHINE}
    files = {str(path.relative_to(paths.ROOT)): digest(path) for path in sorted(copies)}
    write_json(folder / "record.json", made | {"files": files, "rests_on": dict(rests)})


def _data(values: Parameters) -> Iterator[tuple[str, Any]]:
    """Name and hash of every file that a notebook's parameters name."""
    for value in values.values():
        for path in named_files(value) if isinstance(value, str) else []:
            found = content(path)
            if not isinstance(found, dict):
                yield place_name(path), found
            else:
                yield from ((place_name(path / name), part) for name, part in found.items())


def _read_kept(path: Path) -> dict[str, Any]:
    """The record of what was kept of an experiment.

    Raises:
        InputError: it is missing, torn, or lacks what `keep_results` writes there.
    """
    record = _read(path)
    forms = {"profile": str, "commit": str, "files": dict, "processor": str, "threads": int, "dtype": str}
    if wrong := [key for key, form in forms.items() if not isinstance(record.get(key), form)]:
        raise InputError(f"{path}: key {wrong[0]!r} does not hold what is kept there: {_remedy(path)}")
    return record


def _remedy(path: Path) -> str:
    return "take it from git, or keep again" if path.is_relative_to(KEPT_RESULTS) else "run again"


def _read(path: Path) -> Any:
    try:
        return read_json(path, list if path.parent.name == "tables" else dict, _remedy(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {_remedy(path)}") from None
