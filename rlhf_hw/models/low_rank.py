"""Products with low-rank adapters (LoRA; Hu et al. 2022, arXiv 2106.09685) in fewer passes over memory.

An adapted layer computes x W^T + s (x A^T) B^T with W frozen. peft runs each part as a layer of its own, with
x cast to fp32 in front and W to bf16 in every pass: under bf16 autocast on a processor that takes as long as
training all weights. `adapted_forward` keeps W in bf16 and adds the low-rank part into the product. The
arithmetic is the same, a rounding of the low-rank part to bf16 apart. Other formats, devices, kinds of
adapters, and weights that something else takes care of keep peft's path.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def is_plain(module: nn.Module) -> bool:
    """It holds its weight in fp32, and nothing else acts when it runs."""
    hooks = module._forward_pre_hooks or module._forward_hooks or "forward" in vars(module)
    return module.weight.dtype == torch.float32 and not hooks and not hasattr(module.weight, "ds_id")


def in_bf16(hidden: Tensor) -> bool:
    """bf16 autocast of a processor is on, and the tensor lies there."""
    on = hidden.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return on and torch.get_autocast_dtype("cpu") == torch.bfloat16


def is_adapted(module: nn.Module) -> bool:
    """A linear layer with one plain adapter that is switched on, whose own weight is frozen."""
    if not hasattr(module, "lora_A") or module.disable_adapters or module.merged:
        return False
    base, (name, *more) = module.base_layer, module.active_adapters
    parts = (base, module.lora_A[name], module.lora_B[name])
    return (
        not more
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], nn.Identity)
        and all(type(part) is nn.Linear and is_plain(part) for part in parts)
        and parts[2].bias is None
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
    )


def adapted_linear(
    hidden: Tensor, modules: Sequence[nn.Module], turn: Sequence[Callable[[Tensor], Tensor]] | None = None
) -> Tensor:
    """The outputs of one or several adapted layers with the same input, side by side.

    Args:
        hidden: Shape (..., I), bf16.
        modules: Layers of which `is_adapted` holds.
        turn: For each layer a function that orders the rows of its weight, and so its outputs; default: none.

    Returns:
        Shape (..., sum of the layers' O), bf16.
    """
    turn = turn or [_as_it_is] * len(modules)
    downs, ups = [], []
    for module, turned in zip(modules, turn, strict=True):
        (name,) = module.active_adapters
        downs.append(module.lora_A[name].weight)
        ups.append(turned(module.lora_B[name].weight) * module.scaling[name])
    down = downs[0] if len(downs) == 1 else torch.cat(downs)
    up = ups[0] if len(ups) == 1 else torch.block_diag(*ups)
    return _LowRankProduct.apply(hidden, *_frozen(modules, turn), down, up)


def _as_it_is(weight: Tensor) -> Tensor:
    return weight


def adapted_forward(self: nn.Module, x: Tensor, *args, **kwargs) -> Tensor:
    """The `forward` of an adapted linear layer of peft's, whose own one is in `plain`."""
    if args or kwargs or x.dtype != torch.bfloat16 or not in_bf16(x) or not is_adapted(self):
        return self.plain.forward(self, x, *args, **kwargs)
    return adapted_linear(x, [self])


def _frozen(
    modules: Sequence[nn.Module], turn: Sequence[Callable[[Tensor], Tensor]]
) -> tuple[Tensor, Tensor | None]:
    """The layers' own weights and biases in bf16, made once and kept in the first adapter until it goes."""
    bases = [module.base_layer for module in modules]
    held = [b.weight for b in bases] + [b.bias for b in bases if b.bias is not None]
    state = [(tensor.data_ptr(), tensor._version) for tensor in held]
    kept = vars(modules[0]).get("frozen_products")
    if kept is None or kept[0] != state:
        with torch.inference_mode(False), torch.no_grad():  # a training step may come after an evaluation
            pairs = list(zip(bases, turn, strict=True))
            weight = torch.cat([turned(b.weight) for b, turned in pairs]).to(torch.bfloat16)
            bias = None
            if bases[0].bias is not None:
                bias = torch.cat([turned(b.bias) for b, turned in pairs]).to(torch.bfloat16)
        kept = modules[0].frozen_products = (state, weight, bias)
    return kept[1:]


class _LowRankProduct(torch.autograd.Function):
    """y = x W^T + b + (x A^T) B^T with W and b frozen in bf16; A and B in fp32, as are their gradients.

    Of a gradient g of y come g W + (g B) A for x, (g B)^T x for A and g^T (x A^T) for B.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor):
        flat = hidden.flatten(0, -2)
        down, up = down.to(flat.dtype), up.to(flat.dtype)
        inner = flat @ down.t()
        output = F.linear(flat, weight, bias).addmm_(inner, up.t())
        ctx.save_for_backward(hidden, inner, weight, down, up)
        return output.unflatten(0, hidden.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        hidden, inner, weight, down, up = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        through = flat @ up
        of_hidden = None
        if ctx.needs_input_grad[0]:
            of_hidden = (flat @ weight).addmm_(through, down).view_as(hidden)
        of_down = (through.t() @ hidden.flatten(0, -2)).float()
        return of_hidden, None, None, of_down, (flat.t() @ inner).float()
