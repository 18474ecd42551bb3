"""The project with its real notebooks and library, copied, and a counter in place of the kernel.

Instead of running, a notebook leaves a small file for each artefact and figure that it declares.
"""

import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
import pytest

from rlhf_hw import paths
from rlhf_hw.pipeline import run_folder, runner
from rlhf_hw.pipeline.graph import STAGES
from rlhf_hw.pipeline.profiles import apply_overrides, load_profile

STEMS = {stem.partition("_")[0]: stem for stem in STAGES}
PLAIN = [stem for stem, stage in STAGES.items() if not stage.experiment]
BASE, RM, EVALUATION, SCORES, DPO, REPLIES, GAP, RECORDED = (STEMS[f"{n:02}"] for n in range(8))
HARD = STEMS["12"]
NEEDED = {name for stage in STAGES.values() for name in stage.needed({"replicates": 3}) + list(stage.uses)}
NEEDED |= set(STAGES[EVALUATION].needed({"replicates": 3, "own_models": True, "parts": "a, b"}))


class Copy:
    """A copy of the project, and the notebooks that ran in it since the last look."""

    def __init__(self, root: Path):
        self.root, self.ran, self.made = root, [], {}
        self.folder = root / "runs/nano"
        if root.exists():
            return
        junk = shutil.ignore_patterns("__pycache__")
        for name in ("notebooks", "rlhf_hw", "data"):
            shutil.copytree(paths.ROOT / name, root / name, ignore=junk)
        for name in ("report/recorded.json", "fig/recorded_length.png"):
            (root / name).parent.mkdir()
            shutil.copy(paths.ROOT / name, root / name)

    def execute(
        self, path: Path, output: Path, parameters: dict, environment: Mapping[str, str], manager: object
    ) -> None:
        """Stands in for the kernel."""
        self.ran.append(path.stem)
        output.parent.mkdir(exist_ok=True)
        output.write_text("executed")
        for pattern in STAGES[path.stem].files():
            for name in [need for need in NEEDED if fnmatchcase(need, pattern)] or [pattern]:
                file = self.folder / name.replace("*", "any")
                file = file if file.suffix else file / "model.safetensors"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("{}" if name.startswith("metrics/") else self.made.get(name, name))

    def run(self, *overrides: str, **options) -> list[str]:
        """What `rlhf-hw run` runs, in order."""
        self.ran.clear()
        profile = apply_overrides(load_profile("nano"), overrides)
        told = runner.run_profile(profile, notebooks=self.root / "notebooks", **options)
        assert told == self.ran
        return told

    def replace(self, file: str, old: str, new: str) -> None:
        """Edit a text file of the copy."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def edit_cell(self, stem: str, kind: str, change: Callable[[str], str]) -> None:
        """Change the last cell of a kind in a notebook."""
        path = self.root / f"notebooks/{stem}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        cell = [cell for cell in notebook.cells if cell.cell_type == kind][-1]
        cell.source = change(cell.source)
        nbformat.write(notebook, path)


def put_in_place(copy: Copy, patch: pytest.MonkeyPatch) -> None:
    """Let the library and the runner work in the copy."""
    for name, place in (("ROOT", copy.root), ("LIBRARY", copy.root / "rlhf_hw")):
        patch.setattr(paths, name, place)
    patch.setattr(run_folder, "RUNS", copy.root / "runs")
    patch.setattr(runner, "NOTEBOOKS", copy.root / "notebooks")
    patch.setattr(runner.kernel, "execute", copy.execute)
    patch.setattr(runner.NextKernel, "prepare", lambda *_: None)
    patch.delenv("RLHF_HW_REAL_DATA", raising=False)
