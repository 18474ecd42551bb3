"""Attention of shared-prompt rows by plain matrix products, where the processor multiplies bf16 natively.

torch's fused attention for processors works through small tiles, which pays when the matrix of scores is too
large to hold. Rows of preference pairs are short: there two large bf16 products with a softmax between them
take half the time. Everywhere else (fp32, a GPU, long rows, generation) the fused kernel does the work.

`ATTENTION` names this choice among the attention kernels of transformers.
"""

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "rlhf_hw"
# A layer holds at most this many scores, 32 MiB in bf16, until the backward pass.
MAX_SCORES = 2**24


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """Attention in the form transformers calls it.

    Args:
        module: The attention layer.
        query: Shape (B, H, L, D).
        key, value: Shape (B, G, L, D); each of the G heads serves H / G query heads.
        attention_mask: Shape (B, 1, L, L), True where a position may look.
        scaling: Factor of the scores; default 1 / sqrt(D).
        dropout: Share of attention weights dropped; other than 0 leaves the work to the fused kernel.

    Returns:
        Shape (B, L, H, D), and None in place of the attention weights.
    """
    rows, heads, length, width = query.shape
    by_products = (
        query.device.type == "cpu"
        and (query.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"))
        and attention_mask is not None
        and attention_mask.dtype == torch.bool
        and key.shape[2] == length
        and rows * heads * length**2 <= MAX_SCORES
        and not dropout
    )
    if not by_products:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    # the query heads that share a key head stand below each other: no copies of keys and values
    flat = (rows * key.shape[1], -1, width)
    query, key, value = (x.to(torch.bfloat16).reshape(flat) for x in (query, key, value))
    # the lowest number, not -inf: a row of padding that sees nothing must not become NaN
    low = torch.finfo(torch.bfloat16).min
    hidden = torch.zeros_like(attention_mask, dtype=torch.bfloat16).masked_fill_(~attention_mask, low)
    hidden = hidden.expand(rows, heads, length, length).reshape(len(query), -1, length)
    scale = width**-0.5 if scaling is None else scaling
    scores = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scale)
    output = torch.bmm(scores.softmax(dim=-1), value)
    return output.view(rows, heads, length, width).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
