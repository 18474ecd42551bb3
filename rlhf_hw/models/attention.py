"""Attention of shared-prompt rows: one mask for all layers, and a backward pass made for short rows.

The forward pass is torch's fused kernel (Dao et al. 2022, arXiv 2205.14135), with and without gradients, so
that a policy and its reference agree: scores stay in fp32, and nothing of size L^2 is kept. Its backward pass
on processors goes through small tiles. Rows of preference pairs are short enough for a few large bf16
products, which take half the time (`_ByProducts`). fp32 and a GPU use the kernel's own. Long rows have no
mask and are attended by parts (module `long_rows`).

Models whose attention does more than the kernel (soft-capping, sinks) or is a class of its own (Falcon,
GPT-J) keep their own code, "eager" in transformers. `ATTENTION` names ours among transformers' kernels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlhf_hw.errors import InputError
from rlhf_hw.models.batches import PAD_TO
from rlhf_hw.models.long_rows import RowParts, attend_long, in_place_of_mask, long_rows

ATTENTION = "rlhf_hw"
# The backward pass of a layer holds a few matrices of at most this many scores at a time, 32 MiB each.
MAX_SCORES = 2**24
# Classes of their own for each kernel; the plain one adds the mask it is given to the scores.
OWN_CLASSES = ("falcon", "gptj")
CHOOSE = "choose a model such as Qwen2.5, Llama or Mistral"


def pair_mask(segment_ids: Tensor) -> Tensor:
    """Attention mask of a shared-prompt batch.

    Args:
        segment_ids: Shape (B, L); 0 prompt, 1..K replies, -1 padding.

    Returns:
        Shape (B, 1, L, L), True where position i may look at position j: j is not later than i, and j belongs
        to the prompt or to i's own reply.
    """
    length = segment_ids.shape[1]
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    return (causal & ((key == 0) | (key == query)))[:, None]


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of True and False as what is added to scores: 0 where a position may look.

    Made once a batch for all layers: in each, torch would turn True and False into numbers and keep those for
    the backward pass. Elsewhere stands the lowest number, not -inf: a row of padding that sees nothing must
    not become NaN.
    """
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def mask_of_batch(
    transformer: nn.Module, segment_ids: Tensor, bounds: np.ndarray | None, dtype: torch.dtype
) -> Tensor:
    """The attention mask of all layers, or what stands in for it where rows are attended by parts.

    Args:
        transformer: A model without its head; one with attention of its own always has a mask.
        segment_ids: Shape (B, L).
        bounds: Shape (B, K + 2), see `batches.build_batch`; None: no row is attended by parts.
        dtype: Of the mask.
    """
    by_parts = bounds is not None and transformer.config._attn_implementation == ATTENTION
    long = long_rows(bounds) if by_parts else {}
    if not long:
        return additive(pair_mask(segment_ids), dtype)
    parts, others = RowParts(long), np.setdiff1d(np.arange(len(bounds)), list(long))
    if len(others):
        short = torch.from_numpy(others).to(segment_ids.device)
        # padded as in a batch of their own, and so rounded alike
        length = int(-(-bounds[others, -1].max() // PAD_TO) * PAD_TO)
        mask = pair_mask(segment_ids[short, :length])
        parts = RowParts(long, short, additive(mask, dtype))
    return in_place_of_mask(parts, *segment_ids.shape, dtype, segment_ids.device)


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
        attention_mask: Shape (B, 1, L, L), added to the scores, or as transformers makes it for generation,
            or `long_rows.in_place_of_mask`.
        scaling: Factor of the scores; default 1 / sqrt(D).
        dropout: Share of attention weights dropped; other than 0 leaves the work to the fused kernel.

    Returns:
        Shape (B, L, H, D), and None in place of the attention weights.
    """
    if kwargs.get("s_aux") is not None:
        raise InputError(f"{type(module).__name__}: attention sinks under another name; {CHOOSE}")
    heads, length, width = query.shape[1:]
    parts = getattr(attention_mask, "row_parts", None)
    if parts is not None:
        output = attend_long(query, key, value, parts.long, scaling, dropout)
        if parts.short is not None:
            rows = (x[parts.short, :, : parts.mask.shape[-1]] for x in (query, key, value))
            some, _ = attend(module, *rows, parts.mask, scaling, dropout, **kwargs)
            some = pad(some, (0, 0, 0, 0, 0, length - some.shape[1]))
            output = output.index_copy(0, parts.short, some)
        return output.contiguous(), None
    by_products = (
        torch.is_grad_enabled()
        and query.device.type == "cpu"
        and (query.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"))
        and attention_mask is not None
        and attention_mask.dtype == torch.bfloat16
        and attention_mask.shape[1:] == (1, length, key.shape[2])
        and key.shape[2:] == value.shape[2:] == query.shape[2:]
        and heads * length**2 <= MAX_SCORES
        and not dropout
    )
    if not by_products:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    scale = width**-0.5 if scaling is None else scaling
    output = _ByProducts.apply(*(x.to(torch.bfloat16) for x in (query, key, value)), attention_mask, scale)
    return output.transpose(1, 2).contiguous(), None


class _ByProducts(torch.autograd.Function):
    r"""The fused kernel's forward pass, with a backward pass in five bf16 products.

    The weights are computed anew, :math:`P = softmax(s Q K^T + M - m)`. A softmax is not changed by m, one
    number a row, but rounding is: scores are rounded to bf16 after the sum, and with the log-sum-exp that the
    kernel returns as m, those that matter are near 0, where bf16 is fine, however large Q and K are.
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, scale):
        shared = query.shape[1] // key.shape[1]
        full = (repeat_kv(x, shared) for x in (key, value))
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum = kernel(query, *full, attn_mask=mask, scale=scale)
        ctx.save_for_backward(query, key, value, mask, log_sum)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, mask, log_sum = ctx.saved_tensors
        rows, heads, length, _ = query.shape
        tensors = (query, key, value, gradient, log_sum, mask.expand(rows, -1, -1, -1))
        pieces = zip(*(x.split(max(1, MAX_SCORES // (heads * length**2))) for x in tensors), strict=True)
        pieces = [_gradients(*piece, ctx.scale) for piece in pieces]
        return (*(torch.cat(parts) for parts in zip(*pieces, strict=True)), None, None)


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, log_sum: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value from that of the output and the log-sum-exp of each row of scores."""
    rows, groups, length, width = key.shape
    # the query heads that share a key head stand below each other: no copies of keys and values
    flat = (rows * groups, -1, width)
    shift = (mask - log_sum.to(mask.dtype).contiguous()[..., None]).view(rows * groups, -1, length)
    q, k, v, g = (x.reshape(flat) for x in (query, key, value, gradient))
    weights = torch.baddbmm(shift, q, k.transpose(1, 2), alpha=scale).softmax(dim=-1)
    for_value = torch.bmm(weights.transpose(1, 2), g)
    for_weights = torch.bmm(g, v.transpose(1, 2), out=shift)
    for_scores = torch._softmax_backward_data(for_weights, weights, -1, weights.dtype)
    for_query = torch.bmm(for_scores, k).mul_(scale)
    for_key = torch.bmm(for_scores.transpose(1, 2), q).mul_(scale)
    return for_query.view_as(query), for_key.view_as(key), for_value.view_as(value)


def refuse_other_attention(path: str | Path, kind: type[PreTrainedModel], config: PretrainedConfig) -> str:
    """A row of a prompt with its replies needs layers that look where a mask lets them, and nowhere else.

    Args:
        path: Where the model comes from, for the message.
        kind: The model's class.
        config: Its configuration.

    Returns:
        The attention kernel it is loaded with.

    Raises:
        ValueError: The model has others, such as those of Mamba or RWKV, or positions by ALiBi.
    """
    config = config.get_text_config()
    own = config.model_type in OWN_CLASSES and not getattr(config, "alibi", False)
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kind._is_stateful or not (kind._supports_attention_backend or own) or kinds:
        raise InputError(
            f"{path}: {kind.__name__} does not attend by a mask in all of its layers, so the replies"
            f" to one prompt could see each other; {CHOOSE}"
        )
    return "eager" if own else ATTENTION


def use_attention(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model attend by our kernel, or by its own code where that does more; returns the model."""
    config = model.config.get_text_config()
    more = getattr(config, "attn_logit_softcapping", None) is not None
    more |= any(name.rpartition(".")[2] == "sinks" for name, _ in model.named_parameters())
    wanted = "eager" if more or config.model_type in OWN_CLASSES else ATTENTION
    if config._attn_implementation != wanted:
        model.set_attn_implementation(wanted)
    return model


def refuse_beyond_window(model: PreTrainedModel, longest: int) -> None:
    """The mask of shared prompts knows no sliding window, so texts have to fit into it.

    Args:
        model: Any model with a head.
        longest: Tokens of the longest prompt with one of its replies.

    Raises:
        ValueError: The model has layers with a shorter window.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if window is not None and "sliding_attention" in kinds and longest > window:
        raise InputError(
            f"{model.config.name_or_path}: a prompt with a reply has {longest} tokens, but the model attends"
            f" to the last {window} only; lower max_prompt_tokens and max_reply_tokens"
        )


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
