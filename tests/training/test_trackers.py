"""Trackers get a run of their own for each training, begun before any work and ended with it.

W&B and MLflow are no dependencies: where one is installed it really runs, to local files; what is our own
part is tested with a stand-in.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.training import trackers
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.launch import TRAIN
from tests.training.several_processes import start

SECRET = "a-secret-of-the-environment"
VARIABLES = ("WANDB_DIR", "WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", *trackers.QUIET)
wandb_is_there = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="no W&B here")
mlflow_is_there = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="no MLflow here")


def forget_wandb() -> None:
    """W&B keeps the settings of its first run in a process, other tests' too."""
    if hasattr(there := sys.modules.get("wandb"), "teardown"):
        there.teardown()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, a home of its own, and nothing set that a tracker reads."""
    forget_wandb()
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets goes with it
        monkeypatch.delenv(name)
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    trackers.end_trackers(failed=True)
    forget_wandb()


class StandIn(SimpleNamespace):
    """What `trackers` asks of wandb; `refuses` is raised where a run should begin."""

    def __init__(self, refuses: Exception | None = None):
        super().__init__(run=None, ended=[], begun=[], refuses=refuses)

    def init(self, **named) -> None:
        if self.refuses:
            raise self.refuses
        self.run, self.begun = object(), [*self.begun, named]

    def finish(self, exit_code: int) -> None:
        self.run, self.ended = None, [*self.ended, exit_code]


@pytest.fixture
def config(settings, monkeypatch):
    monkeypatch.setattr(trackers, "check_trackers", lambda _: None)
    monkeypatch.setattr("rlhf_hw.training.config.check_trackers", lambda _: None)
    return lambda name: settings(RewardTraining, name, report_to="wandb", max_steps=1)


def test_each_training_is_a_run_named_after_its_folder_that_ends_as_it_does(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", stand_in := StandIn())

    @trackers.ends_trackers
    def inner(name: str) -> None:
        trackers.begin_trackers(config(name))

    @trackers.ends_trackers
    def train(name: str, error: Exception | None = None) -> None:
        trackers.begin_trackers(config(name))
        inner(name)  # as SFT trains a language model: the same training
        if error:
            trackers.begin_trackers(config(name))
            raise error

    train("one")
    with pytest.raises(RunFailed):
        train("two", RunFailed("the loss is nan"))
    assert [run["name"].rpartition("/")[2] for run in stand_in.begun] == ["one", "two", "two"]
    assert stand_in.ended == [0, 0, 1]
    first = stand_in.begun[0]
    assert first["dir"] == str(config("one").output_dir / "logs") and os.listdir() == []
    assert first["config"]["rlhf_hw"]["learning_rate"] == 1e-3


def test_a_tracker_that_cannot_begin_is_refused_before_anything_is_read(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", StandIn(RuntimeError("api_key not configured (no-tty)\nmore")))
    monkeypatch.setattr("rlhf_hw.training.run.Renderer.load", lambda *_, **__: pytest.fail("model was read"))
    with pytest.raises(InputError, match=r"report_to: wandb cannot begin .*no-tty\)\); log in"):
        TRAIN["rm"](config("refused"))
    assert not (config("refused").output_dir / "model.safetensors").exists()


def test_a_run_of_the_users_own_is_told_and_left_open(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", stand_in := StandIn())
    stand_in.run = object()
    trackers.begin_trackers(config("one"))
    trackers.end_trackers(failed=False)
    assert stand_in.begun == stand_in.ended == []


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def resumed(settings, tracker: str, **changes) -> list:
    """Settings of a run of two steps, and of the same run with two more."""
    own = {"report_to": tracker, "save_steps": 2, "lr_scheduler_type": "constant"} | changes
    first = settings(RewardTraining, "told", max_steps=2, **own)
    return [first, first.model_copy(update={"max_steps": 4, "resume": True})]


@wandb_is_there
def test_wandb_offline_gets_a_run_for_each_training(settings, cache, elsewhere, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for config in resumed(settings, "wandb"):
        TRAIN["rm"](config)
    TRAIN["dpo"](settings(DPOTraining, "dpo", report_to="wandb", max_steps=1, beta=0.25))
    for folder, runs in ((config.output_dir, 2), (config.output_dir.with_name("dpo"), 1)):
        found = list((folder / "logs" / "wandb").glob("offline-run-*"))
        assert len(found) == runs
        for run in found:
            told = written(run)
            assert b"train/loss" in told and b"rlhf_hw" in told and SECRET.encode() not in told
    assert os.listdir(elsewhere) == []


@wandb_is_there
def test_wandb_without_a_login_is_refused_before_the_model_is_read(settings, monkeypatch) -> None:
    monkeypatch.setattr("rlhf_hw.training.run.Renderer.load", lambda *_, **__: pytest.fail("model was read"))
    with pytest.raises(InputError, match="wandb cannot begin .*; log in .*WANDB_MODE=offline"):
        TRAIN["rm"](settings(RewardTraining, "refused", report_to="wandb"))


@mlflow_is_there
def test_mlflow_gets_a_run_for_each_training_and_each_step_once(settings, cache, elsewhere) -> None:
    from mlflow.tracking import MlflowClient

    for config in resumed(settings, "mlflow"):
        TRAIN["rm"](config)
    with pytest.raises(RunFailed):
        failing = resumed(settings, "mlflow", output_dir=config.output_dir / "x")[0]
        TRAIN["rm"](failing.model_copy(update={"learning_rate": 1e30}))
    client = MlflowClient(f"sqlite:///{config.output_dir / 'logs' / 'mlflow.db'}")
    runs = client.search_runs(["0"], order_by=["attributes.start_time"])
    steps = [[m.step for m in client.get_metric_history(run.info.run_id, "loss")] for run in runs]
    assert steps == [[1, 2], [3, 4]]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert runs[0].data.params["rlhf_hw.max_steps"] == "2" and runs[0].info.run_name.endswith("/told")
    assert SECRET.encode() not in written(config.output_dir) and os.listdir(elsewhere) == []


@mlflow_is_there
@pytest.mark.parametrize("place", ["nosuch://place", "file:///proc/nowhere"])
def test_a_place_that_mlflow_cannot_reach_is_refused(settings, monkeypatch, place) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setattr("rlhf_hw.training.run.Renderer.load", lambda *_, **__: pytest.fail("model was read"))
    with pytest.raises(InputError, match="report_to: mlflow cannot begin .*MLFLOW_TRACKING_URI"):
        TRAIN["rm"](settings(RewardTraining, "refused", report_to="mlflow"))


@pytest.mark.distributed
@wandb_is_there
@mlflow_is_there
def test_of_two_processes_one_tells(settings, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = settings(RewardTraining, "two", report_to="wandb,mlflow", max_steps=2, batch_size=2)
    start(2, ("rm", config))
    logs = config.output_dir / "logs"
    assert len(list((logs / "wandb").glob("offline-run-*"))) == 1 and (logs / "mlflow.db").exists()
