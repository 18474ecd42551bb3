"""Losses that read more than the difference of two log-ratios: R-DPO, DPOP, KTO, ORPO."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from rlhf_hw.training.config import DPOTraining
from rlhf_hw.training.loss_table import POLICY_LOSSES, Pairs
from rlhf_hw.training.losses import dpo, dpop, kto, length_dpo, orpo

LN2 = math.log(2)
OF_ONE = torch.tensor([[-10.0, -12.0]], dtype=torch.float64)  # log-probabilities of one pair
REFERENCE = torch.tensor([[-9.0, -9.0]], dtype=torch.float64)  # log-ratios of -1 and -3: h = 2


def slopes(loss, *others) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of random pairs and their gradients by the log-probabilities."""
    values = (-5 * torch.rand(40, 2, dtype=torch.float64) - 0.1).requires_grad_()
    found = loss(values, *others)
    found.sum().backward()
    return found.detach(), values.grad


def test_a_longer_chosen_reply_has_won_part_of_its_margin_by_its_length() -> None:
    lengths = torch.tensor([[7, 3]])
    assert length_dpo(OF_ONE, REFERENCE, lengths, 0.5, 0.25).item() == pytest.approx(math.log1p(math.exp(-2)))
    torch.testing.assert_close(length_dpo(OF_ONE, REFERENCE, lengths, 0.5, 0.0), dpo(OF_ONE, REFERENCE, 0.5))
    # its optimum where a share of 0.8 prefers the longer one: rewards are apart by logit 0.8
    best = torch.tensor([[(math.log(4) - 0.25 * (7 - 3)) / 0.5, 0.0]], dtype=torch.float64).requires_grad_()
    zeros = torch.zeros_like(best)
    kept = length_dpo(best, zeros, lengths, 0.5, 0.25)
    lost = length_dpo(best.flip(1), zeros, lengths.flip(1), 0.5, 0.25)
    (0.8 * kept + 0.2 * lost).sum().backward()
    torch.testing.assert_close(best.grad, zeros)


def test_dpop_pulls_up_a_chosen_reply_that_has_lost() -> None:
    # beta (h - lambda * 1) = 0.5 * (2 - 3 * 1)
    assert dpop(OF_ONE, REFERENCE, 0.5, 3.0).item() == pytest.approx(math.log1p(math.exp(0.5)))
    torch.testing.assert_close(dpop(OF_ONE, REFERENCE, 0.5, 0.0), dpo(OF_ONE, REFERENCE, 0.5))
    won = OF_ONE + 2  # log-ratios of 1 and -1: nothing is lost
    torch.testing.assert_close(dpop(won, REFERENCE, 0.5, 3.0), dpo(won, REFERENCE, 0.5))
    reference = torch.full((40, 2), -2.5, dtype=torch.float64)
    torch.manual_seed(0)
    plain = slopes(dpo, reference, 0.5)[1]
    torch.manual_seed(0)
    values = -5 * torch.rand(40, 2, dtype=torch.float64) - 0.1
    torch.manual_seed(0)
    each, found = slopes(dpop, reference, 0.5, 3.0)
    lost = values[:, 0] < reference[:, 0]
    assert lost.any() and not lost.all()
    torch.testing.assert_close(found[~lost], plain[~lost])
    ratio = found[lost, 0] / found[lost, 1]  # four times as much up as down
    torch.testing.assert_close(ratio, torch.full_like(ratio, -4.0))


