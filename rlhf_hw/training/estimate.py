"""What a training run will need, before it starts: memory of each process, and time.

Memory: fp32 weights, their gradients and AdamW's two moments take 16 bytes a trained parameter, 4 a frozen
one; ZeRO splits the moments (from stage 2 on gradients too, at stage 3 also weights) over the processes.
Activations are counted for each token and layer: what the backward pass needs of norms, projections and the
feed-forward part. Time: 6 operations a parameter and token for forward and backward, 8 with recomputed
activations (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), at the rate of a matrix product here.
Both are meant to be right within a factor of about 2: enough to tell minutes from days and 8 GB from 80.
"""

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from rlhf_hw.models.batches import PAD_TO, TokenizedGroups
from rlhf_hw.models.forward import MAX_LOGITS
from rlhf_hw.models.hub import read_pretrained
from rlhf_hw.models.loading import pick_dtype
from rlhf_hw.training.config import DPOTraining, Training
from rlhf_hw.training.distributed import deepspeed_file, world_size
from rlhf_hw.training.group_trainer import tokens_at_once

# Share of a large matrix product's rate that training reaches, between small layers and waiting for memory.
UTILISATION = 0.4
GIB = 2**30


@dataclass(frozen=True)
class Needs:
    """Needs of one process: `weights`, `gradients`, `optimizer`, `activations` in bytes; `seconds` in all."""

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    steps: int
    tokens: int
    seconds: float

    @property
    def memory(self) -> float:
        """Bytes that one process needs at its peak."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        trained = "" if self.trained == self.parameters else f" ({self.trained / 1e6:.1f} M trained)"
        parts = " + ".join(
            f"{getattr(self, name) / GIB:.1f} {name}"
            for name in ("weights", "gradients", "optimizer", "activations")
        )
        work = f"{self.tokens / 1e6:.2f} M tokens in {self.steps} steps"
        needs = f"about {self.memory / GIB:.1f} GiB a process ({parts}) and {duration(self.seconds)}"
        return f"{self.parameters / 1e6:.1f} M parameters{trained}, {work}; {needs}"


def duration(seconds: float) -> str:
    """A duration in the unit a person would use."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def estimate(config: Training, groups: TokenizedGroups) -> Needs:
    """Estimate a run from its settings and its tokenized training set.

    Args:
        config: The settings; of the model only the configuration is read.
        groups: The training set.
    """
    shape = read_pretrained(AutoConfig, config.model)
    parameters = count_parameters(shape)
    trained = lora_parameters(shape, config.lora_rank) if config.lora_rank else parameters
    processes = world_size()
    per_step = config.batch_size * config.gradient_accumulation_steps * processes
    epoch_steps = -(-len(groups) // per_step)
    steps = config.max_steps if config.max_steps > 0 else int(np.ceil(epoch_steps * config.epochs))
    tokens = int(groups.lengths.mean() * steps * per_step)
    stage = zero_stage(config.deepspeed)
    work = 8 if config.gradient_checkpointing else 6
    return Needs(
        parameters=parameters,
        trained=trained,
        weights=4 * parameters / (processes if stage == 3 else 1),
        gradients=4 * trained / (processes if stage >= 2 else 1),
        optimizer=8 * trained / (processes if stage >= 1 else 1),
        activations=activation_bytes(config, shape, groups),
        steps=steps,
        tokens=tokens,
        seconds=work * parameters * tokens / processes / (UTILISATION * matrix_rate(config.dtype)),
    )


def zero_stage(deepspeed: str | None) -> int:
    """The ZeRO stage of a DeepSpeed file, 0 without one."""
    path = deepspeed_file(deepspeed)
    if path is None:
        return 0
    return json.loads(Path(path).read_text(encoding="utf-8")).get("zero_optimization", {}).get("stage", 0)


def count_parameters(shape: PretrainedConfig) -> int:
    """Parameters of a model of this shape, tied weights once; no memory is taken for them."""
    return sum(p.numel() for p in _without_memory(shape).parameters())


def lora_parameters(shape: PretrainedConfig, rank: int) -> int:
    """Parameters of adapters of this rank on every linear layer of the transformer."""
    linear = [m for m in _without_memory(shape).base_model.modules() if isinstance(m, torch.nn.Linear)]
    return sum(rank * (m.in_features + m.out_features) for m in linear)


def _without_memory(shape: PretrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape, trust_remote_code=False)


def activation_bytes(config: Training, shape: PretrainedConfig, groups: TokenizedGroups) -> float:
    """Bytes of activations at the longest batch, the language-model head's logits included.

    A long batch may be worked through in parts, see `group_trainer.tokens_at_once`.
    """
    length = -(-int(groups.lengths.max()) // PAD_TO) * PAD_TO
    rows, limit = config.batch_size, tokens_at_once(config)
    if limit:
        rows = min(rows, max(1, limit // length))
    tokens = rows * length
    layer = 10 * shape.hidden_size + 4 * shape.intermediate_size
    kept = shape.num_hidden_layers * (shape.hidden_size if config.gradient_checkpointing else layer)
    item = 2 if pick_dtype(config.dtype) == torch.bfloat16 else 4
    logits = 0
    if isinstance(config, DPOTraining):
        replies = rows * int(groups.reply_lengths.sum(1).max())
        logits = 3 * 4 * min(MAX_LOGITS, replies * shape.vocab_size)
    return tokens * (kept + layer) * item + logits


@lru_cache(maxsize=4)
def matrix_rate(dtype: str = "auto") -> float:
    """Operations a second of a large matrix product on this machine, measured for a moment."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 1024
    a = torch.ones(size, size, device=device, dtype=pick_dtype(dtype))
    (a @ a).sum().item()  # set-up is not measured; the sum waits for the device
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < 0.1:
        (a @ a).sum().item()
        done += 1
    return done * 2 * size**3 / (time.perf_counter() - started)
