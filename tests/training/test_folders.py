"""Nothing is lost that a run did not write itself, and a checkpoint appears whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from rlhf_hw.errors import InputError
from rlhf_hw.training.base_model import copy_checkpoint
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.folders import publish, remove_old_steps, take_events, take_folder, unfinished
from rlhf_hw.training.run import train_dpo, train_reward_model


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


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
        with pytest.raises(ValidationError, match="output_dir: .* is also the model to start from"):
            settings(config, output_dir=policy_folder / ".." / policy_folder.name, resume=kind == "dpo")
    for empty in ("", "."):
        with pytest.raises(ValidationError, match="output_dir: expected a folder, found an empty name"):
            settings(RewardTraining, output_dir=empty)


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
