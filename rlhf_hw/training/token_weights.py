"""How much each token of a reply counts in its log-probability, for losses that look at single tokens.

Let the shorter reply of a pair have m tokens.

| function | tokens of the longer one | source |
|---|---|---|
| `beyond_common` | the first m weigh 1, the others alpha | Liu et al. 2024 (LD-DPO) |
| `drawn_tokens` | m of them, drawn at random, weigh 1, the others 0 | Lu et al. 2024 (SamPO) |

The weights stand beside the token ids (`TokenizedGroups.weights`). So the policy and its reference weigh the
same places, in every epoch and evaluation, and however steps are cut into batches, parts and processes.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rlhf_hw.models.batches import TokenizedGroups


def beyond_common(groups: "TokenizedGroups", alpha: float) -> np.ndarray:
    """LD-DPO's weights: what goes beyond the pair's common length counts less (arXiv 2409.06411).

    Args:
        groups: Pairs, with two replies each.
        alpha: Weight of a token beyond it, from 0 (cut off) to 1 (DPO).

    Returns:
        One weight for each of the groups' ids, shape (N,), fp32.
    """
    weights = np.ones(len(groups.ids), dtype=np.float32)
    for start, end, common in _longer(groups):
        weights[start + common : end] = alpha
    return weights


def drawn_tokens(groups: "TokenizedGroups", seed: int) -> np.ndarray:
    """SamPO's weights: both replies count with as many tokens, without replacement (arXiv 2406.10957).

    A pair's draw goes by the seed and its row alone, whatever other rows there are. It is one for the whole
    training, and the reference counts the same tokens; the authors' code draws anew in each forward pass, for
    the policy and for its reference.

    Args:
        groups: Pairs, with two replies each.
        seed: Of the draw.

    Returns:
        1 or 0 for each of the groups' ids, shape (N,), fp32.
    """
    weights = np.ones(len(groups.ids), dtype=np.float32)
    rows = np.arange(len(groups)) if groups.rows is None else groups.rows
    for row, (start, end, common) in zip(rows, _longer(groups), strict=True):
        if end - start > common:
            rng = np.random.default_rng([seed, int(row)])
            weights[start + rng.choice(end - start, end - start - common, replace=False)] = 0.0
    return weights


def _longer(groups: "TokenizedGroups") -> Iterator[tuple[int, int, int]]:
    """Of each pair where its longer reply begins and ends in the ids, and the length of the shorter one."""
    lengths = groups.reply_lengths
    longer = lengths.argmax(axis=1)
    rows = np.arange(len(groups))
    starts, ends = groups.offsets[rows, 1 + longer], groups.offsets[rows, 2 + longer]
    return zip(starts, ends, lengths.min(axis=1), strict=True)
