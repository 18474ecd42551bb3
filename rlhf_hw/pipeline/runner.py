"""Runs the notebooks of a profile in order through papermill, and only those that are out of date.

Each executed notebook in `runs/<profile>/notebooks/` has a stamp beside it (module `stamps`). The same stamp
again means nothing to do.

    run_profile(load_profile("nano"))               # what `rlhf-hw run --profile nano` does
    run_notebook(NOTEBOOKS / "00_base_model.ipynb", run="smoke")
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.files import write_json
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.graph import notebook_stamp
from rlhf_hw.pipeline.machine import describe_machine, git_commit, installed_versions
from rlhf_hw.pipeline.profiles import (
    Parameters,
    Profile,
    declared_parameters,
    literal_path,
    notebook_name,
    resolve_parameters,
)
from rlhf_hw.pipeline.progress import LiveLine, logger
from rlhf_hw.pipeline.run_folder import MAKERS, Run

KERNEL_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",  # else a warning for every fork
    "TQDM_MININTERVAL": "1",  # each update of a bar is a message from the kernel
    "TQDM_NCOLS": "80",  # a kernel has no terminal to measure
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the debugger warns about frozen modules
    "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one a person installed elsewhere
}
# Else each kernel prints a warning that its TCP connection is not encrypted.
KERNEL_CONFIG = Config({"KernelManager": {"transport_encryption": "auto"}})


class NotebookFailed(RunFailed):
    """A notebook stopped; the message names notebook, cell, error and the kept file."""


def run_profile(
    profile: Profile,
    only: Sequence[str] = (),
    start_from: str | None = None,
    force: bool = False,
    notebooks: Path = NOTEBOOKS,
) -> list[str]:
    """Run the profile's notebooks in number order and write the run record.

    Args:
        profile: The profile, with overrides already applied.
        only: Run these notebooks alone, by number ("02") or name.
        start_from: Run this notebook and those after it.
        force: Run also what is up to date.
        notebooks: Folder with the notebooks.

    Returns:
        Stems of the notebooks that ran.

    Raises:
        ValueError: an unknown parameter, notebook or type in the profile.
        FileNotFoundError: the folder holds no notebooks.
        NotebookFailed: a notebook stopped with an error.
    """
    paths = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    selected = _select(paths, only, start_from)
    parameters = resolve_parameters(profile, paths)
    if not paths:
        raise FileNotFoundError(f"no notebooks in {notebooks}: install from a checkout (pip install -e .)")
    run = Run(profile.name)
    record = _read_record(run)
    record |= {"profile": profile.model_dump(), "parameters": parameters}
    write_json(run / "run.json", record)
    ran, stamps = [], []
    for path in paths:
        stamp = notebook_stamp(path, parameters[path.stem], stamps, run.path)
        if path in selected and (force or not _up_to_date(run, path, stamp)):
            started = time.perf_counter()
            run_notebook(path, run.name, parameters[path.stem])
            seconds = time.perf_counter() - started
            _stamp_file(run, path).write_text(stamp, encoding="utf-8")
            record.setdefault("seconds", {})[path.stem] = round(seconds, 1)
            write_json(run / "run.json", record)
            ran.append(path.stem)
            logger.info("%s  done in %.0f s", path.stem, seconds)
        elif path in selected:
            logger.info("%s  up to date", path.stem)
        # What comes after depends on what this notebook last wrote, not on what it would write now.
        stamps.append(_read_stamp(run, path))
    if ran or "commit" not in record:
        _finish_record(run, record)
    return ran


def run_notebook(path: Path, run: str, parameters: Parameters | None = None) -> Path:
    """Run one notebook into `runs/<run>/notebooks/`; the executed file is kept also when it fails.

    Args:
        path: The notebook.
        run: Name of the run.
        parameters: What to inject; if empty, what the run's record holds for it, else its own defaults.

    Returns:
        Path of the executed notebook.

    Raises:
        NotebookFailed: a cell raised an error, ended the notebook early, or the kernel died.
    """
    folder = Run(run)
    parameters = dict(parameters or _read_record(folder).get("parameters", {}).get(path.stem, {}))
    if "run" in declared_parameters(path):
        parameters["run"] = run
    output = _executed(folder, path)
    output.parent.mkdir(parents=True, exist_ok=True)
    _stamp_file(folder, path).unlink(missing_ok=True)
    with LiveLine(path.stem) as live, _kernel_environment():
        try:
            papermill.execute_notebook(
                literal_path(path),
                literal_path(output),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=live.bar_options,
                stderr_file=live,
                config=KERNEL_CONFIG,
                coalesce_streams=True,  # a progress bar leaves its last state in the file, not every state
            )
        except PapermillExecutionError as error:
            raise NotebookFailed(_failure(path, output, error)) from error
        except (DeadKernelError, CellTimeoutError) as error:
            raise NotebookFailed(_died(path, output, error)) from error
    _check_complete(path, output)
    return output


def open_run(name: str) -> Run:
    """The folder of a run, for a notebook: what is missing is made by its own notebook."""
    return Run(name, make=lambda artefact, run: run_notebook(NOTEBOOKS / f"{MAKERS[artefact]}.ipynb", run))


def _select(paths: Sequence[Path], only: Sequence[str], start_from: str | None) -> list[Path]:
    chosen = [_find(paths, name) for name in only] or list(paths)
    if start_from is None:
        return chosen
    return [path for path in chosen if path.stem >= _find(paths, start_from).stem]


def _find(paths: Sequence[Path], name: str) -> Path:
    for path in paths:
        if name in {path.stem, notebook_name(path), path.stem.split("_")[0]}:
            return path
    raise InputError(f"there is no notebook {name!r}: choose from {', '.join(path.stem for path in paths)}")


def _executed(run: Run, path: Path) -> Path:
    return run.path / "notebooks" / path.name


def _stamp_file(run: Run, path: Path) -> Path:
    return _executed(run, path).with_suffix(".stamp")


def _read_stamp(run: Run, path: Path) -> str:
    file = _stamp_file(run, path)
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _up_to_date(run: Run, path: Path, stamp: str) -> bool:
    return _executed(run, path).exists() and _read_stamp(run, path) == stamp


def _read_record(run: Run) -> dict[str, Any]:
    file = run / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _finish_record(run: Run, record: dict[str, Any]) -> None:
    """Add machine, versions and commit to the run record, and the same numbers to the run's metrics."""
    machine, versions = describe_machine(), installed_versions()
    seconds = record.get("seconds", {})
    record |= {"commit": git_commit(), "versions": versions, **machine}
    write_json(run / "run.json", record)
    run.record(
        "run",
        {f"run.{key}": value for key, value in machine.items()}
        | {f"run.seconds_{stem.split('_')[0]}": value for stem, value in seconds.items()}
        | {
            "run.seconds": round(sum(seconds.values()), 1),
            "run.profile": run.name,
            "run.commit": record["commit"],
            "run.python": versions["python"],
            "run.torch": versions["torch"],
        },
    )


