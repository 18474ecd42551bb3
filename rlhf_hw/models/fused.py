"""The small operations of a decoder layer in fewer passes over memory, for bf16 products on a processor.

At a width of a few hundred, norms, rotary positions, residual sums and casts take more time than the products
with weights. `use_fused` gives the decoder layers of Llama, Mistral, Qwen2 and Qwen3 a `forward` that does
the same arithmetic with fewer of them: norms and positions in fp32, rounded to bf16 where the next product
rounds them anyway. Parameters, their names and checkpoints stay as they are. Layers of other models, other
formats than bf16 autocast on a processor and weights that something else takes care of (a hook of
DeepSpeed's ZeRO 3, for instance) keep their own path. With adapters (LoRA) the products are `low_rank`'s.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from rlhf_hw.models.attention import ATTENTION, attend
from rlhf_hw.models.low_rank import adapted_forward, adapted_linear, in_bf16, is_adapted, is_plain

LAYERS = {f"{family}DecoderLayer" for family in ("Llama", "Mistral", "Qwen2", "Qwen3")}
ATTENTIONS = {f"{family}Attention" for family in ("Llama", "Mistral", "Qwen2")}  # Qwen3 norms its heads


def use_fused(model: PreTrainedModel) -> list[nn.Module]:
    """Give the modules of a model that are known a faster `forward`; returns those that did not have it."""
    changed = []
    for module in model.modules():
        kind = type(module)
        forward = None if hasattr(kind, "plain") else _faster(kind)
        if forward:
            module.__class__ = with_forward(kind, forward)
            changed.append(module)
    return changed


def _faster(kind: type) -> Callable | None:
    if kind.__module__ == "peft.tuners.lora.layer":
        return adapted_forward if kind.__name__ == "Linear" else None
    if not kind.__module__.startswith("transformers.models."):
        return None
    return _layer if kind.__name__ in LAYERS else _attention if kind.__name__ in ATTENTIONS else None


@cache
def with_forward(kind: type, forward: Callable) -> type:
    """A class of the same name, since checkpoints record it, with another `forward`; its own is in `plain`.

    A bound method kept in the module instead would be a reference cycle.
    """
    return type(kind.__name__, (kind,), {"forward": forward, "plain": kind, "__module__": kind.__module__})


@contextmanager
def fused(model: PreTrainedModel) -> Iterator[None]:
    """`use_fused` within it; what had its faster `forward` before keeps it."""
    changed = use_fused(model)
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = module.plain


def _layer(self: nn.Module, hidden_states: Tensor, **kwargs) -> Tensor:
    first, second = self.input_layernorm, self.post_attention_layernorm
    usable = hidden_states.dtype == torch.float32 and in_bf16(hidden_states)
    if not (usable and is_plain(first) and is_plain(second)):
        return self.plain.forward(self, hidden_states, **kwargs)
    hidden_states, normed = _AddAndNorm.apply(hidden_states, None, first.weight, first.variance_epsilon)
    attended, _ = self.self_attn(hidden_states=normed, **kwargs)
    hidden_states, normed = _AddAndNorm.apply(hidden_states, attended, second.weight, second.variance_epsilon)
    return hidden_states + self.mlp(normed).float()


def _attention(
    self: nn.Module,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    attention_mask: Tensor | None = None,
    past_key_values=None,
    **kwargs,
) -> tuple[Tensor, Tensor | None]:
    projections = (self.q_proj, self.k_proj, self.v_proj)
    usable = (
        hidden_states.dtype == torch.bfloat16
        and in_bf16(hidden_states)
        and past_key_values is None
        and self.config._attn_implementation == ATTENTION
        and position_embeddings[0].shape[-1] == self.head_dim
        and (all(map(_is_linear, projections)) or all(map(is_adapted, projections)))
    )
    if not usable:
        return self.plain.forward(
            self, hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs
        )
    size = self.head_dim
    heads, key_heads = (p.out_features // size for p in projections[:2])
    turned = partial(_pairs, width=size)
    if _is_linear(projections[0]):
        weight = torch.cat([*(turned(p.weight) for p in projections[:2]), self.v_proj.weight])
        bias = self.q_proj.bias
        if bias is not None:
            bias = torch.cat([*(turned(p.bias) for p in projections[:2]), self.v_proj.bias])
        product = F.linear(hidden_states, weight, bias)
    else:
        product = adapted_linear(hidden_states, projections, (turned, turned, torch.Tensor.contiguous))
    query, key, value = _SplitAndTurn.apply(product, _turns(*position_embeddings), heads, key_heads, size)
    dropout = self.attention_dropout if self.training else 0.0
    output, weights = attend(
        self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
    )
    return self.o_proj(output.flatten(2)), weights


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear and is_plain(module)


def _pairs(weight: Tensor, width: int) -> Tensor:
    """Rows of each head such that the two numbers that are turned together are neighbours."""
    return weight.unflatten(0, (-1, 2, width // 2)).transpose(1, 2).flatten(0, 2)


def _turns(cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions as complex numbers, shape (B, 1, L D / 2); kept with `cos` for the next layer."""
    if not hasattr(cos, "turns"):
        half = cos.shape[-1] // 2
        cos.turns = torch.complex(cos[..., :half], sin[..., :half]).flatten(1)[:, None]
    return cos.turns


