"""Runs the notebooks of a profile in number order through papermill, and only those that are out of date.

Each waits for what it needs and for nothing else (module `graph`). Beside an executed notebook in
`runs/<profile>/notebooks/` lies its stamp; the same stamp again means nothing to do. `run.json` holds for
each notebook the parameters it last ran with and how long that took.

    run_profile(load_profile("nano"))               # what `rlhf-hw run --profile nano` does
    run_notebook(NOTEBOOKS / "00_base_model.ipynb", run="smoke")
"""

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline import kernel
from rlhf_hw.pipeline.consistency import remove_unwritten, shown_files
from rlhf_hw.pipeline.graph import STAGES, Stage, maker_of, missing
from rlhf_hw.pipeline.kept_results import made_for_report, stage_is_current
from rlhf_hw.pipeline.machine import describe_machine, git_commit, installed_versions
from rlhf_hw.pipeline.profiles import (
    Parameters,
    Profile,
    declared_parameters,
    notebook_name,
    numbered_notebooks,
    refuse_other_types,
    resolve_parameters,
)
from rlhf_hw.pipeline.progress import logger
from rlhf_hw.pipeline.record import note_in_record, read_record, recorded_profile, was_last_run
from rlhf_hw.pipeline.run_folder import MAKE_AGAIN, Recordable, Run, read_back_metric
from rlhf_hw.pipeline.sizes import DEFAULT, FULL, parameters_by_size
from rlhf_hw.pipeline.stamps import inputs_of, notebook_stamp, remove_stamp, write_stamp
from rlhf_hw.pipeline.warm import NextKernel, ReadyKernel


