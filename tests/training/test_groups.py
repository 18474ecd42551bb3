"""Data of the pairs' own on its way into a loss, and what is missing there."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.group_trainer import GroupTrainer
from rlhf_hw.training.groups import load_groups, read_column
from rlhf_hw.training.run import train_reward_model


@pytest.fixture
def rated_file(rows, tmp_path):
    """Write the rows with a strength of preference: 1, 2 or 3 by their number, or one value for all."""

    def write(strength: float | None = None):
        path = tmp_path / f"rated-{strength}.jsonl"
        rated = [
            row | {"metadata": {"strength": number % 3 + 1 if strength is None else strength}}
            for number, row in enumerate(rows)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rated), encoding="utf-8")
        return str(path)

    return write


def test_a_column_follows_its_pairs(settings, rated_file, tokenizer, renderer) -> None:
    config = settings(RewardTraining, train_dataset=rated_file(), reward_loss="margin", margin_key="strength")
    groups, _ = load_groups(config, renderer, "train")
    assert groups.columns["strength"].tolist() == [1.0, 2.0, 3.0] * 8
    assert groups.select([4, 0]).columns["strength"].tolist() == [2.0, 1.0]
    short = Renderer(tokenizer, max_reply_tokens=3)  # makes some pairs equal, which are dropped
    preferences, _ = load_preferences(config.train_dataset, "HOMEWORK")
    _, kept, _ = tokenize_preferences(preferences, short)
    groups, report = load_groups(config, short, "train")
    assert groups.columns["strength"].tolist() == [number % 3 + 1 for number in kept]
    assert len(kept) == report.used


def test_a_loss_that_reads_no_data_gets_none(settings, rated_file, renderer) -> None:
    groups, _ = load_groups(settings(RewardTraining, train_dataset=rated_file()), renderer, "train")
    assert groups.columns == {}


def test_the_margin_of_each_pair_comes_from_its_data(settings, rated_file) -> None:
    def curves(name: str, **changes):
        changes = {"train_dataset": rated_file(), "eval_split": "train", "max_steps": 6} | changes
        result = train_reward_model(
            settings(RewardTraining, name, **changes | {"eval_dataset": changes["train_dataset"]})
        )
        return {
            key: [p["value"] for p in result.curve(key)]
            for key in ("loss", "eval_loss", "eval_target_margin")
        }

    read = {"reward_loss": "margin", "margin_key": "strength"}
    third = curves("third", margin=1 / 3, **read)
    assert third["eval_target_margin"] == pytest.approx([2 / 3] * len(third["eval_target_margin"]))
    plain = curves("plain")
    none = curves("none", train_dataset=rated_file(0.0), **read)
    assert none["loss"] == pytest.approx(plain["loss"]) and none["eval_loss"] == pytest.approx(
        plain["eval_loss"]
    )
    column = curves("column", train_dataset=rated_file(2.0), **read)
    constant = curves("constant", reward_loss="margin", margin=2.0)
    assert column == constant and column["eval_loss"][0] > plain["eval_loss"][0] + 0.5


def test_deepspeed_does_not_round_what_the_loss_reads() -> None:
    trainer = GroupTrainer.__new__(GroupTrainer)
    trainer.args, trainer.is_deepspeed_enabled = SimpleNamespace(device="cpu"), True
    exact = torch.tensor([-123.4567])
    batch = trainer._prepare_input(
        {"reference": exact, "columns": {"strength": exact}, "ids": torch.tensor([1])}
    )
    assert torch.equal(batch["reference"], exact) and torch.equal(batch["columns"]["strength"], exact)


@pytest.mark.parametrize(
    ("key", "meta", "message"),
    [
        (
            "strenght",
            {"strength": 1},
            r"pairs.jsonl, row 3, key 'strenght': .* which has \['strength'\]; name one",
        ),
        (
            "strength",
            {"strength": "much"},
            "row 3, key 'strength': the loss needs a finite number, found 'much'",
        ),
        ("strength", {"strength": float("nan")}, "finite number, found nan"),
        ("strength", {"strength": None}, "finite number, found None"),
        ("strength", {"strength": 1e39}, r"finite number, found 1e\+39"),  # infinite in fp32
        ("strength", {"strength": 10**400}, "finite number, found 1000"),
    ],
)
def test_what_is_no_number_is_named_with_its_row(preferences, key, meta, message) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        read_column([replace(preferences[3], meta=meta)], key, "pairs.jsonl")


def test_numbers_of_any_kind_are_read(preferences) -> None:
    given = [replace(preferences[0], meta={"gold": value}) for value in (1, 0.5, np.float32(2))]
    assert read_column(given, "gold", "x").tolist() == [1.0, 0.5, 2.0]