class _AddAndNorm(torch.autograd.Function):
    """Residual sum x + h, and its root-mean-square norm in bf16 (Zhang and Sennrich 2019, arXiv 1910.07467).

    With s = x + h and r = (mean(s^2) + eps)^(-1/2), y = w r s; of a gradient g of y come
    r w g - s r^3 mean(w g s) for s and the sum of r s g over the tokens for w.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, added: Tensor | None, weight: Tensor, eps: float):
        total = hidden if added is None else hidden + added.float()
        scale = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        scale = scale.square_().div_(total.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(total, scale, weight)
        ctx.set_materialize_grads(False)
        ctx.added = None if added is None else added.dtype
        return total.view_as(total), (total * scale).mul_(weight).to(torch.bfloat16)

    @staticmethod
    @once_differentiable
    def backward(ctx, total_gradient: Tensor | None, gradient: Tensor):
        total, scale, weight = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            gradient = gradient.float()
            flat = (gradient * total).flatten(0, -2)
            of_weight = scale.flatten() @ flat if ctx.needs_input_grad[2] else None
            mean = (flat @ weight).view_as(scale) / total.shape[-1]
            gradient.mul_(weight).mul_(scale).addcmul_(total, mean.mul_(scale**3), value=-1)
            if total_gradient is not None:
                gradient.add_(total_gradient)
        of_added = gradient.to(ctx.added) if ctx.needs_input_grad[1] else None
        return gradient, of_added, of_weight, None


class _SplitAndTurn(torch.autograd.Function):
    """Query, key and value heads of one product, the first two turned by their positions in fp32.

    The product has shape (B, L, (H + 2 G) D), the turns (B, 1, L D / 2); query, key and value get the shape
    (B, H or G, L, D).
    """

    @staticmethod
    def forward(ctx, product: Tensor, turns: Tensor, heads: int, key_heads: int, size: int):
        parts = product.unflatten(-1, (-1, size)).transpose(1, 2).contiguous()
        turned = parts[:, : heads + key_heads].float()
        torch.view_as_complex(turned.view(*turned.shape[:2], -1, 2)).mul_(turns)
        ctx.save_for_backward(turns)
        query, key = (x.to(product.dtype) for x in (turned[:, :heads], turned[:, heads:]))
        return query, key, parts[:, heads + key_heads :]

    @staticmethod
    @once_differentiable
    def backward(ctx, query: Tensor, key: Tensor, value: Tensor):
        (turns,) = ctx.saved_tensors
        turned = torch.cat([query, key], dim=1).float()
        torch.view_as_complex(turned.view(*turned.shape[:2], -1, 2)).mul_(turns.conj())
        parts = torch.cat([turned.to(query.dtype), value], dim=1)
        return parts.transpose(1, 2).flatten(2), None, None, None, None
