"""The three kinds of training: what a batch holds, what the loss of a group is and what is logged of it.

Pairs are trained on with the loss that the settings name, an entry of `loss_table`.
"""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_hw.models.batches import build_batch
from rlhf_hw.training import losses
from rlhf_hw.training.config import DPOTraining, LanguageModelTraining, PairTraining, RewardTraining
from rlhf_hw.training.group_trainer import GroupTrainer
from rlhf_hw.training.loss_table import Pairs
from rlhf_hw.training.muon import MuonWithAdamW

TIE = 0.5  # what a pair of equal rewards adds to the accuracy
# Rewards that differ by less than this share of what they were computed from differ by rounding alone
ROUNDING = 16 * torch.finfo(torch.float32).eps


def lengths_in_tokens(batch: dict[str, Tensor]) -> Tensor:
    """Tokens of the replies of a shared-prompt batch, shape (B, K)."""
    prompt_ends = (batch["segment_ids"] == 0).sum(1, keepdim=True) - 1
    return batch["ends"].diff(dim=1, prepend=prompt_ends)


def reward_measures(rewards: Tensor, size: Tensor, name: str) -> dict[str, Tensor]:
    """What is logged of the rewards of both replies: accuracy, margin and the rewards.

    Args:
        rewards: Shape (B, 2), chosen first.
        size: How large the numbers are that they were computed from, shape (B, 2): an implicit reward is a
            small difference of two large log-probabilities. Ties within their rounding count one half.
        name: What the rewards are called.
    """
    margin = losses.difference(rewards)
    tie = margin.abs() <= ROUNDING * size.sum(1)
    return {
        "accuracy": (margin > 0).float().masked_fill(tie, TIE),
        "margin": margin,
        f"chosen_{name}": rewards[:, 0],
        f"rejected_{name}": rewards[:, 1],
    }


def without_dropout(model: nn.Module) -> None:
    """Switch off all that a model draws at random in training; the configuration it is saved with stays.

    The two replies of a pair would meet other masks, and a policy would not equal its reference at the start.
    """
    quiet: dict[int, Any] = {}
    for module in model.modules():
        for name in ["p"] if isinstance(module, nn.Dropout) else random_rates(module):
            setattr(module, name, 0.0)
        config = vars(module).get("config")
        if module is not model and random_rates(config):  # Falcon's layers ask it in each pass
            if id(config) not in quiet:
                quiet[id(config)] = copy(config)
                for name in random_rates(config):
                    setattr(quiet[id(config)], name, 0.0)
            module.config = quiet[id(config)]


def random_rates(owner: Any) -> list[str]:
    """Names of an object's rates of dropout, and of noise in the choice of experts, that are not 0."""
    rates = {n: v for n, v in getattr(owner, "__dict__", {}).items() if isinstance(v, float) and v}
    return [name for name in rates if "drop" in name or "jitter" in name]


class PairTrainer(GroupTrainer):
    """Training on preference pairs with the loss that the settings name, see `loss_table`."""

    config: PairTraining

    def __init__(self, config: PairTraining, model: nn.Module, *args, **kwargs):
        if not config.dropout:
            without_dropout(model)
        super().__init__(config, model, *args, **kwargs)

    def collate(self, groups, part, indices):
        batch = super().collate(groups, part, indices)
        columns = {name: torch.from_numpy(values[indices]) for name, values in groups.columns.items()}
        return batch | {"columns": columns} if columns else batch


class RewardTrainer(PairTrainer):
    """Training of a reward model."""

    config: RewardTraining

    def group_loss(self, outputs, batch):
        config, loss = self.config, self.config.loss_entry
        pairs = Pairs(outputs, lengths_in_tokens(batch), columns=batch.get("columns", {}))
        each = loss.value(pairs, config) + config.reward_regularization * losses.mean_square(outputs)
        rewards = loss.rewards(pairs, config)
        return each, reward_measures(rewards, rewards.abs(), "score") | loss.logs(pairs, config)


class DPOTrainer(PairTrainer):
    """Direct preference optimization, and its relatives without a reference model.

    Args:
        config: The settings.
        references: For "train" and "eval" the reference log-probabilities, computed beforehand, shape (G, 2);
            empty for a loss that needs none.
    """

    config: DPOTraining
    targets = "replies"

    def __init__(self, config: DPOTraining, references: dict[str, np.ndarray], *args, **kwargs):
        self.references = references
        super().__init__(config, *args, **kwargs)

    def collate(self, groups, part, indices):
        batch = super().collate(groups, part, indices)
        if part in self.references:
            batch["reference"] = torch.from_numpy(self.references[part][indices])
        return batch

    def units(self, batch):
        """Pairs, and with `nll_weight` the tokens of their chosen replies."""
        pairs = super().units(batch)
        return torch.cat([pairs, lengths_in_tokens(batch)[:, :1]], 1) if self.config.nll_weight else pairs

    def group_loss(self, outputs, batch):
        config, loss = self.config, self.config.loss_entry
        reference, lengths = batch.get("reference"), lengths_in_tokens(batch)
        # where tokens weigh differently, the likelihood and what is logged still count all of them alike
        plain, outputs = outputs.unbind(-1) if "weights" in batch else (outputs, outputs)
        # The preference asks for a difference only: both replies may become unlikely. Pang et al. 2024
        # ("Iterative Reasoning Preference Optimization") weigh this term by 1, Llama 3 (section 4.1.4) by 0.2
        nll = -config.nll_weight * plain[:, 0]
        if loss.per_token or config.average_log_probs:
            outputs, reference = (None if v is None else v / lengths for v in (outputs, reference))
            plain = outputs
        pairs = Pairs(outputs, lengths, reference, batch.get("columns", {}))
        preference = loss.value(pairs, config)
        measured = {
            "preference_loss": preference,
            "chosen_logp": plain[:, 0],
            "rejected_logp": plain[:, 1],
        }
        outputs = outputs.detach()
        size = replace(
            pairs, outputs=outputs.abs(), reference=None if reference is None else -reference.abs()
        )
        rewards, size = (loss.rewards(p, config) for p in (replace(pairs, outputs=outputs), size))
        measured |= reward_measures(rewards, size, "reward") | loss.logs(pairs, config)
        return torch.stack([preference, nll], 1) if config.nll_weight else preference, measured


class LanguageModelTrainer(GroupTrainer):
    """Next-token training: mean negative log-likelihood a token.

    Args:
        config: The settings.
        spoken: For "train" and "eval" which groups' prompts may be learned, shape (G,); replies always are.
    """

    def __init__(self, config: LanguageModelTraining, spoken: dict[str, np.ndarray], *args, **kwargs):
        self.targets = "all" if config.train_on_prompt else "replies"
        self.spoken = spoken
        super().__init__(config, *args, **kwargs)

    def collate(self, groups, part, indices):
        return build_batch(groups, indices, self.pad_id, targets=self.targets, with_prompt=self.spoken[part])

    def create_optimizer(self, model=None):
        if self.config.optimizer == "muon" and self.optimizer is None:
            config = self.config
            self.optimizer = MuonWithAdamW(
                self.model, config.learning_rate, config.adam_beta2, config.weight_decay
            )
        return super().create_optimizer(model)

    def units(self, batch):
        """Tokens that are learned."""
        learned = batch["reply_of"][batch["reply_of"] >= 0]
        return learned.bincount(minlength=batch["ends"].numel()).view_as(batch["ends"]).sum(1, keepdim=True)

    def group_loss(self, outputs, batch):
        return -outputs.sum(dim=1), {}
