import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_hw.models import attention
from rlhf_hw.models.attention import attend, refuse_beyond_window
from rlhf_hw.models.forward import pair_mask
from rlhf_hw.models.loading import load_policy

SEGMENTS = torch.tensor([[0] * 20 + [1] * 9 + [2] * 14 + [-1] * 5, [0] * 8 + [1] * 30 + [2] * 10])


def inputs(dtype: torch.dtype) -> list[torch.Tensor]:
    """Query of 4 heads, key and value of 2, one row of each kind above."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, SEGMENTS.shape[1], 16) for heads in (4, 2, 2)]
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def layer() -> nn.Module:
    module = nn.Module()
    module.num_key_value_groups = 2
    return module


def expected(query, key, value, mask):
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


@pytest.mark.parametrize(("limit", "bound"), [(2**24, 0.01), (0, 0.01)])
def test_products_and_the_fused_kernel_agree_with_fp32(monkeypatch, limit, bound) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", limit)
    mask, ours, exact = pair_mask(SEGMENTS), inputs(torch.bfloat16), inputs(torch.bfloat16)
    found, weights = attend(layer(), *ours, mask)
    wanted = expected(*(x.float() for x in exact), mask)
    assert weights is None and found.dtype == torch.bfloat16
    assert relative(found, wanted) < bound
    found.float().square().sum().backward()
    wanted.square().sum().backward()
    for mine, theirs in zip(ours, exact, strict=True):
        assert relative(mine.grad, theirs.grad) < 2 * bound


def test_without_gradients_many_rows_are_computed_piece_by_piece(monkeypatch) -> None:
    mask, tensors = pair_mask(SEGMENTS), inputs(torch.bfloat16)
    whole, _ = attend(layer(), *tensors, mask)
    monkeypatch.setattr(attention, "MAX_SCORES", 4 * SEGMENTS.shape[1] ** 2)  # one row of four heads
    fused, _ = attend(layer(), *tensors, mask)
    with torch.no_grad():
        pieces, _ = attend(layer(), *tensors, mask)
    torch.testing.assert_close(pieces, whole, atol=0, rtol=0)
    assert not torch.equal(fused, whole), "with gradients rows beyond the bound are the fused kernel's"


def test_fp32_is_left_to_the_fused_kernel() -> None:
    mask, tensors = pair_mask(SEGMENTS), inputs(torch.float32)
    found, _ = attend(layer(), *tensors, mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected(*tensors, mask), atol=1e-6, rtol=1e-5)


def test_a_position_that_sees_nothing_is_not_nan() -> None:
    mask = pair_mask(SEGMENTS).clone()
    mask[0, 0, -1] = False
    found, _ = attend(layer(), *inputs(torch.bfloat16), mask)
    assert found.isfinite().all()


def tiny(architecture: str, **settings):
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 20}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape, **heads, **settings))


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("lfm2", {"layer_types": ["conv", "full_attention"]}), ("rwkv", {"context_length": 32})],
)
def test_layers_without_a_mask_are_refused(tmp_path, architecture, settings) -> None:
    tiny(architecture, **settings).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not attend by a mask in all of its layers"):
        load_policy(tmp_path)


def test_texts_beyond_a_sliding_window_are_refused() -> None:
    model = tiny("mistral", sliding_window=30)
    refuse_beyond_window(model, 30)
    with pytest.raises(ValueError, match="31 tokens.*to the last 30 only; lower max_prompt_tokens"):
        refuse_beyond_window(model, 31)
    refuse_beyond_window(tiny("qwen2", sliding_window=30, use_sliding_window=False), 31)