def test_kto_by_hand_and_the_signs_of_its_gradients() -> None:
    point = 0.5  # beta (rho - z_0): -0.75 and -1.75
    expected = 1 / (1 + math.exp(-0.75)) + 1 / (1 + math.exp(1.75))
    assert kto(OF_ONE, REFERENCE, 0.5, point).item() == pytest.approx(expected)
    assert kto(REFERENCE, REFERENCE, 0.5).item() == 1.0
    reference = torch.full((40, 2), -2.5, dtype=torch.float64)
    each, found = slopes(kto, reference, 2.0)
    assert ((each > 0) & (each < 2)).all()
    assert (found[:, 0] < 0).all() and (found[:, 1] > 0).all()
    # most is to be gained at the reference point, little on both sides of it
    rho = torch.tensor([-8.0, -1.0, 0.0, 1.0, 8.0], dtype=torch.float64)
    pull = torch.stack([rho, rho], dim=1).requires_grad_()
    kto(pull, torch.zeros_like(pull), 1.0).sum().backward()
    up = -pull.grad[:, 0]
    assert up.argmax() == 2 and up[0] < 0.01 and up[4] < 0.01
    torch.testing.assert_close(up, pull.grad[:, 1])


def trl_kto(policy: torch.Tensor, reference: torch.Tensor, beta: float, point: float) -> float:
    """The loss that TRL's KTO trainer computes of pairs with these log-probabilities, shape (B, 2)."""
    from trl import KTOTrainer

    sums, size = policy.T.reshape(-1, 1), policy.numel()  # all chosen first, one token a reply
    ones = torch.ones(size, 2, dtype=torch.long)
    trainer = KTOTrainer.__new__(KTOTrainer)  # its loss alone, told what models would say
    trainer.beta, trainer.loss_type = beta, "kto"
    trainer.model = SimpleNamespace(training=False)
    trainer.calculate_KL = trainer.precompute_ref_logps = True
    trainer.aux_loss_enabled = False
    trainer.desirable_weight = trainer.undesirable_weight = 1.0
    trainer.accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda value: value)
    trainer._metrics = {"eval": defaultdict(list)}
    trainer._total_train_tokens = 0
    trainer._compute_kl_logps = lambda model, batch: torch.full((size,), point)
    inputs = {name: ones for name in ("input_ids", "attention_mask", "completion_mask")} | {
        "label": torch.arange(size) < len(policy),
        "ref_logps": reference.T.reshape(-1),
        "ref_KL_logps": torch.zeros(size),
    }
    said = SimpleNamespace(log_probs=sums, entropy=sums, mean_logits=sums)
    return trainer._compute_loss(lambda **_: said, inputs, return_outputs=False).item()


@pytest.mark.parametrize("point", [0.0, 0.7])
def test_kto_equals_trl(point) -> None:
    policy, reference = -10 * torch.rand(2, 6, 2)
    ours = kto(policy, reference, 0.3, point).mean() / 2  # theirs is a mean over replies
    assert ours.item() == pytest.approx(trl_kto(policy, reference, 0.3, point), abs=1e-5)


def test_orpo_by_hand() -> None:
    means = torch.log(torch.tensor([[0.5, 0.25]], dtype=torch.float64))  # odds of 1 and 1/3
    assert orpo(means).item() == pytest.approx(math.log(4 / 3))
    assert orpo(means[:, :1].expand(1, 2)).item() == pytest.approx(LN2)
    certain = torch.tensor([[0.0, -1.0], [-1.0, 0.0], [-1e-9, -50.0]], dtype=torch.float64)
    assert torch.isfinite(orpo(certain)).all()
    config = DPOTraining(model="-", output_dir="unused", loss="orpo", beta=0.25)
    value = POLICY_LOSSES["orpo"].value(Pairs(means, torch.ones(1, 2)), config)
    assert value.item() == pytest.approx(0.25 * math.log(4 / 3))


def test_orpo_equals_trl() -> None:
    from trl.experimental.orpo import ORPOTrainer

    theirs = ORPOTrainer.__new__(ORPOTrainer)  # its loss alone
    theirs.beta, theirs.accelerator = 0.3, SimpleNamespace(device="cpu")
    means = -3 * torch.rand(8, 2) - 0.01
    expected = -theirs.odds_ratio_loss(means[:, 0], means[:, 1])[0]
    torch.testing.assert_close(0.3 * orpo(means), expected, atol=1e-5, rtol=0)
