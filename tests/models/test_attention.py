import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_hw.models import attention
from rlhf_hw.models.attention import additive, attend, pair_mask, refuse_beyond_window
from rlhf_hw.models.loading import load_policy

SEGMENTS = torch.tensor([[0] * 20 + [1] * 9 + [2] * 14 + [-1] * 5, [0] * 8 + [1] * 30 + [2] * 10])


def inputs(dtype: torch.dtype, size: float = 1.0) -> list[torch.Tensor]:
    """Query of 4 heads, key and value of 2, one row of each kind above; scores of about this mean size."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, SEGMENTS.shape[1], 16) for heads in (4, 2, 2)]
    query, key, value = (torch.randn(s, generator=generator) for s in shapes)
    return [x.to(dtype).requires_grad_() for x in (query * size, key / 0.8, value)]


def layer() -> nn.Module:
    module = nn.Module()
    module.num_key_value_groups = 2
    return module


def expected(query, key, value, mask):
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


def attended(tensors, mask=None):
    """Our attention on the rows above, and the gradients of a fixed function of its output."""
    mask = additive(pair_mask(SEGMENTS), torch.bfloat16) if mask is None else mask
    found, weights = attend(layer(), *tensors, mask)
    assert weights is None and found.dtype == torch.bfloat16
    found.float().square().sum().backward()
    return found.detach(), [x.grad for x in tensors]


def from_fp64(size: float) -> list[float]:
    """Relative distances from fp64 and autograd: output, then the gradients of query, key and value."""
    found, gradients = attended(inputs(torch.bfloat16, size))
    exact = [x.detach().double().requires_grad_() for x in inputs(torch.bfloat16, size)]
    wanted = expected(*exact, pair_mask(SEGMENTS))
    wanted.square().sum().backward()
    return [relative(found, wanted.detach()), *map(relative, gradients, (x.grad for x in exact))]


@pytest.mark.parametrize("limit", [2**24, 0], ids=["products", "fused"])
@pytest.mark.parametrize("size", [1, 32, 512])
def test_both_backward_passes_agree_with_fp32_however_large_scores_are(monkeypatch, limit, size) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", limit)
    output, *gradients = from_fp64(size)
    assert output < 0.004
    assert max(gradients) < 0.02


def scores_without_scale(real):
    return lambda *tensors_and_scale: real(*tensors_and_scale[:-1], 1.0)


def gradients_without_scale(real):
    def wrong(*given):
        query, key, value = real(*given)
        return query / given[-1], key / given[-1], value

    return wrong


def log_sum_of_another_row(real):
    return lambda q, k, v, g, log_sum, *rest: real(q, k, v, g, log_sum.roll(1, 0), *rest)


def mask_of_another_row(real):
    return lambda q, k, v, g, log_sum, mask, scale: real(q, k, v, g, log_sum, mask.roll(1, 0), scale)


def heads_of_another_group(real):
    def wrong(query, key, value, gradient, *rest):
        return real(query, key, value, gradient.roll(2, 1), *rest)

    return wrong


def key_and_value_swapped(real):
    def wrong(*given):
        query, key, value = real(*given)
        return query, value, key

    return wrong


@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (scores_without_scale, 1),
        (gradients_without_scale, 1),
        (log_sum_of_another_row, 512),  # a softmax is the same with any number in its place, rounding is not
        (mask_of_another_row, 1),
        (heads_of_another_group, 1),
        (key_and_value_swapped, 1),
    ],
)
def test_planted_faults_of_the_backward_pass_are_far_from_it(monkeypatch, fault, size) -> None:
    monkeypatch.setattr(attention, "_gradients", fault(attention._gradients))
    output, *gradients = from_fp64(size)
    assert output < 0.004
    assert max(gradients) > 0.1


def test_a_softmax_whose_sum_moves_with_the_scores_is_far_from_it(monkeypatch) -> None:
    monkeypatch.setattr(torch, "_softmax_backward_data", lambda gradient, weights, *_: gradient * weights)
    assert max(from_fp64(1)) > 0.1


def test_with_and_without_gradients_it_is_the_same_kernel(monkeypatch) -> None:
    tensors, mask = inputs(torch.bfloat16), additive(pair_mask(SEGMENTS), torch.bfloat16)
    whole, gradients = attended(tensors)
    for limit in (2**24, 4 * SEGMENTS.shape[1] ** 2, 0):  # all rows at once, one row of four heads, none
        monkeypatch.setattr(attention, "MAX_SCORES", limit)
        with torch.no_grad():
            assert torch.equal(attend(layer(), *tensors, mask)[0], whole)
        again, pieces = attended(inputs(torch.bfloat16))
        assert torch.equal(again, whole)
        assert limit == 0 or all(map(torch.equal, pieces, gradients))


def test_fp32_is_left_to_the_fused_kernel() -> None:
    mask, tensors = pair_mask(SEGMENTS), inputs(torch.float32)
    found, _ = attend(layer(), *tensors, additive(mask, torch.float32))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected(*tensors, mask), atol=1e-6, rtol=1e-5)


def test_a_position_that_sees_nothing_is_not_nan() -> None:
    mask = pair_mask(SEGMENTS)
    mask[0, 0, -1] = False
    found, gradients = attended(inputs(torch.bfloat16), additive(mask, torch.bfloat16))
    assert all(x.isfinite().all() for x in (found, *gradients))


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
