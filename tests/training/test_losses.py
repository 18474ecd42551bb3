import json
import math

import pytest
import torch

from rlhf_hw.models.batches import build_batch
from rlhf_hw.models.forward import log_prob_batch, score_batch
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.training.config import DPOTraining
from rlhf_hw.training.losses import bradley_terry, dpo, implicit_rewards
from rlhf_hw.training.trainers import DPOTrainer

LN2 = math.log(2)


def pairs(*values: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_bradley_terry_by_hand() -> None:
    loss = bradley_terry(pairs((0.0, 0.0), (2.0, 1.0), (1.0, 2.0), (math.log(3), 0.0)))
    expected = [LN2, math.log(1 + math.exp(-1)), math.log(1 + math.e), math.log(4 / 3)]
    assert loss.tolist() == pytest.approx(expected)
    assert bradley_terry(pairs((3.0, 1.0)), regularization=0.1).item() == pytest.approx(
        math.log(1 + math.exp(-2)) + 0.1 * (9 + 1) / 2
    )
    smooth = bradley_terry(pairs((math.log(3), 0.0)), label_smoothing=0.1).item()
    assert smooth == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_bradley_terry_leaves_the_level_open() -> None:
    rewards = torch.randn(9, 2, dtype=torch.float64)
    torch.testing.assert_close(bradley_terry(rewards), bradley_terry(rewards + 5))
    assert bradley_terry(pairs((1e4, -1e4), (-1e4, 1e4))).tolist() == [0.0, 2e4]  # no overflow


def test_dpo_by_hand() -> None:
    log_probs, reference = pairs((-10.0, -12.0)), pairs((-11.0, -11.0))  # h = 1 - (-1) = 2
    assert dpo(log_probs, reference, beta=0.5).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert dpo(log_probs, reference, beta=0.25, loss="ipo").item() == pytest.approx((2 - 2) ** 2)
    assert dpo(log_probs, reference, beta=1.0, loss="ipo").item() == pytest.approx(1.5**2)
    kept, flipped = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    robust = dpo(log_probs, reference, beta=0.5, loss="robust", label_smoothing=0.1).item()
    assert robust == pytest.approx((0.9 * kept - 0.1 * flipped) / 0.8)
    cautious = dpo(log_probs, reference, beta=0.5, label_smoothing=0.1).item()
    assert cautious == pytest.approx(0.9 * kept + 0.1 * flipped)
    assert implicit_rewards(log_probs, reference, 0.5).tolist() == [[0.5, -0.5]]
    with pytest.raises(ValueError, match="sigmoid, ipo, robust, found 'hinge'"):
        dpo(log_probs, reference, 0.1, loss="hinge")


def test_dpo_starts_at_ln_2() -> None:
    same = torch.randn(5, 2, dtype=torch.float64)
    assert dpo(same, same, beta=0.1).tolist() == pytest.approx([LN2] * 5)
    assert dpo(same, same, beta=0.1, label_smoothing=0.2).tolist() == pytest.approx([LN2] * 5)
    assert dpo(same, same, beta=0.1, loss="robust", label_smoothing=0.2).tolist() == pytest.approx([LN2] * 5)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_robust_dpo_is_unbiased(rate) -> None:
    """Averaged over flips at the assumed rate it is the loss on clean labels (Chowdhury et al. 2024)."""
    log_probs, reference = torch.randn(2, 50, 2, dtype=torch.float64)
    clean = dpo(log_probs, reference, beta=0.3)
    kept, flipped = (
        dpo(lp, ref, beta=0.3, loss="robust", label_smoothing=rate)
        for lp, ref in ((log_probs, reference), (log_probs.flip(1), reference.flip(1)))
    )
    torch.testing.assert_close((1 - rate) * kept + rate * flipped, clean)


@pytest.mark.parametrize("loss", ["bradley_terry", "sigmoid", "ipo", "robust"])
def test_gradients_raise_the_chosen_and_lower_the_rejected(loss) -> None:
    # IPO pulls back once h passes 1 / (2 beta) = 5, so the differences stay below 2
    values = (torch.rand(20, 2, dtype=torch.float64) * 2 - 1).requires_grad_()
    each = (
        bradley_terry(values) if loss == "bradley_terry" else dpo(values, torch.zeros_like(values), 0.1, loss)
    )
    each.sum().backward()
    assert (values.grad[:, 0] < 0).all() and (values.grad[:, 1] > 0).all()
    torch.testing.assert_close(values.grad.sum(1), torch.zeros(20, dtype=torch.float64))


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


def test_reward_loss_equals_trl(groups, lists, reward_folder, renderer, tmp_path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    data = [{"chosen_ids": p + c, "rejected_ids": p + r} for p, c, r in lists]
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
        ours = bradley_terry(score_batch(load_reward_model(reward_folder), **batch)).mean()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert abs(ours.item() - LN2) > 0.01


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
    ("theirs", "ours", "smoothing", "average"),
    [
        ("sigmoid", "sigmoid", 0.0, False),
        ("sigmoid_norm", "sigmoid", 0.0, True),
        ("robust", "robust", 0.1, False),
        ("ipo", "ipo", 0.0, True),  # TRL averages over tokens for this one
    ],
)
def test_dpo_losses_equal_trl(
    trl_dpo, groups, policy_folder, other_folder, renderer, theirs, ours, smoothing, average
) -> None:
    trainer, inputs = trl_dpo
    trainer.loss_types, trainer.label_smoothing = [theirs], smoothing
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="replies")
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, dict(inputs)).item()
        log_probs, reference = (
            log_prob_batch(load_policy(f), **batch) for f in (policy_folder, other_folder)
        )
    if average:
        lengths = torch.from_numpy(groups.reply_lengths[INDICES])
        log_probs, reference = log_probs / lengths, reference / lengths
    found = dpo(log_probs, reference, beta=0.2, loss=ours, label_smoothing=smoothing).mean().item()
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-6), json.dumps([found, expected])


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
    ours = DPOTrainer.__new__(DPOTrainer)  # its loss alone: no training arguments, no data
    ours.config = DPOTraining(model="-", output_dir="-", beta=0.2, nll_weight=0.2)
    found = ours.group_loss(log_probs, batch | {"reference": reference})[0].mean().item()
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-6)
