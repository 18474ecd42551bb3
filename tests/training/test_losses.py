"""Formulas of losses: worked examples, and the same pairs through TRL's own trainers."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from notebook_code import notebook_functions

from rlhf_hw.models.batches import build_batch
from rlhf_hw.models.forward import log_prob_batch, score_batch
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.training.config import DPOTraining
from rlhf_hw.training.losses import (
    bradley_terry,
    bradley_terry_margin,
    dpo,
    implicit_rewards,
    ipo,
    mean_square,
    robust_dpo,
    simpo,
)
from rlhf_hw.training.trainers import DPOTrainer

LN2 = math.log(2)


def pairs(*values: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_bradley_terry_by_hand() -> None:
    loss = bradley_terry(pairs((0.0, 0.0), (2.0, 1.0), (1.0, 2.0), (math.log(3), 0.0)))
    expected = [LN2, math.log(1 + math.exp(-1)), math.log(1 + math.e), math.log(4 / 3)]
    assert loss.tolist() == pytest.approx(expected)
    assert mean_square(pairs((3.0, 1.0), (-1.0, 0.0))).tolist() == [5.0, 0.5]
    smooth = bradley_terry(pairs((math.log(3), 0.0)), label_smoothing=0.1).item()
    assert smooth == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_bradley_terry_leaves_the_level_open() -> None:
    rewards = torch.randn(9, 2, dtype=torch.float64)
    torch.testing.assert_close(bradley_terry(rewards), bradley_terry(rewards + 5))
    assert bradley_terry(pairs((1e4, -1e4), (-1e4, 1e4))).tolist() == [0.0, 2e4]  # no overflow


def test_the_margin_by_hand() -> None:
    rewards = pairs((2.0, 1.0), (2.0, 1.0), (0.0, 0.0))
    loss = bradley_terry_margin(rewards, torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64))
    expected = [LN2, math.log(1 + math.exp(-1)), math.log(1 + math.exp(3))]
    assert loss.tolist() == pytest.approx(expected)
    assert bradley_terry_margin(rewards, 1.0).tolist() == pytest.approx([LN2, LN2, math.log(1 + math.e)])
    torch.testing.assert_close(bradley_terry_margin(rewards, 0.0), bradley_terry(rewards))


def test_simpo_by_hand() -> None:
    # replies of 10 and 4 tokens with log-probabilities of -5 and -3: -0.5 and -0.75 a token
    log_probs = pairs((-5.0 / 10, -3.0 / 4))
    assert simpo(log_probs, beta=2.0, gamma=0.5).item() == pytest.approx(LN2)  # 2 * 0.25 - 0.5 = 0
    assert simpo(log_probs, beta=4.0, gamma=0.0).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_dpo_by_hand() -> None:
    log_probs, reference = pairs((-10.0, -12.0)), pairs((-11.0, -11.0))  # h = 1 - (-1) = 2
    assert dpo(log_probs, reference, beta=0.5).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert ipo(log_probs, reference, beta=0.25).item() == pytest.approx((2 - 2) ** 2)
    assert ipo(log_probs, reference, beta=1.0).item() == pytest.approx(1.5**2)
    kept, flipped = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    robust = robust_dpo(log_probs, reference, beta=0.5, label_smoothing=0.1).item()
    assert robust == pytest.approx((0.9 * kept - 0.1 * flipped) / 0.8)
    cautious = dpo(log_probs, reference, beta=0.5, label_smoothing=0.1).item()
    assert cautious == pytest.approx(0.9 * kept + 0.1 * flipped)
    assert implicit_rewards(log_probs, reference, 0.5).tolist() == [[0.5, -0.5]]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_robust_dpo_is_unbiased(rate) -> None:
    """Averaged over flips at the assumed rate it is the loss on clean labels (Chowdhury et al. 2024)."""
    log_probs, reference = torch.randn(2, 50, 2, dtype=torch.float64)
    clean = dpo(log_probs, reference, beta=0.3)
    kept, flipped = (
        robust_dpo(lp, ref, beta=0.3, label_smoothing=rate)
        for lp, ref in ((log_probs, reference), (log_probs.flip(1), reference.flip(1)))
    )
    torch.testing.assert_close((1 - rate) * kept + rate * flipped, clean)


# The same pairs through TRL's own trainers

INDICES = [1, 8, 0, 5]


@pytest.fixture(scope="module")
def lists(groups) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompt, chosen and rejected ids of some pairs."""
    bounds = [groups.offsets[i] for i in INDICES]
    return [tuple(groups.ids[a:b].tolist() for a, b in zip(o, o[1:], strict=False)) for o in bounds]


def trl_arguments(folder) -> dict:
    plain = {"report_to": "none", "use_cpu": True, "bf16": False, "max_length": None}
    return plain | {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
    }


@pytest.mark.parametrize("margins", [None, [0.0, 0.5, 1.0, 3.0]])
def test_reward_loss_equals_trl(groups, lists, reward_folder, renderer, tmp_path, margins) -> None:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    data = [{"chosen_ids": p + c, "rejected_ids": p + r} for p, c, r in lists]
    for row, margin in zip(data, margins or [], strict=bool(margins)):
        row["margin"] = margin
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(reward_folder, dtype=torch.float32),
        args=RewardConfig(**trl_arguments(tmp_path)),
        train_dataset=Dataset.from_list(data),
        processing_class=renderer.tokenizer,
    )
    trainer.model.eval()
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, trainer.data_collator(data))
        batch = build_batch(groups, INDICES, renderer.pad_id)
        rewards = score_batch(load_reward_model(reward_folder), **batch)
    ours = bradley_terry_margin(rewards, torch.tensor(margins)) if margins else bradley_terry(rewards)
    ours = ours.mean()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert abs(ours.item() - LN2) > 0.01


