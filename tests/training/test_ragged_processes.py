"""Two processes do what one does where pairs do not fill the last batch, and going on in mid-epoch."""

import numpy as np
import pytest

from rlhf_hw.training.checkpoints import load_result
from rlhf_hw.training.config import DPOTraining, RewardTraining, SupervisedTraining
from rlhf_hw.training.launch import TRAIN
from tests.training.several_processes import start

pytestmark = pytest.mark.distributed

KINDS = {"rm": RewardTraining, "dpo": DPOTraining, "sft": SupervisedTraining}
# SamPO draws tokens, which have to be the same ones on any number of processes
RAGGED = {"rm": {}, "dpo": {"nll_weight": 0.5, "loss": "sampo"}, "sft": {}}
THREE_EPOCHS = {"epochs": 3, "lr_scheduler_type": "constant", "gradient_accumulation_steps": 2}


@pytest.fixture
def make(settings, pairs_file):
    """Settings of 19 pairs: 8, 8 and 3 a step, and 9 for evaluation, for some processes."""

    def make(kind: str, name: str, processes: int, **changes):
        evaluation = {"eval_dataset": str(pairs_file), "eval_split": "train", "max_eval": 9, "evaluations": 1}
        batch = 8 // processes // changes.get("gradient_accumulation_steps", 1)
        values = {"max_train": 19, "batch_size": batch} | evaluation | changes
        return settings(KINDS[kind], f"{name}-{kind}", **values)

    return make


def assert_same_curves(folder, expected) -> None:
    found = load_result(folder)
    for name in ("loss", "accuracy", "eval_loss", "eval_accuracy", "eval_preference_loss"):
        values, wanted = ([p["value"] for p in result.curve(name)] for result in (found, expected))
        np.testing.assert_allclose(values, wanted, rtol=2e-4, atol=2e-5, err_msg=name)


def test_ragged_batches_and_a_second_epoch(make, cache) -> None:
    runs, ragged, resumed = [], [], []
    for deepspeed in (None, "zero2"):
        own = {"deepspeed": deepspeed}
        ragged += [
            (kind, make(kind, f"two-{deepspeed}", 2, **changes, **own)) for kind, changes in RAGGED.items()
        ]
        stopped = make("rm", f"epochs-{deepspeed}", 2, **THREE_EPOCHS, **own, max_steps=4, save_steps=4)
        resumed.append(stopped.model_copy(update={"max_steps": -1, "save_steps": 0, "resume": True}))
        runs += [*ragged[-len(RAGGED) :], ("rm", stopped), ("rm", resumed[-1])]
    start(2, *runs, torchrun=True)
    expected = {kind: TRAIN[kind](make(kind, "one", 1, **changes)) for kind, changes in RAGGED.items()}
    for kind, config in ragged:
        assert expected[kind].metrics["steps"] == 3
        assert_same_curves(config.output_dir, expected[kind])
    whole = TRAIN["rm"](make("rm", "whole", 1, **THREE_EPOCHS, evaluations=9))
    wanted = [point["value"] for point in whole.curve("loss")]
    assert len(wanted) == 9
    for config in resumed:
        losses = [point["value"] for point in load_result(config.output_dir).curve("loss")]
        np.testing.assert_allclose(losses, wanted, rtol=2e-4, err_msg=str(config.deepspeed))
