"""Clocks, memory, the machine's own limit, and how much arithmetic a pair needs at the least."""

import gc
import resource
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class StepClock(TrainerCallback):
    """Notes when each training step ended, by the clock and in processor time, for every `Trainer`."""

    ends: list[tuple[float, float]] = []

    def on_train_begin(self, args, state, control, **kwargs):
        StepClock.ends = [(time.perf_counter(), time.process_time())]

    def on_step_end(self, args, state, control, **kwargs):
        # a GPU works on behind the program: waited for only where a measured stretch begins or ends
        if torch.cuda.is_available() and state.global_step in (settled(state.max_steps), state.max_steps):
            torch.cuda.synchronize()
        StepClock.ends.append((time.perf_counter(), time.process_time()))


def settled(steps: int) -> int:
    """First steps that are not counted: a fifth on a GPU, where kernels are compiled and chosen; else none.

    Each system has its own batches in them, so that leaving them out where nothing has to settle would have
    systems measured on other pairs.
    """
    return max(1, steps // 5) if torch.cuda.is_available() else 0


def watch_steps() -> None:
    """Put the clock into every trainer made from now on."""
    if StepClock not in DEFAULT_CALLBACKS:
        DEFAULT_CALLBACKS.append(StepClock)


def step_seconds() -> tuple[float, float]:
    """Seconds a step: the mean of all that are counted.

    Returns:
        By the clock, and of processor time, which says more on a machine that others use too.
    """
    durations = np.diff(np.array(StepClock.ends), axis=0)
    clock, processor = durations[settled(len(durations)) :].mean(axis=0)
    return float(clock), float(processor)


def forget_memory() -> None:
    """Free what earlier jobs of this process left on the GPU, and count its peak anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """Most memory this process held, in GiB: on the GPU if there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matrix_peak(dtype: str, sizes: tuple[int, ...] = (1024, 2048, 4096), seconds: float = 1.0) -> float:
    """Best rate of square matrix products this machine reaches, in FLOP/s."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, dtype=DTYPES[dtype], device=device) for _ in range(2))
        (a @ b).sum().item()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            start = time.perf_counter()
            product = a @ b
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
        del product
    return best


def useful_flops(checkpoint: Path, prompts: np.ndarray, replies: np.ndarray, head: bool) -> float:
    """Arithmetic of one forward pass over all pairs when each prompt is computed once, in FLOP.

    Args:
        checkpoint: Folder with the model's configuration.
        prompts: Tokens of each prompt, shape (G,).
        replies: Tokens of each reply, shape (G, K).
        head: Whether the language-model head works, on the reply tokens.
    """
    config = AutoConfig.from_pretrained(checkpoint)
    width, layers = config.hidden_size, config.num_hidden_layers
    head_width = width // config.num_attention_heads
    attention = 2 * width * head_width * (config.num_attention_heads + config.num_key_value_heads)
    weights = layers * (attention + 3 * width * config.intermediate_size)
    tokens = float(prompts.sum() + replies.sum())
    seen = (prompts**2 / 2).sum() + (replies * prompts[:, None] + replies**2 / 2).sum()
    flops = 2 * weights * tokens + 4 * width * layers * float(seen)
    return flops + (2 * width * config.vocab_size * float(replies.sum()) if head else 0)