def own_loss(log_probs: torch.Tensor, batch: dict, **settings) -> float:
    """The mean loss of a batch as our trainer computes it from log-probabilities."""
    ours = DPOTrainer.__new__(DPOTrainer)  # its loss alone: no training arguments, no data
    ours.config = DPOTraining(model="-", output_dir="unused", **{"beta": 0.2} | settings)
    units = ours.units(batch)
    each = ours.group_loss(log_probs, batch)[0].view(units.shape)
    return (each.sum(0) / units.sum(0)).sum().item()


@pytest.fixture(scope="module")
def trl_dpo(lists, policy_folder, other_folder, renderer, tmp_path_factory):
    """TRL's DPO trainer and a batch of the pairs."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    data = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in lists]
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (policy_folder, other_folder)
    )
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(beta=0.2, **trl_arguments(tmp_path_factory.mktemp("trl"))),
        train_dataset=Dataset.from_list([{"prompt": "tea?", "chosen": "warm", "rejected": "cold"}]),
        processing_class=renderer.tokenizer,
    )
    trainer.model.eval()
    return trainer, trainer.data_collator(data)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sigmoid", {}),
        ("sigmoid_norm", {"average_log_probs": True}),
        ("robust", {"loss": "robust", "label_smoothing": 0.1}),
        ("ipo", {"loss": "ipo", "average_log_probs": True}),  # TRL averages over tokens for this one
        ("apo_zero", {"loss": "kto"}),  # KTO with its reference point at 0
    ],
)
def test_dpo_losses_equal_trl(trl_dpo, groups, policy_folder, other_folder, renderer, theirs, ours) -> None:
    trainer, inputs = trl_dpo
    trainer.loss_types, trainer.label_smoothing = [theirs], ours.get("label_smoothing", 0.0)
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="replies")
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, dict(inputs)).item()
        log_probs, reference = (
            log_prob_batch(load_policy(f), **batch) for f in (policy_folder, other_folder)
        )
    found = own_loss(log_probs, batch | {"reference": reference}, **ours)
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-6), json.dumps([found, expected])


def test_the_notebook_from_scratch_computes_the_same(
    trl_dpo, lists, policy_folder, other_folder, renderer, monkeypatch
) -> None:
    trainer, inputs = trl_dpo
    monkeypatch.setattr(trainer, "loss_types", ["sigmoid"])
    monkeypatch.setattr(trainer, "label_smoothing", 0.0)
    made = notebook_functions("dpo_from_scratch")
    batch = made["collate"](lists, renderer.pad_id)
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, dict(inputs)).item()
        log_probs, reference = (
            made["reply_log_probs"](load_policy(f), batch) for f in (policy_folder, other_folder)
        )
    each = made["dpo_loss"](log_probs, reference, beta=0.2)
    assert each.mean().item() == pytest.approx(expected, abs=1e-5, rel=0)
    torch.testing.assert_close(each, dpo(log_probs, reference, beta=0.2), atol=1e-5, rtol=0)


def test_the_notebook_from_scratch_has_the_same_log_probabilities(
    groups, lists, policy_folder, renderer
) -> None:
    made = notebook_functions("dpo_from_scratch")
    with torch.no_grad():
        model = load_policy(policy_folder)
        found = made["reply_log_probs"](model, made["collate"](lists, renderer.pad_id))
        expected = log_prob_batch(model, **build_batch(groups, INDICES, renderer.pad_id, targets="replies"))
    torch.testing.assert_close(found, expected.view_as(found), atol=1e-4, rtol=1e-6)


def test_dpo_with_the_chosen_replies_likelihood_equals_trl(
    trl_dpo, groups, policy_folder, other_folder, renderer, monkeypatch
) -> None:
    trainer, inputs = trl_dpo
    monkeypatch.setattr(trainer, "loss_types", ["sigmoid", "sft"])
    monkeypatch.setattr(trainer, "loss_weights", [1.0, 0.2])
    monkeypatch.setattr(trainer, "label_smoothing", 0.0)
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="replies")
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, dict(inputs)).item()
        log_probs, reference = (
            log_prob_batch(load_policy(f), **batch) for f in (policy_folder, other_folder)
        )
    found = own_loss(log_probs, batch | {"reference": reference}, nll_weight=0.2)
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-6)


def test_simpo_equals_trl(groups, lists, policy_folder, renderer) -> None:
    from transformers import AutoModelForCausalLM
    from trl.experimental.cpo import CPOTrainer

    theirs = CPOTrainer.__new__(CPOTrainer)  # its loss alone
    theirs.loss_type, theirs.simpo_gamma, theirs.beta = "simpo", 0.7, 2.5
    theirs.label_smoothing, theirs.alpha = 0.0, 0.0
    theirs.accelerator = SimpleNamespace(device="cpu")
    model = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float32)
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="replies")
    with torch.no_grad():
        means = [
            [
                CPOTrainer.get_batch_logps(
                    model(torch.tensor([prompt + reply])).logits,
                    torch.tensor([[-100] * len(prompt) + reply]),
                    average_log_prob=True,
                )
                for reply in replies
            ]
            for prompt, *replies in lists
        ]
        chosen, rejected = (torch.cat(side) for side in zip(*means, strict=True))
        expected = theirs.cpo_loss(chosen, rejected)[0].mean().item()
        found = own_loss(
            log_prob_batch(load_policy(policy_folder), **batch), batch, loss="simpo", beta=2.5, gamma=0.7
        )
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-6)
