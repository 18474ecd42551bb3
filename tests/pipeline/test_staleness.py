"""What runs again after which change: the real notebooks and library, copied, with a counter for the kernel.

Instead of running, a notebook leaves a small file for each artefact and figure that it declares.
"""

import json
import os
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a copy holds in which everything has run."""
    made = Copy(tmp_path_factory.mktemp("copy") / "project")
    with pytest.MonkeyPatch.context() as patch:
        put_in_place(made, patch)
        assert made.run() == PLAIN
    return made.root.rename(made.root.with_name("finished"))


@pytest.fixture
def copy(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A copy in which everything has run, at the place where it ran."""
    root = finished.with_name("project")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(finished, root)
    made = Copy(root)
    put_in_place(made, monkeypatch)
    return made


@pytest.mark.parametrize(
    ("module", "dependent"),
    [
        ("report/build", []),
        ("figures/diagrams", []),
        ("pipeline/runner", []),
        ("cli", []),
        ("figures/recorded", [RECORDED]),
        ("figures/training", [RM, EVALUATION, DPO]),
        ("world/gold", [BASE, EVALUATION, SCORES, DPO, REPLIES, GAP, HARD]),
        ("world/annotators", [BASE, EVALUATION, SCORES, REPLIES, GAP, HARD]),
        ("experiments/score_gap/decompose", [REPLIES, GAP]),
        ("training/losses", [BASE, RM, EVALUATION, DPO, HARD]),
        ("models/generation", [BASE, EVALUATION, DPO, REPLIES, HARD]),
        ("pipeline/run_folder", PLAIN),
    ],
)
def test_an_edit_in_the_library_runs_the_notebooks_that_import_it(
    copy: Copy, module: str, dependent: list[str]
) -> None:
    file = copy.root / f"rlhf_hw/{module}.py"
    file.write_text(file.read_text(encoding="utf-8") + "\nADDED = 1\n", encoding="utf-8")
    assert copy.run() == dependent


def test_comments_docstrings_and_dates_run_nothing(copy: Copy) -> None:
    copy.replace("rlhf_hw/training/run.py", '"""Train', '"""Really train')
    copy.replace("rlhf_hw/training/run.py", "\nlog =", "\n# said while it trains\nlog =")
    for file in copy.root.rglob("*"):
        os.utime(file, (1, 1))
    assert copy.run() == []  # which is also what a second run without any change does


def test_of_a_notebook_its_code_counts_and_not_its_text(copy: Copy) -> None:
    copy.edit_cell(EVALUATION, "markdown", lambda text: text + " A word more.")
    copy.edit_cell(EVALUATION, "code", lambda text: f"# a remark\n{text}")
    assert copy.run() == []
    copy.edit_cell(RECORDED, "code", lambda text: f"{text}\nprint(1)")
    assert copy.run() == [RECORDED]


def test_a_value_of_the_profile_runs_what_it_is_for(copy: Copy) -> None:
    assert copy.run("dpo_training.nll_weight=1.0") == [DPO]
    assert copy.run("dpo_training.nll_weight=1.0") == []
    assert copy.run("max_new_tokens=90", "dpo_training.nll_weight=1.0") == [
        BASE,
        EVALUATION,
        DPO,
        REPLIES,
        HARD,
    ]


def test_data_changed_behind_their_date_and_size_are_seen(copy: Copy) -> None:
    file = copy.root / "data/nano/train.jsonl.gz"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert copy.run() == [BASE, RM, EVALUATION, DPO, REPLIES, GAP, HARD]  # 03 reads score files, which stay


