"""Entries of the table of losses do what they say, and training without a reference model works."""

import math
import re

import numpy as np
import pytest
import torch

from rlhf_hw.models.batches import build_batch
from rlhf_hw.paths import ROOT
from rlhf_hw.training import run
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.loss_table import POLICY_LOSSES, Pairs
from rlhf_hw.training.trainers import DPOTrainer, RewardTrainer, lengths_in_tokens

ENTRIES = [(kind, loss) for kind in (RewardTraining, DPOTraining) for loss in kind.LOSSES.values()]
EACH = pytest.mark.parametrize(("kind", "loss"), ENTRIES, ids=[loss.name for _, loss in ENTRIES])


def config_of(kind, name: str, **settings):
    return kind(model="m", output_dir="o", **{kind.LOSS_SETTING: name} | settings)


def pairs_of(outputs: torch.Tensor) -> Pairs:
    return Pairs(outputs, torch.full(outputs.shape, 7), torch.zeros_like(outputs))


def group_loss(kind, config, outputs, batch):
    trainer_class = {RewardTraining: RewardTrainer, DPOTraining: DPOTrainer}[kind]
    trainer = trainer_class.__new__(trainer_class)  # its loss alone: no training arguments, no data
    trainer.config = config
    return trainer.group_loss(outputs, batch)


@EACH
def test_a_tie_costs_what_the_entry_says(kind, loss) -> None:
    config = config_of(kind, loss.name)
    ties = -torch.rand(5, 1, dtype=torch.float64).expand(5, 2)
    if loss.own_level and loss.needs_reference:
        ties = torch.zeros(5, 2, dtype=torch.float64)
    if loss.tie(config) is not None:
        assert loss.value(pairs_of(ties), config).tolist() == pytest.approx([loss.tie(config)] * 5)
    assert loss.at_start(config) == (loss.tie(config) if loss.needs_reference else None)


@EACH
def test_gradients_raise_the_chosen_and_lower_the_rejected(kind, loss) -> None:
    # IPO pulls back once h passes 1 / (2 beta) = 5, so the differences stay below 2
    values = (torch.rand(20, 2, dtype=torch.float64) * -2 - 0.1).requires_grad_()
    loss.value(pairs_of(values), config_of(kind, loss.name)).sum().backward()
    assert (values.grad[:, 0] < 0).all() and (values.grad[:, 1] > 0).all()
    no_level = values.grad.sum(1).abs() < 1e-12
    assert not no_level.any() if loss.own_level else no_level.all()


