import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_hw.models import fused as module
from rlhf_hw.models.attention import ATTENTION, pair_mask
from rlhf_hw.models.forward import inference, log_prob_batch, use_pair_forward
from rlhf_hw.models.fused import fused, use_fused

FAMILIES = ("qwen2", "qwen3", "llama", "mistral")
SEGMENTS = torch.tensor([[0] * 9 + [1] * 7 + [2] * 8, [0] * 5 + [1] * 12 + [2] * 4 + [-1] * 3])


def tiny(family: str, **settings):
    """A model of two layers, 4 query heads for 2 key heads, whose norms and biases are not all alike."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 40}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": None}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes, **heads, **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shift = 1.0 if "norm" in name else 0.0
            parameter.copy_(shift + 0.2 * torch.randn_like(parameter))
    model.set_attn_implementation(ATTENTION)
    return model.eval()


def run(model, bf16: bool = True) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Last hidden states and the gradients of all parameters."""
    model.zero_grad()
    ids = torch.arange(SEGMENTS.numel()).view(SEGMENTS.shape) % 37
    positions = torch.arange(SEGMENTS.shape[1]).expand(SEGMENTS.shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        mask = pair_mask(SEGMENTS)
        mask = torch.zeros(mask.shape, dtype=torch.bfloat16 if bf16 else torch.float32).masked_fill_(
            ~mask, torch.finfo(torch.bfloat16).min
        )
        hidden = model.model(
            input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False
        ).last_hidden_state[SEGMENTS >= 0]
    hidden.float().square().mul(torch.linspace(-1, 1, hidden.shape[1])).sum().backward()
    return hidden.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def far(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def distances(model) -> tuple[float, float]:
    """Relative distance of the fused path from fp32 over that of the plain path: states and gradients."""
    exact, plain = run(model, bf16=False), run(model)
    with fused(model):
        ours = run(model)
        assert hasattr(model.model.layers[0], "plain")
    weights = exact[1].keys()
    assert ours[1].keys() == weights
    worst = max(far(ours[1][n], exact[1][n]) / (far(plain[1][n], exact[1][n]) + 1e-3) for n in weights)
    return far(ours[0], exact[0]) / far(plain[0], exact[0]), worst


@pytest.mark.parametrize("family", FAMILIES)
def test_as_near_to_fp32_as_the_plain_path(family) -> None:
    of_states, of_gradients = distances(tiny(family))
    assert of_states < 1.25
    assert of_gradients < 1.5


def test_biases_of_llama() -> None:
    assert max(distances(tiny("llama", attention_bias=True))) < 1.5


def another_eps(forward):
    return lambda ctx, hidden, added, weight, eps: forward(ctx, hidden, added, weight, 0.1 + eps)


def too_coarse(forward):
    def rounded(ctx, hidden, added, weight, eps):
        return forward(ctx, hidden.to(torch.float8_e4m3fn).float(), added, weight, eps)

    return rounded


def turned_back(forward):
    return lambda ctx, product, turns, *rest: forward(ctx, product, turns.conj(), *rest)


@pytest.mark.parametrize(
    ("name", "method", "fault"),
    [
        ("_AddAndNorm", "forward", another_eps),
        ("_AddAndNorm", "forward", too_coarse),
        ("_SplitAndTurn", "forward", turned_back),
    ],
)
def test_planted_faults_are_far_from_it(monkeypatch, name, method, fault) -> None:
    function = getattr(module, name)
    monkeypatch.setattr(function, method, staticmethod(fault(getattr(function, method))))
    assert min(distances(tiny("qwen2"))) > 1.6


def keeping(change):
    """A fault of a backward pass: what the forward pass kept for it is changed on the way."""

    def fault(backward):
        def wrong(ctx, *gradients):
            known = {name: getattr(ctx, name) for name in ("needs_input_grad", "added") if hasattr(ctx, name)}
            return backward(SimpleNamespace(saved_tensors=change(*ctx.saved_tensors), **known), *gradients)

        return wrong

    return fault


def without_residual(backward):
    return lambda ctx, total, gradient: backward(ctx, None, gradient)


def without_mean(backward):
    """Only r w g: as if the root mean square did not move with the states."""

    def wrong(ctx, total_gradient, gradient):
        _, scale, weight = ctx.saved_tensors
        of_weight = backward(ctx, total_gradient, gradient)[2]
        of_total = gradient.float() * weight * scale + (0 if total_gradient is None else total_gradient)
        return of_total, of_total.to(ctx.added) if ctx.needs_input_grad[1] else None, of_weight, None

    return wrong


def half_for_what_is_added(backward):
    def wrong(ctx, *gradients):
        of_hidden, of_added, *rest = backward(ctx, *gradients)
        return of_hidden, None if of_added is None else of_added / 2, *rest

    return wrong


def value_heads_swapped(backward):
    return lambda ctx, query, key, value: backward(ctx, query, key, value.flip(1))


def query_in_place_of_key(backward):
    return lambda ctx, query, key, value: backward(ctx, query.roll(key.shape[1], 1), key, value)


BACKWARD_FAULTS = {
    "residual": ("_AddAndNorm", without_residual),
    "mean": ("_AddAndNorm", without_mean),
    "added": ("_AddAndNorm", half_for_what_is_added),
    "another token's scale": ("_AddAndNorm", keeping(lambda total, scale, w: (total, scale.roll(1, 1), w))),
    "weight": ("_AddAndNorm", keeping(lambda total, scale, w: (total, scale, torch.ones_like(w)))),
    "turned on": ("_SplitAndTurn", keeping(lambda turns: (turns.conj(),))),
    "not turned": ("_SplitAndTurn", keeping(lambda turns: (torch.ones_like(turns),))),
    "heads of value": ("_SplitAndTurn", value_heads_swapped),
    "heads of query": ("_SplitAndTurn", query_in_place_of_key),
}


@pytest.mark.parametrize("fault", BACKWARD_FAULTS)
def test_planted_faults_of_backward_passes_are_far_from_it(monkeypatch, fault) -> None:
    name, plant = BACKWARD_FAULTS[fault]
    function = getattr(module, name)
    monkeypatch.setattr(function, "backward", staticmethod(plant(function.backward)))
    of_states, of_gradients = distances(tiny("qwen2"))
    assert of_states < 1.25
    assert of_gradients > 10


def test_gradients_by_formula_are_those_of_autograd() -> None:
    hidden, added = torch.randn(3, 5, 16, requires_grad=True), torch.randn(3, 5, 16, requires_grad=True)
    weight = torch.randn(16, requires_grad=True)
    inputs = (hidden, added, weight)
    ours = module._AddAndNorm.apply(hidden, added, weight, 1e-3)
    total = hidden + added
    normed = weight * (total * (total.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt())
    torch.testing.assert_close(ours[0], total)
    assert torch.equal(ours[1], normed.to(torch.bfloat16))
    gradients = (torch.randn(3, 5, 16), torch.randn(3, 5, 16).to(torch.bfloat16))
    found = torch.autograd.grad(ours, inputs, gradients)
    wanted = torch.autograd.grad((total, normed), inputs, (gradients[0], gradients[1].float()))
    torch.testing.assert_close(found[0], wanted[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], wanted[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[2], wanted[2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_is_the_plain_path_bit_for_bit(family) -> None:
    model = tiny(family)
    plain = run(model, bf16=False)
    with fused(model):
        ours = run(model, bf16=False)
    assert torch.equal(ours[0], plain[0])
    assert all(torch.equal(ours[1][name], plain[1][name]) for name in plain[1])


def test_checkpointing_gives_the_same_gradients() -> None:
    model = tiny("qwen2")
    use_fused(model)
    plain = run(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = run(model.train())
    assert torch.equal(plain[0], again[0])
    assert all(torch.equal(plain[1][name], again[1][name]) for name in plain[1])


def test_other_families_are_left_alone_and_the_mode_ends_with_its_context() -> None:
    other = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, vocab_size=20)
    )
    assert use_fused(other) == []
    model = tiny("qwen2")
    before = [type(m) for m in model.modules()]
    names = list(model.state_dict())
    with inference(model, "bf16"):
        assert hasattr(model.model.layers[0], "plain") and hasattr(model.model.layers[0].self_attn, "plain")
        assert list(model.state_dict()) == names
        with inference(model, "bf16"):
            pass
        assert hasattr(model.model.layers[0], "plain"), "the inner context ends what the outer began"
    assert [type(m) for m in model.modules()] == before


def test_training_uses_it_and_what_it_saves_is_standard(tmp_path) -> None:
    model = use_pair_forward(tiny("qwen2"), log_prob_batch)
    assert hasattr(model.model.layers[1], "plain")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "Qwen2ForCausalLM"
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    layer = weakref.ref(model.model.layers[0])
    gc.collect()
    gc.disable()
    try:
        del model.model.layers[0]
        assert layer() is None, "a cycle keeps the layer"
    finally:
        gc.enable()
