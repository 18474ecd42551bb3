"""The kernel that loads its libraries while the notebook before it runs."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from rlhf_hw.pipeline.warm import loads


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "11_something.ipynb"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, path)
    return path


def test_what_a_notebook_names_is_imported_wherever_it_does(tmp_path) -> None:
    path = notebook(
        tmp_path, "%matplotlib inline", "import rlhf_hw.paths", "from rlhf_hw.stats.text import words"
    )
    code = loads(path)
    assert "import rlhf_hw.paths" in code and "import rlhf_hw.stats.text" in code


@pytest.mark.parametrize(
    ("cell", "starts"), [("import rlhf_hw.workers", True), ("import rlhf_hw.paths", False)]
)
def test_the_server_of_workers_starts_where_there_are_some(tmp_path, cell, starts) -> None:
    asks = "from multiprocessing import forkserver; print(forkserver._forkserver._forkserver_pid is not None)"
    code = loads(notebook(tmp_path, cell))
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{asks}"],
        env={"RLHF_HW_WORKERS": "2", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(starts)
