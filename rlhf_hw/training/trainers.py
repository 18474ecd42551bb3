"""The three kinds of training: what a batch holds, what the loss of a group is and what is logged of it.

Pairs are trained on with the loss that the settings name, an entry of `loss_table`.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rlhf_hw.models.batches import build_batch
from rlhf_hw.training import losses
from rlhf_hw.training.config import DPOTraining, LanguageModelTraining, PairTraining, RewardTraining
from rlhf_hw.training.group_trainer import GroupTrainer
from rlhf_hw.training.loss_table import Pairs
from rlhf_hw.training.muon import MuonWithAdamW

TIE = 0.5  # what a pair of equal rewards adds to the accuracy


def lengths_in_tokens(batch: dict[str, Tensor]) -> Tensor:
    """Tokens of the replies of a shared-prompt batch, shape (B, K)."""
    prompt_ends = (batch["segment_ids"] == 0).sum(1, keepdim=True) - 1
    return batch["ends"].diff(dim=1, prepend=prompt_ends)


def reward_measures(rewards: Tensor, name: str) -> dict[str, Tensor]:
    """What is logged of the rewards of both replies, shape (B, 2): accuracy, margin and the rewards."""
    margin = losses.difference(rewards)
    return {
        "accuracy": margin.heaviside(margin.new_tensor(TIE)),
        "margin": margin,
        f"chosen_{name}": rewards[:, 0],
        f"rejected_{name}": rewards[:, 1],
    }


class PairTrainer(GroupTrainer):
    """Training on preference pairs with the loss that the settings name, see `loss_table`."""

    config: PairTraining

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
        return each, reward_measures(loss.rewards(pairs, config), "score") | loss.logs(pairs, config)


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

    def group_loss(self, outputs, batch):
        config, loss = self.config, self.config.loss_entry
        reference, lengths = batch.get("reference"), lengths_in_tokens(batch)
        nll = config.nll_weight * losses.chosen_nll(outputs, lengths) if config.nll_weight else 0.0
        if loss.per_token or config.average_log_probs:
            outputs, reference = (None if v is None else v / lengths for v in (outputs, reference))
        pairs = Pairs(outputs, lengths, reference, batch.get("columns", {}))
        preference = loss.value(pairs, config)
        measured = {
            "preference_loss": preference,
            "chosen_logp": outputs[:, 0],
            "rejected_logp": outputs[:, 1],
        }
        measured |= reward_measures(loss.rewards(replace(pairs, outputs=outputs.detach()), config), "reward")
        return nll + preference, measured | loss.logs(pairs, config)


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

    def group_loss(self, outputs, batch):
        tokens = (batch["reply_of"] >= 0).sum() / len(outputs)
        each = -outputs.sum(dim=1) / tokens
        return each, {"nll": each}
