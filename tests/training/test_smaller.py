"""Smaller trainings are the full one's but for their pairs; their sizes come from a text."""

import pytest

from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.smaller import curve_sizes, smaller


def test_a_smaller_model_differs_in_its_pairs_alone(tmp_path):
    full = RewardTraining(
        model="base",
        output_dir=tmp_path / "full",
        log_dir=tmp_path / "logs",
        train_dataset="data/nano",
        eval_dataset="data/nano",
        max_train=16,
        skip_train=32,
        learning_rate=1e-2,
        resume=True,
        save_steps=5,
        seed=4,
    )
    found = smaller(full, 8, tmp_path / "8")
    assert (found.max_train, found.output_dir, found.eval_dataset) == (8, tmp_path / "8", None)
    assert not found.resume and not found.save_steps and found.report_to == "none" and found.log_dir is None
    same = ("model", "train_dataset", "skip_train", "learning_rate", "seed", "batch_size", "epochs")
    assert all(getattr(found, name) == getattr(full, name) for name in same)


def test_sizes_are_numbers_below_the_full_model(caplog):
    assert curve_sizes("1500, 500,", 6000) == [500, 1500]
    assert curve_sizes("500", 6000) == [500] and not caplog.records
    assert curve_sizes("6000,500", 6000) == [500]
    assert curve_sizes("1000", 256) == []
    assert "the full model has 256 pairs" in caplog.text
    for text in ("a few", "0,500", "-3", "1.5"):
        with pytest.raises(ValueError, match="expected numbers such as"):
            curve_sizes(text, 6000)