@contextmanager
def _kernel_environment() -> Iterator[None]:
    """Give kernels the defaults above where the person has set nothing; take them back afterwards."""
    added = {key: value for key, value in KERNEL_ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def _failure(path: Path, output: Path, error: PapermillExecutionError) -> str:
    message = error.evalue.strip() or "(no message)"
    return _report(path, output, f"cell [{error.exec_count}]", error.source, f"{error.ename}: {message}")


def _died(path: Path, output: Path, error: Exception) -> str:
    """The kernel is gone: papermill's own record says which cell was running."""
    cells = [c for c in nbformat.read(output, as_version=4).cells if c.cell_type == "code"]
    number = max(i for i, cell in enumerate(cells) if cell.metadata.papermill.status != "pending")
    what = f"{type(error).__name__}: {error} (the kernel process ended; too little memory is a common cause)"
    return _report(path, output, f"code cell {number + 1}", cells[number].source, what)


def _check_complete(path: Path, output: Path) -> None:
    """Raise where a cell ended the notebook early, which papermill takes for success."""
    for cell in nbformat.read(output, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise NotebookFailed(
                _report(path, output, "the cell", cell.source, "was never reached (sys.exit before it?)")
            )


def _report(path: Path, output: Path, where: str, source: str, what: str) -> str:
    lines = source.strip().splitlines()
    head = "\n".join(f"    {line}" for line in lines[:6] + ["..."] * (len(lines) > 6))
    return f"{path.name} failed in {where}:\n{head}\n  {what}\n  kept as {output}"