@pytest.mark.parametrize(
    ("file", "dependent"),
    [
        ("data/world/topics.yaml", [BASE, EVALUATION, SCORES, DPO, REPLIES, GAP, HARD]),
        ("data/base-model/config.json", [BASE]),
        ("rlhf_hw/training/deepspeed/zero2.json", [BASE, RM, EVALUATION, DPO, HARD]),
        ("rlhf_hw/profiles/hh.yaml", []),
        ("report/recorded.json", [RECORDED]),
    ],
)
def test_a_data_file_runs_what_reads_it(copy: Copy, file: str, dependent: list[str]) -> None:
    (copy.root / file).write_text((copy.root / file).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert copy.run() == dependent


def test_real_data_run_what_reads_them(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_HW_REAL_DATA", str(copy.root / "real"))
    for name in ("recorded-run/generated_base.jsonl", "hh-rlhf/train.jsonl", "unread/train.jsonl"):
        (copy.root / "real" / name).parent.mkdir(parents=True)
        (copy.root / "real" / name).write_text("{}")
    assert copy.run() == [RECORDED]
    named = "dpo_training.train_dataset=Anthropic/hh-rlhf"
    assert copy.run(named) == [DPO]
    (copy.root / "real/hh-rlhf/train.jsonl").write_text("{}\n")
    assert copy.run(named) == [DPO]


@pytest.mark.parametrize(
    ("artefact", "maker"),
    [
        ("base", BASE),
        ("dpo/model.safetensors", DPO),
        ("scores/validation.jsonl", EVALUATION),
        ("scores/generated_validation_reference.jsonl", REPLIES),
        ("metrics/03.json", SCORES),
        ("fig/learning_curve.pdf", EVALUATION),
        ("notebooks/06_score_gap.ipynb", GAP),
    ],
)
def test_what_was_deleted_is_made_again_and_nothing_else(copy: Copy, artefact: str, maker: str) -> None:
    path = copy.folder / artefact
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert copy.run() == [maker]


@pytest.mark.parametrize(
    ("artefact", "maker"), [("scores/validation.jsonl", EVALUATION), ("metrics/04.json", DPO)]
)
def test_what_somebody_else_wrote_in_its_place_is_made_again(copy: Copy, artefact: str, maker: str) -> None:
    (copy.folder / artefact).write_text("{}  ")
    assert copy.run() == [maker]


def test_of_many_files_named_in_one_text_each_counts(copy: Copy) -> None:
    files = [copy.root / f"data/parts/{'part-' * 8}{number}.jsonl" for number in range(40)]
    files[0].parent.mkdir()
    for file in files:
        file.write_text("{}")
    given = f"dpo_training.train_dataset={','.join(map(str, files))}"
    assert copy.run(given) == [DPO] and copy.run(given) == []
    files[-1].write_text('{"prompt": "new"}')
    assert copy.run(given) == [DPO]


def test_what_lies_behind_links_to_folders_counts_once_and_in_no_circle(copy: Copy) -> None:
    data, apart = copy.root / "data/linked", copy.root / "apart"
    for folder in (data, apart / "deep", copy.root / "other"):
        folder.mkdir(parents=True)
    (apart / "deep" / "train.jsonl").write_text("{}")
    (copy.root / "other" / "x.jsonl").write_text("{}")
    (data / "by_link").symlink_to(apart)
    (data / "once_more").symlink_to(apart / "deep")
    (apart / "back").symlink_to(data)
    given = f"dpo_training.train_dataset={data}"
    assert copy.run(given) == [DPO] and copy.run(given) == []
    (apart / "deep" / "train.jsonl").write_text('{"prompt": "new"}')
    assert copy.run(given) == [DPO] and copy.run(given) == []
    (data / "once_more").unlink()
    (data / "once_more").symlink_to(apart)  # another folder, which has been met, too
    assert copy.run(given) == [DPO] and copy.run(given) == []
    (data / "once_more").unlink()
    (data / "once_more").symlink_to(copy.root / "other")
    assert copy.run(given) == [DPO] and copy.run(given) == []


def test_what_changed_runs_those_who_need_it(copy: Copy) -> None:
    copy.made["dpo"] = "other weights"
    assert copy.run("dpo_training.seed=5") == [DPO, REPLIES, HARD]
    copy.made["scores/generated_validation_dpo.jsonl"] = "other replies"
    assert copy.run("dpo_training.seed=5", force=True, only=["05"]) == [REPLIES]
    assert copy.run("dpo_training.seed=5") == [GAP]


def test_one_notebook_alone_gets_what_it_lacks(copy: Copy) -> None:
    shutil.rmtree(copy.folder)
    assert copy.run(only=["06"]) == [BASE, RM, EVALUATION, DPO, REPLIES, GAP]
    assert copy.run() == [SCORES, RECORDED, HARD]
    shutil.rmtree(copy.folder)
    pairs = copy.root / "pairs.jsonl"
    pairs.write_text("{}")
    assert copy.run(f"reward_model_evaluation.scores={pairs}", only=["02"]) == [EVALUATION]


def test_the_record_holds_what_each_notebook_ran_with(copy: Copy) -> None:
    def recorded() -> dict:
        return json.loads((copy.folder / "run.json").read_text())

    before = recorded()
    assert set(before["parameters"]) == set(before["seconds"]) == set(PLAIN)
    assert copy.run("seed=9", "recorded_run.keep=true", only=["07"]) == [RECORDED]
    after = recorded()
    assert after["parameters"].pop(RECORDED)["keep"] is True
    assert after["parameters"] == {k: v for k, v in before["parameters"].items() if k != RECORDED}


def test_what_a_notebook_asked_for_need_not_run_again(copy: Copy) -> None:
    shutil.rmtree(copy.folder / "dpo")
    copy.ran.clear()
    assert runner.open_run("nano").need("dpo").is_dir()
    assert copy.ran == [DPO]
    ran_with = json.loads((copy.folder / "run.json").read_text())["parameters"][DPO]["sft_max_train"]
    assert ran_with == load_profile("nano").notebooks["dpo_training"]["sft_max_train"]
    assert copy.run() == []
    with pytest.raises(ValueError, match="no notebook makes 'critic'"):
        runner.open_run("nano").need("critic")
