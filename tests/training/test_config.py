"""Settings: what they read as empty, what they refuse, and the DeepSpeed files they name."""

import json

import pytest
from pydantic import ValidationError

from rlhf_hw.training import distributed
from rlhf_hw.training.config import DPOTraining, RewardTraining


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
        {"beta": 0},
        {"loss": "hinge"},
        {"label_smoothing": 0.5},
        {"batch_size": 0},
        {"dtype": "fp16"},
    ],
)
def test_config_refuses_what_it_does_not_know(change) -> None:
    with pytest.raises(ValidationError):
        DPOTraining(model="m", output_dir="o", **change)


def test_deepspeed_files() -> None:
    assert distributed.deepspeed_file(None) is None
    assert json.loads(open(distributed.deepspeed_file("zero2")).read())["zero_optimization"]["stage"] == 2
    with pytest.raises(FileNotFoundError, match="none of zero0, zero2"):
        distributed.deepspeed_file("zero9")
