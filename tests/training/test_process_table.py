"""Two processes do what one does: every loss, ragged sizes, each step at which a run can stop.

The table is the full run's; `test_distributed` and `test_ragged_processes` hold a part of it each time.
"""

import importlib.util
from functools import cache

import numpy as np
import pytest

from rlhf_hw.training.checkpoints import load_result
from rlhf_hw.training.config import DPOTraining, RewardTraining, SupervisedTraining
from rlhf_hw.training.launch import TRAIN
from rlhf_hw.training.loss_table import POLICY_LOSSES, REWARD_LOSSES
from rlhf_hw.training.trackers import TRACKERS
from tests.training.several_processes import start

KINDS = {"rm": RewardTraining, "dpo": DPOTraining, "sft": SupervisedTraining}
LOSSES = [("rm", {"reward_loss": name}) for name in REWARD_LOSSES]
LOSSES += [("dpo", {"loss": name}) for name in POLICY_LOSSES]
LOSSES += [("dpo", {"nll_weight": 0.5}), ("sft", {}), ("sft", {"train_on_prompt": True})]
SIZES = [9, 19, 24]  # pairs, 8 a step: one or three are left, or none
STOPS = [1, 2, 3, 4, 5]  # of six steps in two epochs
WAYS = [None, "zero2", "zero3"]
CURVES = ("loss", "accuracy", "margin", "eval_loss", "eval_accuracy", "eval_preference_loss")


@pytest.fixture
def make(settings, pairs_file, cache):
    """Settings for some processes, of a run with a name."""

    def make(kind: str, name: str, processes: int, **changes):
        evaluation = {"eval_dataset": str(pairs_file), "eval_split": "train", "max_eval": 9, "evaluations": 1}
        values = {"batch_size": 8 // processes, "lr_scheduler_type": "constant"} | evaluation | changes
        return settings(KINDS[kind], f"{name}-{kind}", **values)

    return make


def assert_same_curves(found, expected, what: object) -> None:
    for name in CURVES:
        values, wanted = ([p["value"] for p in result.curve(name)] for result in (found, expected))
        np.testing.assert_allclose(values, wanted, rtol=2e-4, atol=2e-5, err_msg=f"{what}: {name}")


@pytest.mark.full
@pytest.mark.distributed
@pytest.mark.parametrize("deepspeed", WAYS)
@pytest.mark.parametrize("pairs", SIZES)
def test_every_loss_and_size(make, deepspeed, pairs) -> None:
    own = {"max_train": pairs, "deepspeed": deepspeed}
    runs = [(kind, make(kind, f"two{n}", 2, **own, **loss)) for n, (kind, loss) in enumerate(LOSSES)]
    start(2, *runs, timeout=900)
    for number, (kind, loss) in enumerate(LOSSES):
        one = TRAIN[kind](make(kind, f"one{number}", 1, max_train=pairs, **loss))
        assert_same_curves(load_result(runs[number][1].output_dir), one, (kind, loss))


@pytest.mark.full
@pytest.mark.distributed
@pytest.mark.parametrize("deepspeed", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_after_each_step(make, deepspeed, kind) -> None:
    own = {"max_train": 19, "epochs": 2, "deepspeed": deepspeed}
    runs = []
    for step in STOPS:
        stopped = make(kind, f"stop{step}", 2, **own, max_steps=step, save_steps=step)
        resumed = stopped.model_copy(update={"max_steps": -1, "save_steps": 0, "resume": True})
        runs += [(kind, stopped), (kind, resumed)]
    start(2, *runs, timeout=900)
    whole = TRAIN[kind](make(kind, "whole", 1, max_train=19, epochs=2))
    wanted = [p["value"] for p in whole.curve("loss")]
    assert len(wanted) == 6
    for step, (_, config) in zip(STOPS, runs[1::2], strict=True):
        losses = [p["value"] for p in load_result(config.output_dir).curve("loss")]
        np.testing.assert_allclose(losses, wanted, rtol=2e-4, err_msg=f"stopped after {step}")


@pytest.mark.full
@pytest.mark.distributed
@pytest.mark.parametrize("deepspeed", ["zero0", "zero3_offload"])
def test_the_other_settings_files_train_as_one_process_does(make, deepspeed) -> None:
    config = make("rm", deepspeed, 2, max_train=19, deepspeed=deepspeed)
    start(2, ("rm", config), timeout=900)
    one = TRAIN["rm"](make("rm", "one", 1, max_train=19))
    assert_same_curves(load_result(config.output_dir), one, deepspeed)


@cache
def _is_there(tracker: str) -> bool:
    return importlib.util.find_spec(tracker) is not None


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_tracker_is_told_or_refused_before_anything_begins(make, tmp_path, monkeypatch, tracker) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    if not _is_there(tracker):
        with pytest.raises(ValueError, match=f"report_to: no package {tracker} here; pip install {tracker}"):
            make("rm", "told", 1, report_to=tracker)
        return
    TRAIN["rm"](make("rm", "told", 1, report_to=tracker, log_dir=tmp_path / "told", max_steps=1))
    files = {"tensorboard": "events.out.*", "wandb": "wandb/offline-run-*/*.wandb", "mlflow": "mlflow.db"}
    assert any(path.stat().st_size for path in (tmp_path / "told").glob(files[tracker]))


def test_unknown_trackers_and_schedules_are_refused_by_name(make) -> None:
    for changes, message in (
        ({"report_to": "tensorboard,nosuch"}, "report_to: no tracker 'nosuch'; choose from tensorboard"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type"),
        ({"seed": 2**32}, "seed"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=message):
            make("rm", "refused", 1, **changes)
