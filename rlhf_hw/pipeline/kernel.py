"""One notebook in a kernel of its own, by papermill, and what is said when it fails."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from rlhf_hw.errors import RunFailed
from rlhf_hw.pipeline.profiles import Parameters, literal_path
from rlhf_hw.pipeline.progress import LiveLine

KERNEL_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",  # else a warning for every fork
    "TQDM_MININTERVAL": "1",  # each update of a bar is a message from the kernel
    "TQDM_NCOLS": "80",  # a kernel has no terminal to measure
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the debugger warns about frozen modules
    "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one a person installed elsewhere
}
# Else each kernel prints a warning that its TCP connection is not encrypted.
KERNEL_CONFIG = Config({"KernelManager": {"transport_encryption": "auto"}})


class Ready(Protocol):
    """A kernel that runs already, see `warm.ReadyKernel`."""

    def end(self) -> None: ...


class NotebookFailed(RunFailed):
    """A notebook stopped; the message names notebook, cell, error and the kept file."""


def execute(
    path: Path,
    output: Path,
    parameters: Parameters,
    added: Mapping[str, str],
    manager: Ready | None = None,
) -> None:
    """Run a notebook in a kernel of its own; the executed file is kept also when it fails.

    Args:
        path: The notebook.
        output: The executed file.
        parameters: What to inject.
        added: Variables that the kernel gets besides those of this process.
        manager: A kernel that is already there (`warm.NextKernel`); it is shut down afterwards.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with LiveLine(path.stem) as live, kernel_environment(added):
        try:
            papermill.execute_notebook(
                literal_path(path),
                literal_path(output),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=live.bar_options,
                stderr_file=live,
                config=KERNEL_CONFIG,
                km=manager,
                coalesce_streams=True,  # a progress bar leaves its last state in the file, not every state
            )
        except PapermillExecutionError as error:
            raise NotebookFailed(_failure(path, output, error)) from error
        except (DeadKernelError, CellTimeoutError) as error:
            raise NotebookFailed(_died(path, output, error)) from error
        finally:
            if manager is not None:
                manager.end()
    _check_complete(path, output)


@contextmanager
def kernel_environment(added: Mapping[str, str]) -> Iterator[None]:
    """Give kernels these variables, and the defaults above where the person has set nothing, for a while."""
    defaults = {key: value for key, value in KERNEL_ENVIRONMENT.items() if key not in os.environ}
    before = {key: os.environ.get(key) for key in {**defaults, **added}}
    os.environ.update(defaults | dict(added))
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


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
