"""Rows of prompts and replies of very different lengths, as random token ids."""

import numpy as np

from rlhf_hw.models.batches import build_batch, group_tokens

# tokens of prompt and replies: ragged, the least there can be, and next to nothing of one kind
ROWS = {
    "pairs": [(20, 9, 14), (8, 30, 10), (1, 1, 1), (1, 40, 3), (33, 1, 1), (5, 1, 37), (2, 12, 12)],
    "single": [(20, 23), (1, 1), (30, 1), (1, 30)],
    "four": [(12, 5, 9, 1, 7), (1, 3, 1, 20, 20)],
}


def groups_of(rows, seed: int = 0):
    generator = np.random.default_rng(seed)
    ids = [[generator.integers(3, 40, n).tolist() for n in row] for row in rows]
    return group_tokens([row[0] for row in ids], [row[1:] for row in ids])


def batch_of(rows, **settings) -> dict:
    groups = groups_of(rows)
    return build_batch(groups, range(len(groups)), 0, **settings)
