"""A kernel that loads a notebook's libraries while the notebook before it still runs.

Starting Python, torch and transformers takes some seconds for every notebook, and most of them on one core
while another is free.

    with NextKernel() as following:
        following.prepare(next_path, environment)
        kernel.execute(path, ..., manager=...)
        kernel.execute(next_path, ..., manager=following.take(next_path))
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import nbformat
from jupyter_client.manager import KernelManager

from rlhf_hw.imports import imported, modules
from rlhf_hw.pipeline.kernel import KERNEL_CONFIG, kernel_environment

WORKERS = "rlhf_hw.workers"
WORKING = ("experiments", "models", "training")  # the rooms whose functions workers run


class ReadyKernel(KernelManager):
    """A kernel that runs already; `end` also closes the connection of whoever executed in it."""

    def client(self, **options):
        self.connected = super().client(**options)
        return self.connected

    def end(self) -> None:
        self.connected.stop_channels()
        self.shutdown_kernel(now=True)


class NextKernel:
    """At most one kernel that is being made ready; what is not taken ends with the `with` block."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._manager: ReadyKernel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def prepare(self, path: Path, added: Mapping[str, str]) -> None:
        """Start the kernel of a notebook, in the environment in which it will run, and let it import."""
        self._end()
        manager = ReadyKernel(kernel_name="python3", config=KERNEL_CONFIG)
        with kernel_environment(added):
            manager.start_kernel(extra_arguments=["--HistoryManager.hist_file=:memory:"])
        self._path, self._manager = path, manager
        client = manager.client()
        client.start_channels()
        # read when the kernel is up; silent code counts as no execution
        client.execute(loads(path), silent=True, store_history=False)

    def take(self, path: Path) -> ReadyKernel | None:
        """The kernel made ready for this notebook, if there is one; the caller has to shut it down."""
        if self._path != path or self._manager is None or not self._manager.is_alive():
            self._end()
            return None
        manager, self._manager, self._path = self._manager, None, None
        manager.connected.stop_channels()
        manager.client_class = "jupyter_client.asynchronous.AsyncKernelClient"  # what nbclient talks to
        return manager

    def _end(self) -> None:
        if self._manager is not None:
            self._manager.end()
        self._manager = self._path = None


def loads(path: Path) -> str:
    """Code that imports the modules of this library that a notebook names, and with them what they import.

    Where one of them hands out work to workers, the server that forks these loads the same for them.
    """
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    named = set()
    for cell in cells:
        try:
            named |= imported(cell, modules())
        except SyntaxError:  # IPython's own commands
            continue
    lines = [f"import {name}" for name in sorted(named)]
    working = [name for name in sorted(named) if name.split(".")[1] in WORKING]
    lines += ["import sys", f"if {WORKERS!r} in sys.modules:"]
    return "\n".join([*lines, f"    sys.modules[{WORKERS!r}].get_ready({working})"])
