"""`Run.kept`: made once, and again after something that counts has changed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_hw import files, paths
from rlhf_hw.files import write_text
from rlhf_hw.pipeline import run_folder
from rlhf_hw.pipeline.run_folder import MAKE_AGAIN, Run


class Trials:
    """A run whose training writes its count of calls into `model`."""

    def __init__(self, run: Run, data: Path):
        self.run, self.count = run, 0
        self.settings = {"train_dataset": str(data), "epochs": 1, "output_dir": str(run / "model")}

    def train(self, **changes: object) -> str:
        """What a notebook writes: the same lambda, with settings that may have changed."""
        path, settings = self.run / "model", self.settings | changes
        return self.run.kept("model", lambda: self.call(write_text, path), Path.read_text, settings)

    def call(self, function, path: Path) -> str:
        self.count += 1
        function(path, f"model {self.count}")
        return path.read_text()


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path)
    library = tmp_path / "rlhf_hw"
    library.mkdir()
    (library / "files.py").write_text(Path(files.__file__).read_text(encoding="utf-8"))
    monkeypatch.setattr(paths, "LIBRARY", library)
    (tmp_path / "pairs.jsonl").write_text("{}")
    trials = Trials(Run("trial"), tmp_path / "pairs.jsonl")
    assert [trials.train(), trials.train()] == ["model 1", "model 1"]
    return trials


def test_a_line_says_that_something_was_read_back(trials: Trials, caplog) -> None:
    trials.train()
    assert caplog.messages == ["model: read back, the same settings, data and code made it before"]


def test_how_many_results_were_read_back_is_counted_until_they_are_made_again(trials: Trials) -> None:
    assert run_folder.read_back_metric(trials.run) == {"run.read_back": 1}  # the fixture asked twice
    trials.train(epochs=2)
    assert run_folder.read_back_metric(trials.run) == {}
    trials.train(epochs=2)
    trials.train(epochs=2)
    assert run_folder.read_back(trials.run) == 1
    (trials.run / "kept" / "gone.json").write_text('{"read_back": "gone"}')
    assert run_folder.read_back(trials.run) == 1
    (trials.run / "kept" / "model.json").write_text('["no note"]')
    assert run_folder.read_back(trials.run) == 0 and trials.train(epochs=2) == "model 3"


def test_settings_make_it_again_but_for_where_results_go(trials: Trials) -> None:
    assert trials.train(epochs=2) == "model 2"
    assert trials.train(epochs=2, output_dir="elsewhere", log_dir="logs") == "model 2"


def test_data_make_it_again_whatever_their_date(trials: Trials, tmp_path: Path) -> None:
    os.utime(tmp_path / "pairs.jsonl", (1, 1))
    assert trials.train() == "model 1"
    (tmp_path / "pairs.jsonl").write_text("[]")
    os.utime(tmp_path / "pairs.jsonl", (1, 1))
    assert trials.train() == "model 2"


def test_code_makes_it_again_but_for_its_docstrings(trials: Trials) -> None:
    path = paths.LIBRARY / "files.py"
    path.write_text(path.read_text(encoding="utf-8").replace('"""Replace', '"""Really replace'))
    assert trials.train() == "model 1"
    path.write_text(path.read_text(encoding="utf-8") + "\nADDED = 1\n")
    assert trials.train() == "model 2"
    (paths.LIBRARY / "other.py").write_text("")  # nothing that the training imports
    assert trials.train() == "model 2"


def test_an_artefact_that_is_gone_or_was_changed_is_made_again(trials: Trials) -> None:
    (trials.run / "model").write_text("somebody's own")
    assert trials.train() == "model 2"
    (trials.run / "model").unlink()
    assert trials.train() == "model 3"


def test_a_forced_run_makes_it_again(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAKE_AGAIN, "1")
    assert trials.train() == "model 2"
    monkeypatch.delenv(MAKE_AGAIN)
    assert trials.train() == "model 2"


def test_what_was_resumed_or_failed_is_not_kept(trials: Trials) -> None:
    assert [trials.train(resume=True), trials.train(resume=True)] == ["model 2", "model 3"]
    assert [trials.train(), trials.train()] == ["model 4", "model 4"]

    def fail() -> None:
        write_text(trials.run / "model", "half of it")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        trials.run.kept("model", fail, Path.read_text, trials.settings)
    assert trials.train() == "model 5"


def test_what_names_nothing_of_the_library_is_refused(trials: Trials) -> None:
    with pytest.raises(ValueError, match="names nothing of the library"):
        trials.run.kept("model", lambda: Path("a"), Path.read_text, {})
    assert trials.run.kept("other", lambda: files.write_text(trials.run / "other", "a"), Path, {}) is None


def test_of_several_only_those_are_made_that_changed(trials: Trials) -> None:
    run, made = trials.run, []

    def keep(*epochs: int) -> list[str]:
        def make(which: list[int]) -> list[None]:
            made.append(which)
            return [write_text(run / f"model-{n}", f"{epochs[n]} epochs") for n in which]

        names = [f"model-{n}" for n in range(len(epochs))]
        run.kept_all(names, make, Path, [{"epochs": number} for number in epochs])
        return [(run / name).read_text() for name in names]

    assert keep(1, 2, 3) == ["1 epochs", "2 epochs", "3 epochs"]
    assert keep(1, 5, 3) == ["1 epochs", "5 epochs", "3 epochs"]
    (run / "model-2").unlink()
    assert keep(1, 5, 3) == ["1 epochs", "5 epochs", "3 epochs"]
    assert made == [[0, 1, 2], [1], [2]]


def test_what_was_made_before_an_end_in_the_middle_is_not_made_again(trials: Trials) -> None:
    run, made = trials.run, []

    def keep(end_at: int | None) -> None:
        def make(which: list[int]) -> Iterator[None]:
            for number in which:
                if number == end_at:
                    raise KeyboardInterrupt
                made.append(number)
                yield write_text(run / f"model-{number}", str(number))

        run.kept_all(["model-0", "model-1", "model-2"], make, Path, [{"seed": n} for n in range(3)])

    with pytest.raises(KeyboardInterrupt):
        keep(2)
    keep(None)
    assert made == [0, 1, 2]
