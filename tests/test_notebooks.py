"""The notebooks in git: executed at their defaults, clean, and with something for nbval to compare.

nbval passes a notebook without outputs, and one whose outputs are all ignored, without comparing anything.
"""

import ast
import re
import runpy
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from rlhf_hw.paths import NOTEBOOKS, ROOT
from rlhf_hw.pipeline.profiles import declared_parameters

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ALONE = "dpo_from_scratch"  # needs nothing of the library, and so no run
COMPARED_TYPES = {"text/plain", "text/html", "text/markdown", "application/json"}
MAX_LINES = 25


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _is_compared(cell: nbformat.NotebookNode) -> bool:
    """Whether nbval compares any output of the cell: text on stdout, or text as a result."""
    ignored = {"nbval-ignore-output", "nbval-skip"} & set(_tags(cell)) or re.search(
        r"^#\s*(NBVAL_IGNORE_OUTPUT|NBVAL_SKIP|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", cell.source, re.MULTILINE
    )
    if ignored:
        return False
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout" and output.text.strip():
            return True
        # a figure also carries its text form, "<Figure size ...>", which says nothing
        if "data" in output and not any(kind.startswith("image/") for kind in output.data):
            return bool(COMPARED_TYPES & output.data.keys())
    return False


def test_there_are_notebooks_and_their_numbers_are_in_order() -> None:
    assert len(PATHS) >= 6
    numbers = [path.stem[:2] for path in PATHS if path.stem != ALONE]
    assert all(number.isdecimal() for number in numbers) and len(set(numbers)) == len(numbers)
    assert numbers[:8] == [f"{i:02d}" for i in range(8)]  # the story; experiments have any later number


def test_is_valid_with_the_kernel_everyone_has(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"


def test_has_one_parameters_cell_that_papermill_understands(
    path: Path, notebook: nbformat.NotebookNode
) -> None:
    cells = [cell for cell in _code(notebook) if "parameters" in _tags(cell)]
    assert len(cells) == 1
    lines = [line for line in cells[0].source.splitlines() if re.match(r"\w", line)]
    lines = [line for line in lines if not line.startswith(("from ", "import "))]
    declared = declared_parameters(path)
    assert [line.split(":")[0] for line in lines] == list(declared), "a line papermill does not see"
    if path.stem != ALONE:
        assert declared["run"].type == "str" and declared["run"].default == '"smoke"'
    assert all(p.type and p.help for p in declared.values()), "each parameter has a type and a comment"


def test_was_executed_without_errors(notebook: nbformat.NotebookNode) -> None:
    for number, cell in enumerate(_code(notebook), start=1):
        assert cell.execution_count is not None, f"code cell {number} was not run"
        assert all(output.output_type != "error" for output in cell.outputs), f"code cell {number} failed"


def test_holds_no_traces_of_a_run_elsewhere(path: Path, notebook: nbformat.NotebookNode) -> None:
    assert "papermill" not in notebook.metadata
    for cell in notebook.cells:
        assert "papermill" not in cell.metadata and "execution" not in cell.metadata
        assert not {"injected-parameters", "papermill-error-cell-tag"} & set(_tags(cell))
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and not re.search(r"/home/|/root/|/Users/|/tmp/", text)


def test_no_figure_lacks_a_label_in_the_other_language(notebook: nbformat.NotebookNode) -> None:
    told = [
        output.text for cell in _code(notebook) for output in cell.outputs if output.get("name") == "stderr"
    ]
    assert not re.search(r"figure \w+ has no \w+ for", "".join(told))


def test_nbval_compares_something(notebook: nbformat.NotebookNode) -> None:
    assert sum(map(_is_compared, _code(notebook))) >= 3


def test_reads_as_text_with_short_cells(notebook: nbformat.NotebookNode) -> None:
    for number, cell in enumerate(_code(notebook), start=1):
        lines = len(cell.source.splitlines())
        assert lines <= MAX_LINES or "parameters" in _tags(cell), f"code cell {number} has {lines} lines"
    markdown = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(markdown) >= len(_code(notebook))
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")


def test_an_assert_says_what_is_wrong(notebook: nbformat.NotebookNode) -> None:
    """Of other data or models it may fail, and `AssertionError` alone tells nobody anything."""
    code = "\n".join(TransformerManager().transform_cell(cell.source) for cell in _code(notebook))
    asserts = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    assert [ast.unparse(node) for node in asserts if node.msg is None] == []


def _policies_left_where_they_load(code: str) -> list[str]:
    """Calls of `load_policy` whose model is not put on a device at once."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    moved = [c.func.value for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "to"]
    loads = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "load_policy"]
    return [ast.unparse(call) for call in loads if call not in moved]


def test_a_policy_that_writes_is_put_on_the_gpu(notebook: nbformat.NotebookNode) -> None:
    """It would work on the processor beside it, too: only so slowly that nobody waits for it."""
    code = "\n".join(TransformerManager().transform_cell(cell.source) for cell in _code(notebook))
    assert _policies_left_where_they_load(code) == []


def test_experiments_put_policies_on_the_gpu() -> None:
    files = sorted((ROOT / "rlhf_hw" / "experiments").rglob("*.py"))
    found = {file.name: _policies_left_where_they_load(file.read_text(encoding="utf-8")) for file in files}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_kernel_that_does_not_answer_is_started_again(failures) -> None:
    class IPyNbFile:
        skip_compare, tries = (), 0

        def setup(self) -> None:
            self.tries += 1
            if self.tries <= failures:
                raise RuntimeError("Kernel didn't respond in 60 seconds")

    file = IPyNbFile()
    runpy.run_path(str(NOTEBOOKS / "conftest.py"))["pytest_collectstart"](file)
    with pytest.raises(RuntimeError) if failures == 3 else nullcontext():
        file.setup()
    assert file.tries == min(failures + 1, 3)


def test_what_begins_first_in_the_pool_is_there() -> None:
    long = runpy.run_path(str(NOTEBOOKS / "conftest.py"))["LONG"]
    assert [name for name in long if name != "chain" and not (ROOT / name).is_file()] == []
