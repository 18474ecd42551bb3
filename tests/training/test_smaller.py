"""Trainings on some of the pairs are the full one's but for these: the first ones, or those of one part."""

import pytest

from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.smaller import curve_sizes, data_by_part, parts_with_models, smaller, sources_by_part


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


def test_a_part_has_its_sources_and_no_others():
    sources = "hub/hh//helpful-base, hub/hh//harmless-base,hub/hh//helpful-online"
    assert sources_by_part(sources, "harmless, helpful") == {
        "harmless": "hub/hh//harmless-base",
        "helpful": "hub/hh//helpful-base, hub/hh//helpful-online",
    }
    found = data_by_part("helpful, harmless", train_dataset=sources, eval_dataset="a/harmless, a/helpful")
    assert list(found) == ["helpful", "harmless"], "the first part is the first that is named"
    assert found["harmless"] == {"train_dataset": "hub/hh//harmless-base", "eval_dataset": "a/harmless"}
    assert data_by_part("", train_dataset=sources) == {"": {}}


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ("a/helpful-base", "no source belongs to harmless"),
        ("a/helpful-base, a/harmless, a/honest", "a/honest belongs to no part"),
        ("a/helpful, a/harmless, a/helpful-harmless, b/x", "b/x belongs to no part"),
        ("", "no source belongs to helpful, harmless"),
    ],
)
def test_a_source_without_a_part_and_a_part_without_a_source_are_refused(sources, told):
    with pytest.raises(ValueError, match=f"own_models: .*{told}.*set own_models to false"):
        sources_by_part(sources, "helpful, harmless")
    with pytest.raises(ValueError, match="a/helpful belongs to helpful and help"):
        sources_by_part("a/helpful", "helpful, help")


def test_models_of_parts_need_parts():
    assert parts_with_models(True, "helpful, harmless") == "helpful, harmless"
    assert parts_with_models(False, "helpful, harmless") == parts_with_models(False, "") == ""
    for names in ("", " , "):
        with pytest.raises(ValueError, match="own_models: .* `parts` names none; name them"):
            parts_with_models(True, names)
