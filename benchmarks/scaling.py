"""How our cost a pair changes with row length, batch size, the prompt's share, and the number of pairs."""

import resource
import time

import numpy as np
import torch
from measuring import DTYPES

from rlhf_hw.models.batches import LengthGroupedSampler, TokenizedGroups, build_batch, group_tokens
from rlhf_hw.models.forward import log_prob_batch, use_pair_forward
from rlhf_hw.models.loading import load_policy

IDS = 256  # made-up tokens are drawn below this, so that any vocabulary has them


def made_up_groups(count: int, prompt: int, reply: int, seed: int = 0) -> TokenizedGroups:
    """Pairs of random tokens, all of one length."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(3, IDS, (count, prompt), dtype=np.int32)
    replies = rng.integers(3, IDS, (count, 2, reply), dtype=np.int32)
    return group_tokens(list(prompts), [list(pair) for pair in replies])


def separate(groups: TokenizedGroups) -> TokenizedGroups:
    """The same pairs as twice as many rows of prompt and one reply: what is computed without sharing."""
    prompts, replies = [], []
    for start, prompt, first, second in groups.offsets:
        for a, b in ((prompt, first), (first, second)):
            prompts.append(groups.ids[start:prompt])
            replies.append([groups.ids[a:b]])
    return group_tokens(prompts, replies)


def step_seconds(model, groups: TokenizedGroups, dtype: str, repeats: int) -> float:
    """Seconds of forward and backward pass over one batch of reply log-probabilities; the best of some."""
    batch = build_batch(groups, range(len(groups)), 0, targets="replies")
    best = float("inf")
    for _ in range(repeats + 1):  # the first prepares the kernels for these shapes
        start = time.perf_counter()
        with torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "fp32"):
            loss = model(**batch).mean()
        loss.backward()
        model.zero_grad()
        best = min(best, time.perf_counter() - start)
    return best


def scaling(job: dict) -> dict:
    """Measure all four; returns lists of rows, times in milliseconds a pair."""
    model = use_pair_forward(load_policy(f"{job['folder']}/policy"), log_prob_batch).train()
    short, dtype = job["short"], job["dtype"]
    repeats = 1 if short else 3

    def cost(count: int, prompt: int, reply: int, shared: bool = True) -> float:
        groups = made_up_groups(count, prompt, reply)
        times = repeats if prompt < 1024 else 1  # long rows take seconds
        return 1000 * step_seconds(model, groups if shared else separate(groups), dtype, times) / count

    def of_length(tokens: int) -> dict:
        pairs = min(4, max(1, 4096 // tokens))
        return {"tokens": tokens, "pairs": pairs, "ms": cost(pairs, tokens // 2, tokens // 4)}

    totals = (32, 64) if short else (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    sizes = (1, 4) if short else (1, 2, 4, 8, 16, 32)
    shares = (0.5,) if short else (0.1, 0.3, 0.5, 0.7, 0.9)
    counts = (100, 1000) if short else (1000, 10_000, 100_000)
    row = totals[-1] if short else 256
    return {
        "length": [of_length(n) for n in totals],
        "batch": [{"pairs": b, "ms": cost(b, row // 2, row // 4)} for b in sizes],
        "share": [
            {"share": s, "ms": cost(4, p, r), "ms_separate": cost(4, p, r, shared=False)}
            for s in shares
            for p, r in [(int(row * s), max(2, int(row * (1 - s) / 2)))]
        ],
        "pairs": [preparation(count) for count in counts],
    }


def preparation(count: int) -> dict:
    """Milliseconds a pair for laying out tokens, ordering, building batches; bytes a pair that stay."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 180, (count, 3))
    prompts = [np.full(a, 5, dtype=np.int32) for a in lengths[:, 0]]
    replies = [[np.full(b, 6, dtype=np.int32), np.full(c, 7, dtype=np.int32)] for b, c in lengths[:, 1:]]
    start = time.perf_counter()
    groups = group_tokens(prompts, replies)
    laid_out = time.perf_counter()
    order = list(LengthGroupedSampler(groups.lengths, 8, seed=0))
    ordered = time.perf_counter()
    some = order[: 8 * 200]
    for first in range(0, len(some), 8):
        build_batch(groups, some[first : first + 8], 0, targets="replies")
    built = time.perf_counter()
    return {
        "pairs": count,
        "ms_layout": 1000 * (laid_out - start) / count,
        "ms_order": 1000 * (ordered - laid_out) / count,
        "ms_batch": 1000 * (built - ordered) / len(some),
        "bytes_a_pair": (groups.ids.nbytes + groups.offsets.nbytes) / count,
        "process_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
