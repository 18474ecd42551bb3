"""Settings: what they read as empty, what they refuse, and the DeepSpeed files they name."""

import json
import shutil

import pytest
from pydantic import ValidationError

from rlhf_hw.errors import InputError
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.profiles import declared_parameters
from rlhf_hw.training import distributed
from rlhf_hw.training.config import DPOTraining, NewModel, RewardTraining
from rlhf_hw.training.folders import UNFINISHED, copy_finished, take_folder

OWN = {
    "model": "the run's base model",
    "output_dir": "the run's folder",
    "log_dir": "the run's folder",
    "skip_train": "replicate_pairs, once for each replicate",
}


def test_config_reads_empty_values_as_none() -> None:
    for empty in ("", "null", "None", " ", None, 0):
        config = DPOTraining(
            model="m",
            output_dir="o",
            train_dataset=empty,
            max_train=empty,
            deepspeed=empty,
            reference_model=empty,
        )
        values = (config.train_dataset, config.max_train, config.deepspeed, config.reference_model)
        assert values == (None, None, None, None)
    assert RewardTraining(model="m", output_dir="o", seed=0, save_steps=0).seed == 0


@pytest.mark.parametrize(
    "change",
    [
        {"betta": 0.1},
        {"beta": float("inf")},
        {"learning_rate": float("nan")},
        {"epochs": float("inf")},
        {"epochs": 1e300},
        {"learning_rate": 1e30},
        {"weight_decay": 1e30},
        {"nll_weight": 1e7},
        {"evaluations": 10**10},
        {"max_eval": 10**24},
        {"lora_rank": 10**5},
        {"max_steps": 0},
        {"max_steps": -2},
        {"max_steps": 10**24},
        {"beta": 0},
        {"loss": "hinge"},
        {"label_smoothing": 0.5},
        {"batch_size": 0},
        {"batch_size": 10**10},
        {"seed": True},
        {"learning_rate": True},
        {"dtype": "fp16"},
        {"model": ""},
        {"resume": True},  # of nothing: the model would take the place of what was trained
    ],
)
def test_config_refuses_what_it_does_not_know(change) -> None:
    with pytest.raises(ValidationError):
        DPOTraining(**{"model": "m", "output_dir": "o"} | change)


@pytest.mark.parametrize(
    ("settings", "notebook"),
    [(RewardTraining, "01_reward_model_training"), (DPOTraining, "04_dpo_training")],
)
def test_every_setting_is_a_parameter_of_its_notebook(settings, notebook) -> None:
    declared = declared_parameters(NOTEBOOKS / f"{notebook}.ipynb")
    assert set(settings.model_fields) - declared.keys() == OWN.keys()
    # at its defaults the notebook asks for nothing that its loss does not have
    for name in {name for loss in settings.LOSSES.values() for name in loss.settings}:
        default = eval(declared[name].default) or None  # empty and 0 stand for "as it is"
        assert default == (settings.model_fields[name].default or None), name


def test_notebook_00_can_set_the_shape_of_a_new_model() -> None:
    assert set(NewModel.model_fields) <= declared_parameters(NOTEBOOKS / "00_base_model.ipynb").keys()
    with pytest.raises(ValidationError, match="heads: expected an even divisor of hidden_size 100, found 6"):
        NewModel(hidden_size=100, heads=6)


def test_deepspeed_files() -> None:
    assert distributed.deepspeed_file(None) is None
    assert json.loads(open(distributed.deepspeed_file("zero2")).read())["zero_optimization"]["stage"] == 2
    with pytest.raises(FileNotFoundError, match="or one of zero0, zero2"):
        distributed.deepspeed_file("zero9")
    with pytest.raises(InputError, match="^deepspeed: no file or folder can be called xxx"):
        distributed.deepspeed_file("x" * 5000)


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "1"},
        {"RANK": "one"},
        {"WORLD_SIZE": "2", "RANK": "0"},
        {"WORLD_SIZE": "0"},
        {"LOCAL_RANK": "1"},
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
    ],
)
def test_what_is_left_of_a_launcher_in_the_environment_is_refused(monkeypatch, left) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    distributed.join_processes()
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="the environment says .*start with one of them, or unset these"):
        distributed.join_processes()


def test_a_run_writes_into_no_folder_of_another_checkpoint(settings, policy_folder, tmp_path) -> None:
    theirs, ours, begun = tmp_path / "theirs", tmp_path / "ours", tmp_path / "begun"
    shutil.copytree(policy_folder, theirs)
    copy_finished(policy_folder, ours)
    take_folder(begun)
    for held in (policy_folder, theirs, ours, begun):
        for inside in (held, held / "logs", held / "a" / ".." / "b" / "c"):
            with pytest.raises(ValidationError, match=f"log_dir: .* {held}, the folder of a checkpoint"):
                settings(RewardTraining, log_dir=inside)
        with pytest.raises(
            ValidationError, match=f"output_dir: .* {held}, the folder of a checkpoint, .*choose"
        ):
            settings(RewardTraining, output_dir=held / "dpo")
    for inside in ("checkpoint-2", f"{UNFINISHED}/x"):
        with pytest.raises(ValidationError, match="log_dir: .*, the folder of a checkpoint"):
            settings(RewardTraining, output_dir=tmp_path / "new", log_dir=tmp_path / "new" / inside)


def test_a_run_goes_on_writing_where_its_own_checkpoint_is(settings, policy_folder, tmp_path) -> None:
    copy_finished(policy_folder, tmp_path / "run")
    (tmp_path / "config.json").write_text("{}")  # of something else: no weights lie beside it
    for logs in (None, tmp_path / "run", tmp_path / "run" / "logs", tmp_path / "logs", tmp_path):
        assert settings(RewardTraining, log_dir=logs).log_dir == logs


def test_a_new_model_fits_into_the_machines_memory() -> None:
    NewModel(hidden_size=1024, layers=24, heads=16, intermediate_size=4096)
    for shape in ({"hidden_size": 10**6}, {"layers": 10**8}, {"intermediate_size": 10**9}):
        with pytest.raises(ValidationError, match="hidden_size: .* GiB; take a smaller one"):
            NewModel(**shape)
    with pytest.raises(ValidationError, match="vocabulary"):  # room is made for it before texts are read
        NewModel(vocabulary=10**9)
