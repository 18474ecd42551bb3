r"""Attention of long shared-prompt rows by parts: without a mask, and without scores that nobody may see.

A mask of L x L numbers a row lets the kernel work through all L^2 scores, of which at most half count, and on
a GPU it shuts out FlashAttention. A row of prompt x and replies y_1, ..., y_K needs none:

- x and y_1 together are one text, attended causally;
- each further reply attends to x without a mask, and to itself causally.

The two halves of a further reply are joined by their log-sum-exp, as blocks are within FlashAttention (Dao et
al. 2022, arXiv 2205.14135, section 3.1): of outputs o_1, o_2 and log-sum-exps l_1, l_2 comes
:math:`o = e^{l_1 - l} o_1 + e^{l_2 - l} o_2` with :math:`l = \log(e^{l_1} + e^{l_2})`. The backward pass of
each half, told o and l of the whole, gives its share of the gradients (`_Parts`).

That is what a processor runs, for heads of one width in fp32 and bf16. Elsewhere (`_by_torch`) each part goes
to `scaled_dot_product_attention`: on a GPU in bf16 that is FlashAttention for all parts, a further reply by
`causal_lower_right` against prompt and reply side by side; in fp32 the memory-efficient kernel. Where a row's
parts lie is known on the host, so that no layer waits for the device.

Whether a row is long is decided for each row alone: in whatever batch and step a pair comes, with or without
gradients, it is computed alike, and so a policy agrees with its reference at the start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv

# Rows of at least this many tokens, prompt and replies together, are attended by parts (docs/benchmarks.md).
LONG_ROW = 1024
KERNEL = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
KERNEL_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class RowParts:
    """How the rows of a batch are attended.

    Attributes:
        long: For each row that is attended by parts, where its prompt and its replies end.
        short: The other rows, shape (S,), on the batch's device; None where there are none.
        mask: Theirs, shape (S, 1, l, l), added to the scores; l is the longest one's tokens.
    """

    long: Mapping[int, Sequence[int]]
    short: Tensor | None = None
    mask: Tensor | None = None


def long_rows(bounds: np.ndarray) -> dict[int, list[int]]:
    """The long rows of a batch, and where their prompts and replies end.

    Args:
        bounds: Where each part of each row starts, and where the last one ends, shape (B, K + 2).
    """
    return {int(row): bounds[row, 1:].tolist() for row in np.flatnonzero(bounds[:, -1] >= LONG_ROW)}


def in_place_of_mask(parts: RowParts, rows: int, length: int, dtype: torch.dtype, device) -> Tensor:
    """What models hand on to their layers as the attention mask, shape (B, 1, L, L), with `row_parts`.

    It takes no memory, and all of it is NaN: code that reads it as a mask cannot go on unseen.
    """
    nothing = torch.full((), float("nan"), dtype=dtype, device=device).expand(rows, 1, length, length)
    nothing.row_parts = parts
    return nothing


@torch.compiler.disable  # compiled code would be made anew for the lengths of each batch
def attend_long(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Mapping[int, Sequence[int]],
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of the long rows of a batch.

    Args:
        query: Shape (B, H, L, D).
        key, value: Shape (B, G, L, D) and (B, G, L, E).
        rows: See `RowParts.long`.
        scaling: Factor of the scores; default 1 / sqrt(D).
        dropout: Share of attention weights dropped.

    Returns:
        Shape (B, L, H, E); 0 in padding and in other rows.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind, dtype = query.device.type, query.dtype
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    tensors = [x.to(dtype) for x in (query, key, value)]
    known = dtype in (torch.float32, torch.bfloat16) and query.shape[-1] == value.shape[-1]
    if kind == "cpu" and known and not dropout:
        return _Parts.apply(*tensors, rows, scale).transpose(1, 2)
    return _by_torch(*tensors, rows, scale, dropout)


def _pieces(ends: Sequence[int]) -> Iterator[tuple[slice, list[tuple[slice, bool]]]]:
    """Of one row: queries, and the keys they see; True where causally.

    Args:
        ends: Of prompt and replies.
    """
    prompt = slice(0, ends[0])
    first = slice(0, ends[1])
    yield first, [(first, True)]
    for start, end in zip(ends[1:], ends[2:], strict=False):
        reply = slice(start, end)
        yield reply, [(prompt, False), (reply, True)]


class _Parts(torch.autograd.Function):
    """By torch's fused kernel for processors, which takes fewer key than query heads as they are."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, rows: Mapping, scale: float):
        query, key, value = map(_with_whole_heads, (query, key, value))
        count, heads, length, width = query.shape
        output = query.new_zeros(count, length, heads, width).transpose(1, 2)
        log_sum = query.new_zeros(count, heads, length, dtype=torch.float32)
        for row, ends in rows.items():
            q, k, v = (x[row : row + 1] for x in (query, key, value))
            for place, seen in _pieces(ends):
                found = [
                    KERNEL(q[:, :, place], k[:, :, keys], v[:, :, keys], 0.0, causal, scale=scale)
                    for keys, causal in seen
                ]
                output[row : row + 1, :, place], log_sum[row : row + 1, :, place] = _joined(*found)
        ctx.save_for_backward(query, key, value, output, log_sum)
        ctx.rows, ctx.scale = rows, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        query, key, value, output, log_sum = ctx.saved_tensors
        gradient, found = _with_whole_heads(gradient), [torch.zeros_like(x) for x in (query, key, value)]
        for row, ends in ctx.rows.items():
            at = slice(row, row + 1)
            for place, seen in _pieces(ends):
                mine = [x[at, :, place] for x in (gradient, query, output, log_sum)]
                for keys, causal in seen:
                    theirs = [x[at, :, keys] for x in (key, value)]
                    shares = KERNEL_BACKWARD(*mine[:2], *theirs, *mine[2:], 0.0, causal, scale=ctx.scale)
                    for whole, where, share in zip(found, (place, keys, keys), shares, strict=True):
                        whole[at, :, where] += share
        return *found, None, None


def _with_whole_heads(tensor: Tensor) -> Tensor:
    """The kernel reads the numbers of a head as neighbours, and does not look whether they are."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _joined(*found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp over all keys, from those over one or two shares of them."""
    if len(found) == 1:
        return found[0]
    (first, log_first), (second, log_second) = found
    log_sum = torch.logaddexp(log_first, log_second)
    weights = ((log - log_sum).exp()[..., None] for log in (log_first, log_second))
    return sum(weight * part.float() for weight, part in zip(weights, (first, second), strict=True)), log_sum


def _by_torch(
    query: Tensor, key: Tensor, value: Tensor, rows: Mapping, scale: float, dropout: float
) -> Tensor:
    count, heads, length, _ = query.shape
    key, value = (repeat_kv(x, heads // key.shape[1]) for x in (key, value))
    settings = {"scale": scale, "dropout_p": dropout}
    outputs = [query.new_zeros(1, heads, length, value.shape[-1])] * count
    for row, ends in rows.items():
        q, k, v = (x[row : row + 1] for x in (query, key, value))
        found = []
        for place, seen in _pieces(ends):
            keys, values = (torch.cat([x[:, :, s] for s, _ in seen], dim=2) for x in (k, v))
            mine = q[:, :, place]
            causal = causal_lower_right(mine.shape[2], keys.shape[2])
            found.append(scaled_dot_product_attention(mine, keys, values, attn_mask=causal, **settings))
        whole = torch.cat(found, dim=2)
        outputs[row] = pad(whole, (0, 0, 0, length - whole.shape[2]))
    return torch.cat(outputs).transpose(1, 2)
