"""Low-rank adapters (LoRA; Hu et al. 2022, arXiv 2106.09685) through peft, for large models.

W x becomes W x + (alpha / r) B A x with A and B of rank r; W stays as it is, only A and B get gradients and
optimizer state. After training the product is added to W, so that the checkpoint is a standard one.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_hw.models.forward import backbone

if TYPE_CHECKING:  # peft takes seconds to load, and most trainings do without
    from peft import LoraModel


def add_lora(
    model: PreTrainedModel, rank: int, seed: int, trained_too: nn.Module | None = None
) -> "LoraModel":
    """Put adapters on every linear layer of the transformer and freeze the rest, in place.

    Args:
        model: Policy or reward model.
        rank: r; alpha is 2 r.
        seed: Seed of A's start values (B starts at 0, so at first nothing changes).
        trained_too: A module that is trained whole, such as a new score head.

    Returns:
        peft's handle on the adapters; `merge_lora` takes it.
    """
    from peft import LoraConfig, LoraModel

    inside = set(backbone(model).modules())
    # GPT-2's linear layers are of a kind of their own
    linear = [n for n, m in model.named_modules() if m in inside and isinstance(m, nn.Linear | Conv1D)]
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=linear)
    # peft draws on the processor, wherever the model is: the generators of GPUs are left alone
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        adapters = LoraModel(model, settings, "default")
    if trained_too is not None:
        trained_too.requires_grad_(True)
    return adapters


def merge_lora(adapters: "LoraModel") -> None:
    """Add the adapters to the weights they belong to and remove them; the model is whole again."""
    adapters.merge_and_unload()
