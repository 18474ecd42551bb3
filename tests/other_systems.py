"""Pairs as other systems take them, their rewards and ours."""

import numpy as np
import torch
from datasets import Dataset
from trl import RewardTrainer

from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel

QUIET = {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def conversations(preferences, side: str) -> list[list[dict]]:
    """Whole conversations as plain messages."""
    return [
        [m._asdict() for m in p.prompt] + [{"role": "assistant", "content": getattr(p, side)}]
        for p in preferences
    ]


def our_scores(folder, preferences, **options) -> np.ndarray:
    model = RewardModel(folder, dtype="fp32", **options)
    return model.score([p.prompt for p in preferences], [[p.chosen, p.rejected] for p in preferences])


def prompt_texts(preferences, renderer: Renderer) -> list[str]:
    """Prompts with the chat format already written."""
    ids = renderer.prompt_ids([p.prompt for p in preferences])
    return [renderer.tokenizer.decode(i, skip_special_tokens=False) for i in ids]


def trl_columns(preferences, kind: str, renderer: Renderer) -> Dataset:
    """Pairs as TRL takes them: conversations, or texts in which the chat format is already written."""
    sides = {side: conversations(preferences, side) for side in ("chosen", "rejected")}
    if kind == "text":
        prompts = prompt_texts(preferences, renderer)
        sides = {
            side: [prompt + getattr(p, side) for prompt, p in zip(prompts, preferences, strict=True)]
            for side in sides
        }
    return Dataset.from_dict(sides)


def trl_scores(trainer: RewardTrainer) -> np.ndarray:
    """Rewards of TRL's own evaluation batches, shape (G, 2)."""
    trainer.model.eval()
    pairs = []
    for batch in trainer.get_eval_dataloader():
        with torch.no_grad():
            chosen, rejected = trainer.model(**batch).logits.squeeze(-1).chunk(2)
        pairs.append(torch.stack([chosen, rejected], dim=1))
    return torch.cat(pairs).float().numpy()
