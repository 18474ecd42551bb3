"""Nothing is lost that a run did not write itself, and a checkpoint appears whole or not at all."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from rlhf_hw.errors import InputError
from rlhf_hw.models.loading import load_policy
from rlhf_hw.training import folders
from rlhf_hw.training.base_model import copy_checkpoint
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.folders import (
    RECORD,
    UNFINISHED,
    copy_finished,
    publish,
    remove_old_steps,
    take_events,
    take_folder,
    unfinished,
)
from rlhf_hw.training.run import train_dpo, train_reward_model


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def killed_after(call):
    """What ends with the program."""

    def called(*arguments):
        call(*arguments)
        raise KeyboardInterrupt

    return called


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def checkpoint(folder: Path, *names: str, text: str = "new") -> None:
    take_folder(folder)
    new = unfinished(folder)
    for name in names:
        write(new / name, text)
    publish(folder)


def test_a_checkpoint_appears_whole(tmp_path) -> None:
    checkpoint(tmp_path, "training.json", "model-00001-of-00002.safetensors", text="old")
    write(unfinished(tmp_path) / "model.safetensors", "new")
    assert (tmp_path / "training.json").read_text() == "old"  # killed here: the old checkpoint is whole
    checkpoint(tmp_path, "training.json", "model.safetensors")
    assert visible(tmp_path) == ["model.safetensors", "training.json"]
    assert (tmp_path / "training.json").read_text() == "new"


def test_files_of_others_survive_a_new_checkpoint(tmp_path) -> None:
    checkpoint(tmp_path, "training.json", "model.safetensors")
    mine = [
        "notes.bin",
        "embeddings.safetensors",
        "checkpoint-best/model.safetensors",
        "unfinished/draft.txt",
    ]
    for name in mine:
        write(tmp_path / name, "mine")
    write(tmp_path / "checkpoint-2/trainer_state.json", "{}")
    remove_old_steps(tmp_path)
    checkpoint(tmp_path, "training.json", "model.safetensors")
    assert all((tmp_path / name).read_text() == "mine" for name in mine)
    assert not (tmp_path / "checkpoint-2").exists()


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "pytorch_model.bin", "checkpoint-500/x"]
)
def test_a_folder_with_the_model_of_another_program_is_refused(settings, tmp_path, name) -> None:
    theirs = write(tmp_path / "run" / name, "theirs")
    with pytest.raises(
        InputError, match=f"output_dir: {tmp_path / 'run'} holds {name.split('/')[0]}, which no"
    ):
        train_reward_model(settings(RewardTraining, max_steps=1))
    assert theirs.read_text() == "theirs" and visible(tmp_path / "run") == [name.split("/")[0]]


def test_a_run_does_not_replace_what_it_starts_from(settings, policy_folder) -> None:
    for config, kind in ((RewardTraining, "rm"), (DPOTraining, "dpo")):
        with pytest.raises(ValidationError, match="output_dir: .* holds model, .*, which a new"):
            settings(config, output_dir=policy_folder / ".." / policy_folder.name, resume=kind == "dpo")
    for empty in ("", "."):
        with pytest.raises(ValidationError, match="a folder of its own, found the current one"):
            settings(RewardTraining, output_dir=empty)


def test_a_run_reads_nothing_where_it_writes(settings, policy_folder, pairs_file, tmp_path) -> None:
    inside = tmp_path / "run"
    for name in ("checkpoint-2", "reference"):
        shutil.copytree(policy_folder, inside / name)
    data = write(inside / "data/training.json", pairs_file.read_text())
    for given in (
        {"model": str(inside / "checkpoint-2")},
        {"reference_model": str(inside / "reference")},
        {"train_dataset": f"{pairs_file},{data}"},
        {"eval_dataset": str(data)},
    ):
        with pytest.raises(ValidationError, match=f"output_dir: {inside} holds {next(iter(given))}, "):
            settings(DPOTraining, **given)


def test_what_somebody_changed_or_put_there_is_not_replaced(tmp_path) -> None:
    names = ("training.json", "model.safetensors", "config.json")
    checkpoint(tmp_path, *names)
    write(tmp_path / "model.safetensors", "theirs")
    with pytest.raises(InputError, match="holds model.safetensors, which no run of ours wrote as it is"):
        take_folder(tmp_path)
    write(tmp_path / "model.safetensors", "new")
    write(tmp_path / "tokenizer.json", "theirs")
    with pytest.raises(InputError, match="holds tokenizer.json, which no run of ours"):
        take_folder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "config.json").unlink()  # removed is not changed
    checkpoint(tmp_path, *names, text="newer")
    assert (tmp_path / "model.safetensors").read_text() == "newer"


def test_a_checkpoint_from_before_there_were_notes_is_ours(tmp_path) -> None:
    write(tmp_path / "training.json", '{"config": {}, "metrics": {}, "history": []}')
    write(tmp_path / "model.safetensors", "old")
    for _ in range(2):  # also where the first run was stopped before it had a checkpoint
        take_folder(tmp_path)
    checkpoint(tmp_path, "training.json", "model.safetensors")
    assert (tmp_path / "model.safetensors").read_text() == "new"


@pytest.mark.parametrize("record", ["[]", "{", '{"notes": "mine"}'])
def test_another_programs_training_json_makes_no_folder_ours(tmp_path, record) -> None:
    write(tmp_path / "training.json", record)
    write(tmp_path / "logs/.rlhf_hw_events.json", "{}")
    with pytest.raises(InputError, match="holds training.json, which no run of ours wrote"):
        take_folder(tmp_path)
    take_events(tmp_path / "model", resume=False)  # events beside a model do not make the model ours
    write(tmp_path / "model/model.safetensors")
    with pytest.raises(InputError, match="holds model.safetensors"):
        take_folder(tmp_path / "model")


@pytest.mark.parametrize("moved", range(4))
def test_a_run_killed_while_it_replaced_a_checkpoint_is_finished(tmp_path, moved, monkeypatch) -> None:
    names = ("config.json", "model.safetensors", "training.json")
    checkpoint(tmp_path, *names, "model-2.safetensors", text="old")
    new = unfinished(tmp_path)
    for name in names:
        write(new / name, "new")
    replace, done = Path.replace, []

    def killed(self, target):
        if self.parent.name == UNFINISHED:
            if len(done) == moved:
                raise KeyboardInterrupt
            done.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    if moved < len(names):
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path)
        monkeypatch.undo()
        with pytest.raises(InputError, match="a run was killed while it wrote"):
            load_policy(tmp_path)
        take_folder(tmp_path)
    else:
        publish(tmp_path)
    assert visible(tmp_path) == sorted(names) and {(tmp_path / name).read_text() for name in names} == {"new"}


def test_two_runs_do_not_write_into_one_folder(tmp_path) -> None:
    take_folder(tmp_path / "run")
    other = "from rlhf_hw.training.folders import take_folder; import sys; take_folder(sys.argv[1])"
    command = [sys.executable, "-c", other, str(tmp_path / "run")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1 and f"process {os.getpid()} writes into" in refused.stderr
    write(unfinished(tmp_path / "run") / "training.json")
    publish(tmp_path / "run")
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_of_the_resumable_checkpoints_the_newest_two_stay(settings, tmp_path) -> None:
    checkpoint(tmp_path / "run", "training.json")
    for name in ("checkpoint-1-best", "checkpoint-2best"):
        write(tmp_path / "run" / name / "model.safetensors", "mine")
    train_reward_model(settings(RewardTraining, max_steps=4, save_steps=1))
    kept = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert kept == ["checkpoint-1-best", "checkpoint-2best", "checkpoint-3", "checkpoint-4"]


def test_only_events_of_our_own_runs_are_removed(settings, tmp_path, cache) -> None:
    logs = tmp_path / "tb"
    theirs = [
        write(logs / "events.out.tfevents.1.elsewhere.7.0"),
        write(logs / "rm/events.out.tfevents.1.a.7.0"),
    ]
    changes = {"log_dir": logs, "report_to": "tensorboard", "max_steps": 1}
    for _ in range(2):
        train_dpo(settings(DPOTraining, **changes))
        ours = {path for path in logs.glob("events.*") if path not in theirs}
        assert len(ours) == 1 and all(path.exists() for path in theirs)
    take_events(logs, resume=True)  # a resumed run goes on in the same curves
    assert ours == {path for path in logs.glob("events.*") if path not in theirs}


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_whoever_may_read_the_folder_may_read_the_weights(settings, policy_folder, tmp_path) -> None:
    train_reward_model(settings(RewardTraining, max_steps=1))
    copied = copy_checkpoint(str(policy_folder), tmp_path / "base")
    allowed = stat.S_IMODE(write(tmp_path / "plain").stat().st_mode)
    for folder in (tmp_path / "run", copied):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
        assert "model.safetensors" in modes and set(modes.values()) == {allowed}, modes


def test_a_copy_is_a_checkpoint_of_ours(tmp_path) -> None:
    prepared = unfinished(tmp_path / "a")
    (prepared / "config.json").write_text("{}")
    (prepared / RECORD).write_text('{"config": {}, "metrics": {}, "history": []}')
    publish(tmp_path / "a")
    for _ in range(2):  # and may be replaced by the next copy
        copy_finished(tmp_path / "a", tmp_path / "b")
        assert sorted(p.name for p in (tmp_path / "b").glob("[!.]*")) == ["config.json", RECORD]
    (tmp_path / "b" / "config.json").write_text("somebody's own")
    with pytest.raises(ValueError, match="no run of ours wrote as it is"):
        copy_finished(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("content", ["null", "7", "[" * 100_000, '{"files": 7, "new": []}'])
def test_damaged_notes_say_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / folders.NOTES).write_text(content)
    folders.take_folder(tmp_path)
    (folders.unfinished(tmp_path) / "config.json").write_text("{}")
    folders.publish(tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_notes_of_a_killed_run_whose_new_content_is_gone_do_not_count_for_the_next(tmp_path: Path) -> None:
    stale = {"files": {}, "publishing": True, "new": {"other.json": "0" * 64}}
    folders.note(tmp_path / folders.NOTES, **stale)
    folders.take_folder(tmp_path)
    (folders.unfinished(tmp_path) / "half.json").write_text("{")  # killed here: not to be taken for whole
    folders.take_folder(tmp_path)
    assert not (tmp_path / "half.json").exists()
    (folders.unfinished(tmp_path) / "config.json").write_text("{}")
    folders.publish(tmp_path)
    assert folders.notes(tmp_path)["files"].keys() == {"config.json"}


def test_a_run_that_was_killed_before_its_last_notes_is_gone_on_with(tmp_path: Path, monkeypatch) -> None:
    """All is in its place, and the notes do not say so yet: killed there, or on a disk that was full."""
    folders.take_folder(tmp_path)
    prepared = folders.unfinished(tmp_path)
    (prepared / "config.json").write_text("{}")
    (prepared / RECORD).write_text('{"config": {}, "metrics": {}, "history": []}')
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", killed_after(Path.rmdir))
        with pytest.raises(KeyboardInterrupt):
            folders.publish(tmp_path)
    assert not prepared.exists() and folders.notes(tmp_path)["publishing"]
    folders.take_folder(tmp_path)
    assert folders.notes(tmp_path).keys() == {"written_by", "files"}
    assert folders.notes(tmp_path)["files"].keys() == {"config.json", RECORD}


@pytest.mark.parametrize("name", [folders.LOCK, folders.NOTES, folders.UNFINISHED])
def test_what_a_link_of_our_names_leads_to_is_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match=f"{name} is a link"):
        folders.take_folder(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "mine"
