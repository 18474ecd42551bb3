"""Attention of shared-prompt rows by plain matrix products, where the processor multiplies bf16 natively.

torch's fused attention for processors works through small tiles, which pays when the matrix of scores is too
large to hold. Rows of preference pairs are short: there two large bf16 products with a softmax between them
take half the time. Everywhere else (fp32, a GPU, long rows, generation) the fused kernel does the work.

`ATTENTION` names this choice among the attention kernels of transformers.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlhf_hw.errors import InputError

ATTENTION = "rlhf_hw"
# A layer holds at most this many scores at a time, 32 MiB in bf16; with gradients until the backward pass.
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
    rows, heads, length, _ = query.shape
    # as many rows at once as keep within the bound; a row that exceeds it alone is the fused kernel's
    at_once = MAX_SCORES // (heads * length**2)
    by_products = (
        query.device.type == "cpu"
        and (query.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"))
        and attention_mask is not None
        and attention_mask.dtype == torch.bool
        and key.shape[2] == length
        # what is computed piece by piece would still be held whole for a backward pass
        and at_once >= (rows if torch.is_grad_enabled() else 1)
        and not dropout
    )
    if not by_products:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    mask = attention_mask.expand(rows, -1, -1, -1)
    pieces = zip(*(x.split(at_once) for x in (query, key, value, mask)), strict=True)
    outputs = [_by_products(*piece, scaling) for piece in pieces]
    return (torch.cat(outputs) if len(outputs) > 1 else outputs[0]), None


def _by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """`attend` in two bf16 products with a softmax between them."""
    rows, heads, length, width = query.shape
    # the query heads that share a key head stand below each other: no copies of keys and values
    flat = (rows * key.shape[1], -1, width)
    query, key, value = (x.to(torch.bfloat16).reshape(flat) for x in (query, key, value))
    # the lowest number, not -inf: a row of padding that sees nothing must not become NaN
    low = torch.finfo(torch.bfloat16).min
    hidden = torch.zeros_like(mask, dtype=torch.bfloat16).masked_fill_(~mask, low)
    hidden = hidden.expand(rows, heads, length, length).reshape(len(query), -1, length)
    scale = width**-0.5 if scaling is None else scaling
    scores = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scale)
    output = torch.bmm(scores.softmax(dim=-1), value)
    return output.view(rows, heads, length, width).transpose(1, 2).contiguous()


def refuse_other_attention(path: str | Path, model: PreTrainedModel) -> None:
    """A row of a prompt with its replies needs layers that look where a mask lets them, and nowhere else.

    Raises:
        ValueError: The model has others, such as those of Mamba or RWKV, or positions by ALiBi.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if model._is_stateful or not model._supports_attention_backend or kinds:
        raise InputError(
            f"{path}: {type(model).__name__} does not attend by a mask in all of its layers, so the replies"
            " to one prompt could see each other; choose a model such as Qwen2.5, Llama or Mistral"
        )


def refuse_beyond_window(model: PreTrainedModel, longest: int) -> None:
    """The mask of shared prompts knows no sliding window, so texts have to fit into it.

    Args:
        model: Any model with a head.
        longest: Tokens of the longest prompt with one of its replies.

    Raises:
        ValueError: The model has layers with a shorter window.
    """
    window = getattr(model.config, "sliding_window", None)
    kinds = getattr(model.config, "layer_types", None) or ["sliding_attention"]
    if window is not None and "sliding_attention" in kinds and longest > window:
        raise InputError(
            f"{model.config.name_or_path}: a prompt with a reply has {longest} tokens, but the model attends"
            f" to the last {window} only; lower max_prompt_tokens and max_reply_tokens"
        )


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