def run_profile(
    profile: Profile,
    only: Sequence[str] = (),
    start_from: str | None = None,
    force: bool = False,
    experiments: bool = False,
    size: str = DEFAULT,
    notebooks: Path = NOTEBOOKS,
    stages: Mapping[str, Stage] = STAGES,
    dtype: Callable[[], str] = lambda: "unknown",
    prepare: Callable[[Parameters], None] = lambda parameters: None,
    check: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run what is out of date of the profile's notebooks, in number order; return the stems of what ran.

    Args:
        profile: The profile, with overrides already applied.
        only: Run these notebooks alone, by number ("02") or name, and before them what makes what they lack.
        start_from: Run this notebook and those after it.
        force: Run also what is up to date, and make again what it would read back.
        experiments, size: Run the experiments, too, in one of `sizes.SIZES`; those of `only` in any case.
        notebooks, stages: Folder with the notebooks; what they need and make.
        prepare: Called with the parameters of each notebook that is due: fetches what they name.
        check: Refuses values before anything is written; not asked twice of a profile with nothing to do.
        dtype: Tells the number format in which models compute here; asked once something ran.

    Raises:
        ValueError, FileNotFoundError: an unknown parameter, notebook or type in the profile; no notebooks.
        NotebookFailed: a notebook stopped with an error.
    """
    paths = _in_order(notebooks)
    plain = [path for path in paths if experiments or not stages.get(path.stem, Stage()).experiment]
    selected = _select(paths, only, start_from, plain)
    by_size = parameters_by_size(profile, paths, stages)
    parameters, run = by_size[size], Run(profile.name)
    if not (checked := was_last_run(run.path, profile)):
        check()
    makers = _makers(paths, selected, parameters, run, stages)
    queue = [path for path in paths if path in selected or path.stem in makers]

    def is_due(path: Path) -> bool:
        asked_for = path.stem in makers or (force and path in selected)
        return asked_for or not stage_is_current(run.path, path, parameters[path.stem], stages)

    def execute(path: Path, kernel: ReadyKernel | None) -> None:
        if path not in due:  # until another had run
            prepare(parameters[path.stem])
        run_notebook(path, run.name, parameters[path.stem], stages, force and path in selected, kernel)

    due = [path for path in queue if is_due(path)]  # as it looks now; what runs may add to it
    if due and checked:
        check()
    for path in due:
        prepare(parameters[path.stem])
    note_in_record(run.path, profile=profile.model_dump(), experiments=[], reduced=[])  # till all has run
    ran = _run_queue(queue, due, is_due, execute, {path: force and path in selected for path in queue})
    out_of_date = _note_experiments(run, paths, by_size, stages)
    if ran or "commit" not in read_record(run.path):
        _finish_record(run, dtype(), out_of_date)
    return ran


def _run_queue(
    queue: Sequence[Path],
    due: Sequence[Path],
    is_due: Callable[[Path], bool],
    execute: Callable[[Path, ReadyKernel | None], None],
    forced: Mapping[Path, bool],
) -> list[str]:
    """Execute what is due, while the kernel of what comes next loads; return the stems of what ran."""
    ran, later = [], list(due)
    with NextKernel() as following:
        for path in queue:
            later = [other for other in later if other > path]
            if not is_due(path):
                logger.info("%s  up to date", path.stem)
                continue
            kernel = following.take(path)
            if later:
                following.prepare(later[0], _environment(forced[later[0]]))
            execute(path, kernel)
            ran.append(path.stem)
    return ran


def run_notebook(
    path: Path,
    run: str,
    parameters: Parameters | None = None,
    stages: Mapping[str, Stage] = STAGES,
    force: bool = False,
    manager: ReadyKernel | None = None,
) -> Path:
    """Run one notebook into `runs/<run>/notebooks/`, give it its stamp and note it in the run record.

    Args:
        path: The notebook.
        run: Name of the run.
        parameters: What to inject; if None, what the run's record holds for it, else its own defaults.
        stages: What the notebooks need and make.
        force: Make again what it would read back.
        manager: A kernel that is already there, see `warm.NextKernel`.

    Returns:
        Path of the executed notebook; it is kept also when it fails.

    Raises:
        NotebookFailed: a cell raised an error, ended the notebook early, or the kernel died.
    """
    folder = Run(run)
    parameters = dict(_recorded_parameters(folder, path) if parameters is None else parameters)
    if "run" in declared_parameters(path):
        parameters["run"] = run
    output = _executed(folder, path)
    remove_stamp(output)
    # of the inputs as they are before it runs: what changes meanwhile is seen the next time
    stamp = notebook_stamp(path, parameters, folder.path, stages)
    inputs = inputs_of(path, parameters, folder.path, stages)
    before, started = shown_files(folder.path), time.perf_counter()
    kernel.execute(path, output, parameters, _environment(force), manager)
    seconds = time.perf_counter() - started
    remove_unwritten(before, stages.get(path.stem, Stage()), folder.path)
    note_in_record(folder.path, parameters={path.stem: parameters}, seconds={path.stem: round(seconds, 1)})
    write_stamp(output, stamp, inputs, folder.path, stages)  # last: with it the notebook is done
    logger.info("%s  done in %.0f s", path.stem, seconds)
    return output


def open_run(name: str) -> Run:
    """The folder of a run, for a notebook: what is missing is made by its own notebook (`Run.need`).

    Raises:
        ValueError: the notebook was given a parameter of another type than it declares.
    """
    refuse_other_types(vars(sys.modules["__main__"]))
    return NotebookRun(
        name, lambda artefact, run: run_notebook(NOTEBOOKS / f"{maker_of(artefact)}.ipynb", run)
    )


class NotebookRun(Run):
    """The folder of a run for a notebook: of what it showed before and shows no more nothing stays."""

    def __init__(self, name: str, make: Callable[[str, str], object]):
        super().__init__(name, make)
        self.before = shown_files(self.path)

    def record(self, stage: str, found: Mapping[str, Any] | Recordable) -> None:
        super().record(stage, found)
        own = (declared for stem, declared in STAGES.items() if stem.split("_")[0] == stage)
        remove_unwritten(self.before, next(own, Stage()), self.path)


def _environment(force: bool) -> dict[str, str]:
    """Variables for the kernel of a notebook."""
    return {MAKE_AGAIN: "1"} if force else {}


def _in_order(notebooks: Path) -> list[Path]:
    paths = numbered_notebooks(notebooks)
    if not paths:
        raise FileNotFoundError(f"no notebooks in {notebooks}: install from a checkout (pip install -e .)")
    return paths


def _makers(
    paths: Sequence[Path],
    selected: Sequence[Path],
    parameters: Mapping[str, Parameters],
    run: Run,
    stages: Mapping[str, Stage],
) -> set[str]:
    """Stems of the notebooks that have to make what those selected, or such makers, need and is missing."""
    found: set[str] = set()
    for path in reversed(paths):  # makers come before those who need them
        if path in selected or path.stem in found:
            lacking = missing(path, parameters[path.stem], run.path, stages)
            found |= {maker_of(name, stages) for name in lacking}
    return found


def _select(
    paths: Sequence[Path], only: Sequence[str], start_from: str | None, plain: Sequence[Path]
) -> list[Path]:
    """The notebooks to run: those named, else all `plain` ones; of these `start_from` and what follows it."""
    chosen = [_find(paths, name) for name in only] or list(plain)
    if start_from is None:
        return chosen
    left = [path for path in chosen if path.stem >= _find(paths, start_from).stem]
    if not left:
        told = ", ".join(path.stem for path in chosen)
        raise InputError(
            f"--from {start_from}: none of those that would run comes then ({told}); name one of these"
        )
    return left


def _find(paths: Sequence[Path], name: str) -> Path:
    for path in paths:
        if name in {path.stem, notebook_name(path), path.stem.split("_")[0]}:
            return path
    raise InputError(f"there is no notebook {name!r}: choose from {', '.join(path.stem for path in paths)}")


def _executed(run: Run, path: Path) -> Path:
    return run.path / "notebooks" / path.name


def _recorded_parameters(run: Run, path: Path) -> Parameters:
    """What a notebook last ran with here, else what the profile that was last run here says, else nothing."""
    ran_with = read_record(run.path).get("parameters", {})
    if path.stem in ran_with:
        return ran_with[path.stem]
    profile = recorded_profile(run.path)
    return resolve_parameters(profile, _in_order(path.parent))[path.stem] if profile else {}


def _note_experiments(
    run: Run,
    paths: Sequence[Path],
    by_size: Mapping[str, Mapping[str, Parameters]],
    stages: Mapping[str, Stage],
) -> set[str]:
    """Note of which experiments this run has results, up to date, for its report; return the outdated ones.

    One that found no data here and told what was kept has none: the report shows, and marks, what was kept.
    """
    here = [p for p in paths if stages.get(p.stem, Stage()).experiment and _executed(run, p).exists()]
    current = {
        size: [p.stem for p in here if stage_is_current(run.path, p, given[p.stem], stages)]
        for size, given in by_size.items()
    }
    either = [p.stem for p in here if any(p.stem in stems for stems in current.values())]
    own = [stem for stem in either if any(made_for_report(stages[stem], run.path))]
    reduced = [stem for stem in own if stem not in current[FULL]]
    note_in_record(run.path, experiments=own, reduced=reduced)
    out_of_date = {path.stem for path in here} - set(either)
    for stem in sorted(out_of_date):
        logger.info("%s  an experiment, out of date: `rlhf-hw run --experiments` runs it again", stem)
    return out_of_date


def _finish_record(run: Run, dtype: str, without: Collection[str]) -> None:
    """Add machine, versions and commit to the run record, and the same numbers to the run's metrics."""
    machine, versions, commit = describe_machine(dtype), installed_versions(), git_commit()
    note_in_record(run.path, commit=commit, versions=versions, **machine)
    seconds = {stem: s for stem, s in read_record(run.path).get("seconds", {}).items() if stem not in without}
    run.record(
        "run",
        {f"run.{key}": value for key, value in machine.items()}
        | {f"run.seconds_{stem.split('_')[0]}": value for stem, value in seconds.items()}
        | {
            "run.seconds": round(sum(seconds.values()), 1),
            **read_back_metric(run.path),
            "run.profile": run.name,
            "run.commit": commit,
            "run.python": versions["python"],
            "run.torch": versions["torch"],
        },
    )