@EACH
def test_a_tie_counts_one_half_in_the_accuracy(kind, loss, groups, renderer) -> None:
    batch = build_batch(groups, range(4), renderer.pad_id, targets="replies")
    lengths = lengths_in_tokens(batch)
    outputs = -(lengths * torch.tensor([[2.0, 2.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]))
    if kind is RewardTraining:  # its outputs are not shared among tokens
        outputs = outputs / lengths
    reference = torch.stack([outputs[:, 0], outputs[:, 0]], dim=1)
    if loss.needs_reference:
        outputs = reference + torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    _, measured = group_loss(kind, config_of(kind, loss.name), outputs, batch | {"reference": reference})
    assert measured["accuracy"].tolist() == [0.5, 1.0, 0.0, 0.5]
    assert measured["margin"].sign().tolist() == [0.0, 1.0, -1.0, 0.0]


@EACH
def test_its_settings_exist_and_the_docs_name_it(kind, loss) -> None:
    assert set(loss.settings) <= set(kind.model_fields)
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    line = re.search(rf"^\| `{loss.name}` .*$", page, re.MULTILINE)
    assert line and all(f"`{name}`" in line.group() for name in loss.settings)


OF_DPO = " or ".join(name for name, loss in POLICY_LOSSES.items() if loss.needs_reference)
OF_SUMS = " or ".join(
    name for name, loss in POLICY_LOSSES.items() if loss.needs_reference and not loss.token_weights
)


@pytest.mark.parametrize(
    ("kind", "name", "settings", "owners"),
    [
        (DPOTraining, "ipo", {"label_smoothing": 0.3}, "sigmoid or robust"),
        (DPOTraining, "sigmoid", {"gamma": 1.0}, "simpo"),
        (DPOTraining, "sigmoid", {"length_alpha": 0.1}, "length_dpo"),
        (DPOTraining, "kto", {"dpop_lambda": 50.0}, "dpop"),
        (DPOTraining, "sampo", {"ld_alpha": 0.3}, "ld_dpo"),
        (DPOTraining, "ld_dpo", {"average_log_probs": True}, OF_SUMS),
        (DPOTraining, "orpo", {"reference_model": "base"}, OF_DPO),
        (DPOTraining, "simpo", {"average_log_probs": True}, OF_SUMS),
        (DPOTraining, "simpo", {"reference_model": "base"}, OF_DPO),
        (RewardTraining, "bradley_terry", {"margin_key": "strength"}, "margin"),
        (RewardTraining, "margin", {"label_smoothing": 0.1}, "bradley_terry"),
    ],
)
def test_a_setting_of_another_loss_is_refused(kind, name, settings, owners) -> None:
    with pytest.raises(ValueError, match=f"has no such setting; choose {kind.LOSS_SETTING} {owners}, or"):
        config_of(kind, name, **settings)
    defaults = {setting: kind.model_fields[setting].default for setting in settings}
    assert config_of(kind, name, **defaults).loss_entry.name == name  # as a notebook passes all it declares


def test_help_names_the_losses_of_a_setting() -> None:
    assert DPOTraining.describe("label_smoothing").endswith("(of loss sigmoid, robust)")
    assert "of loss" not in DPOTraining.describe("beta") + DPOTraining.describe("nll_weight")
    assert all(f"{name} (" in DPOTraining.describe("loss") for name in DPOTraining.LOSSES)


def test_average_log_probs_divide_by_the_replys_length(groups, renderer) -> None:
    config = config_of(DPOTraining, "sigmoid", average_log_probs=True, beta=0.7)
    batch = build_batch(groups, range(6), renderer.pad_id, targets="replies")
    log_probs, reference = -10 * torch.rand(2, 6, 2)
    each, measured = group_loss(DPOTraining, config, log_probs, batch | {"reference": reference})
    lengths = torch.from_numpy(groups.reply_lengths[:6])
    expected = config.loss_entry.value(Pairs(log_probs / lengths, lengths, reference / lengths), config)
    torch.testing.assert_close(each, expected)
    torch.testing.assert_close(measured["chosen_logp"], (log_probs / lengths)[:, 0])


def test_simpo_trains_without_a_reference_model(settings, pairs_file, monkeypatch) -> None:
    monkeypatch.setattr(run, "reference_log_probs", lambda *_: pytest.fail("a reference model was asked for"))
    config = settings(
        DPOTraining,
        loss="simpo",
        beta=2.0,
        gamma=0.5,
        epochs=4,
        eval_dataset=str(pairs_file),
        eval_split="train",
    )
    result = run.train_dpo(config)
    start, end = (result.curve("eval_preference_loss")[at]["value"] for at in (0, -1))
    assert end < start - 0.05 and abs(start - math.log(2)) > 1e-3
    assert result.curve("eval_accuracy")[-1]["value"] > 0.9
    for side in ("chosen", "rejected"):  # its rewards: beta times the log-probability of a token
        rewards, log_probs = (
            [point["value"] for point in result.curve(f"eval_{side}_{name}")] for name in ("reward", "logp")
        )
        np.testing.assert_allclose(rewards, 2.0 * np.array(log_probs), rtol=1e-5)


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_a_loss_reads_nothing_of_the_prompt(name, groups, renderer) -> None:
    config = config_of(DPOTraining, name, beta=2.0, nll_weight=1.0)
    batch = build_batch(groups, range(6), renderer.pad_id, targets="replies")
    np.testing.assert_array_equal(lengths_in_tokens(batch), groups.reply_lengths[:6])
    log_probs = -10 * torch.rand(6, 2)
    short = {
        "segment_ids": batch["segment_ids"].where(batch["segment_ids"] != 0, -1),  # as if without a prompt
        "ends": torch.from_numpy(groups.reply_lengths[:6].cumsum(axis=1) - 1),
    }
    reference = {"reference": -10 * torch.rand(6, 2)}
    losses = [group_loss(DPOTraining, config, log_probs, one | reference)[0] for one in (batch, short)]
    torch.testing.assert_close(*losses, rtol=0, atol=0)
