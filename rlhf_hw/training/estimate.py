"""What a training run will need, before it starts: memory of each process, and time.

Memory: fp32 weights, their gradients and AdamW's two moments take 16 bytes a trained parameter, 4 a frozen
one, and copies for bf16 products 2; ZeRO splits the moments (from stage 2 on gradients too, at stage 3 also
weights) over the processes. What is kept for the backward pass: module `activations`. On a processor the
libraries count too. Time: 6 operations a parameter and token for forward and backward, 8 with recomputed
activations (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), at the rate of a matrix product here. Memory
is meant to be right within a quarter, time within a factor of about 2. An estimate never stops a run: what
cannot be told is unknown.
"""

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_hw.files import read_json
from rlhf_hw.models.batches import PAD_TO, TokenizedGroups
from rlhf_hw.models.hub import read_pretrained
from rlhf_hw.models.loading import pick_dtype
from rlhf_hw.training.activations import Sizes, kept_bytes, parts_of_batch
from rlhf_hw.training.config import Training
from rlhf_hw.training.distributed import deepspeed_file, world_size

# Share of a large matrix product's rate that training reaches, between small layers and waiting for memory.
UTILISATION = 0.4
GIB = 2**30
# What Python and its libraries take on a processor, from the first import to the last that training makes
LIBRARIES = 0.7 * GIB


@dataclass(frozen=True)
class Needs:
    """Needs of one process in bytes, and `seconds` in all; `activations` may be unknown: None."""

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float | None
    libraries: float
    steps: int
    tokens: int
    seconds: float

    @property
    def memory(self) -> float:
        """Bytes that one process needs at its peak, as far as they are known."""
        known = self.weights + self.gradients + self.optimizer + self.libraries
        return known + (self.activations or 0)

    def __str__(self) -> str:
        trained = "" if self.trained == self.parameters else f" ({self.trained / 1e6:.1f} M trained)"
        names = ("libraries", "weights", "gradients", "optimizer", "activations")
        sizes = [(getattr(self, name), name) for name in names]
        parts = " + ".join(f"{'unknown' if s is None else f'{s / GIB:.1f}'} {name}" for s, name in sizes)
        work = f"{self.tokens / 1e6:.2f} M tokens in {self.steps} steps"
        needs = f"about {self.memory / GIB:.1f} GiB a process ({parts}) and {duration(self.seconds)}"
        return f"{self.parameters / 1e6:.1f} M parameters{trained}, {work}; {needs}"


def duration(seconds: float) -> str:
    """A duration in the unit a person would use."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@dataclass(frozen=True)
class Held:
    """Bytes of one process that last for the whole run, and the numbers of parameters behind them."""

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float

    @property
    def memory(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer


def held(config: Training, shape: PretrainedConfig) -> Held:
    """What weights, gradients and optimizer take in one process."""
    parameters = count_parameters(shape)
    trained = lora_parameters(shape, config.lora_rank) if config.lora_rank else parameters
    processes, stage = world_size(), zero_stage(config.deepspeed)
    copies = 2 if pick_dtype(config.dtype) == torch.bfloat16 else 0
    return Held(
        parameters=parameters,
        trained=trained,
        weights=(4 + copies) * parameters / (processes if stage == 3 else 1),
        gradients=4 * trained / (processes if stage >= 2 else 1),
        optimizer=8 * trained / (processes if stage >= 1 else 1),
    )


def estimate(config: Training, groups: TokenizedGroups) -> Needs:
    """Estimate a run from its settings and its tokenized training set.

    Args:
        config: The settings; of the model only the configuration is read.
        groups: The training set.
    """
    shape = read_pretrained(AutoConfig, config.model)
    lasting, processes = held(config, shape), world_size()
    per_step = config.batch_size * config.gradient_accumulation_steps * processes
    epoch_steps = -(-len(groups) // per_step)
    steps = config.max_steps if config.max_steps > 0 else int(np.ceil(epoch_steps * config.epochs))
    tokens = int(groups.lengths.mean() * steps * per_step)
    work = 8 if config.gradient_checkpointing else 6
    return Needs(
        **vars(lasting),
        activations=activation_bytes(config, shape, groups),
        libraries=0 if torch.cuda.is_available() else LIBRARIES,
        steps=steps,
        tokens=tokens,
        seconds=work * lasting.parameters * tokens / processes / (UTILISATION * matrix_rate(config.dtype)),
    )


def announced(config: Training, groups: TokenizedGroups) -> str:
    """The estimate as text; where a model is built so that it cannot be made, that it is unknown."""
    try:
        return str(estimate(config, groups))
    except Exception as error:  # of transformers, for a model of which only sizes are read here
        return f"what the run will need is unknown ({type(error).__name__}: {error})"


def zero_stage(deepspeed: str | None) -> int:
    """The ZeRO stage of a DeepSpeed file, 0 without one."""
    path = deepspeed_file(deepspeed)
    if path is None:
        return 0
    return read_json(path).get("zero_optimization", {}).get("stage", 0)


def count_parameters(shape: PretrainedConfig) -> int:
    """Parameters of a model of this shape, tied weights once; no memory is taken for them."""
    return sum(p.numel() for p in _without_memory(shape).parameters())


def lora_parameters(shape: PretrainedConfig, rank: int) -> int:
    """Parameters of adapters of this rank on every linear layer of the transformer."""
    return sum(rank * sum(sides) for sides in _linear_layers(shape))


def widest_rank(shape: PretrainedConfig) -> int:
    """The largest rank that a linear layer of the transformer can have: its smaller side."""
    return max(map(min, _linear_layers(shape)))


def _linear_layers(shape: PretrainedConfig) -> list[torch.Size]:
    layers = _without_memory(shape).base_model.modules()
    return [layer.weight.shape for layer in layers if isinstance(layer, torch.nn.Linear | Conv1D)]


def _without_memory(shape: PretrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape, trust_remote_code=False)


def activation_bytes(config: Training, shape: PretrainedConfig, groups: TokenizedGroups) -> float | None:
    """Bytes of activations at the longest batch, logits included; None for a shape that cannot be read.

    A large batch may be worked through in parts, see `activations.parts_of_batch`.
    """
    sizes = Sizes.of(shape)
    if sizes is None:
        return None
    length = -(-int(groups.lengths.max()) // PAD_TO) * PAD_TO
    rows = min(config.batch_size, len(groups))
    rows = -(-rows // parts_of_batch(config, sizes, rows, length))
    read = length if getattr(config, "train_on_prompt", False) else int(groups.reply_lengths.sum(1).max())
    return kept_bytes(config, sizes, rows, length, rows * read)


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
