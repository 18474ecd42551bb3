"""Adapted layers of peft's by our products: as near to fp32 as its own, and only where they do the same."""

import pytest
import torch

from rlhf_hw.models import low_rank
from rlhf_hw.models.forward import inference, log_prob_batch, use_pair_forward
from rlhf_hw.models.fused import use_fused
from rlhf_hw.models.low_rank import adapted_linear, is_adapted
from rlhf_hw.training.lora import add_lora, merge_lora
from tests.models.test_fused import FAMILIES, distances, keeping, run, tiny


def adapted(family: str = "llama", **settings):
    """A tiny model with adapters that do something, and peft's handle on them."""
    model = tiny(family, **settings)
    handle = add_lora(model, 4, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    return model, handle


@pytest.fixture
def calls(monkeypatch):
    """How many layers each of our products was made for."""
    made = []
    real = low_rank.adapted_linear

    def counted(hidden, modules, turn=None):
        made.append(len(modules))
        return real(hidden, modules, turn)

    monkeypatch.setattr(low_rank, "adapted_linear", counted)
    monkeypatch.setattr("rlhf_hw.models.fused.adapted_linear", counted)
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_as_near_to_fp32_as_pefts_path(family, calls) -> None:
    of_states, of_gradients = distances(adapted(family)[0])
    assert of_states < 1.25
    assert of_gradients < 1.5
    # two layers of query, key, value (Qwen3 norms its heads: apart), then output, gate, up, down
    assert sorted(calls) == sorted(2 * ([1] * 7 if family == "qwen3" else [3, 1, 1, 1, 1]))


def test_biases_of_llama() -> None:
    assert max(distances(adapted(attention_bias=True, mlp_bias=True)[0])) < 1.5


@pytest.mark.parametrize("fault", ["scale", "rank"])
def test_planted_faults_are_far_from_it(monkeypatch, fault) -> None:
    real = low_rank._LowRankProduct.forward

    def wrong(ctx, hidden, weight, bias, down, up):
        return real(ctx, hidden, weight, bias, down, up / 2 if fault == "scale" else up.roll(1, 0))

    monkeypatch.setattr(low_rank._LowRankProduct, "forward", staticmethod(wrong))
    assert min(distances(adapted()[0])) > 2


def half_for(place: int):
    """The gradient of one input of a product is half as large."""

    def fault(backward):
        def wrong(ctx, gradient):
            found = list(backward(ctx, gradient))
            found[place] = found[place] / 2 if found[place] is not None else None
            return tuple(found)

        return wrong

    return fault


BACKWARD_FAULTS = {
    "input without its low-rank part": keeping(lambda x, i, w, a, b: (x, i, w, torch.zeros_like(a), b)),
    "input without its frozen part": keeping(lambda x, i, w, a, b: (x, i, torch.zeros_like(w), a, b)),
    "another token's inner product": keeping(lambda x, i, w, a, b: (x, i.roll(1, 0), w, a, b)),
    "another token's input": keeping(lambda x, i, w, a, b: (x.roll(1, 1), i, w, a, b)),
    "another rank's column": keeping(lambda x, i, w, a, b: (x, i, w, a, b.roll(1, 1))),
    "half for A": half_for(3),
    "half for B": half_for(4),
}


@pytest.mark.parametrize("fault", BACKWARD_FAULTS)
def test_planted_faults_of_the_backward_pass_are_far_from_pefts_path(monkeypatch, fault) -> None:
    product = low_rank._LowRankProduct
    monkeypatch.setattr(product, "backward", staticmethod(BACKWARD_FAULTS[fault](product.backward)))
    of_states, of_gradients = distances(adapted()[0])
    assert of_states < 1.25
    assert of_gradients > 10


def test_gradients_by_formula_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    hidden, down, up = (torch.randn(*s, requires_grad=True) for s in ((2, 7, 12), (3, 12), (10, 3)))
    weight, bias = torch.randn(10, 12), torch.randn(10)
    ours = low_rank._LowRankProduct.apply(hidden, weight, bias, down, up)
    wanted = hidden @ weight.t() + bias + hidden @ down.t() @ up.t()
    torch.testing.assert_close(ours, wanted)
    gradient = torch.randn_like(ours)
    found = torch.autograd.grad(ours, (hidden, down, up), gradient)
    exact = torch.autograd.grad(wanted, (hidden, down, up), gradient)
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-4)


def test_fp32_is_pefts_path_bit_for_bit(calls) -> None:
    model, _ = adapted()
    plain = run(model, bf16=False)
    use_fused(model)
    ours = run(model, bf16=False)
    assert torch.equal(ours[0], plain[0])
    assert all(torch.equal(ours[1][name], plain[1][name]) for name in plain[1])
    assert not calls


def test_only_layers_that_do_what_the_formula_says() -> None:
    layer = adapted()[0].model.layers[0].mlp.up_proj
    assert is_adapted(layer)
    assert not is_adapted(layer.base_layer)
    layer.enable_adapters(False)
    assert not is_adapted(layer), "switched off"
    layer.enable_adapters(True)
    layer.base_layer.weight.requires_grad_(True)
    assert not is_adapted(layer), "its own weight is trained too"
    layer.base_layer.weight.requires_grad_(False)
    layer.lora_dropout["default"] = torch.nn.Dropout(0.1)
    assert not is_adapted(layer), "dropout"
    layer.lora_dropout["default"] = torch.nn.Identity()
    handle = layer.base_layer.register_forward_hook(lambda *_: None)
    assert not is_adapted(layer), "a hook acts on it"
    handle.remove()
    layer.merge()
    assert not is_adapted(layer), "merged"


def test_frozen_products_follow_their_weights_and_serve_training_after_an_evaluation() -> None:
    layer = adapted()[0].model.layers[0].mlp.up_proj
    hidden = torch.randn(3, 32).to(torch.bfloat16)
    with torch.inference_mode():
        before = adapted_linear(hidden, [layer])
    adapted_linear(hidden, [layer]).sum().backward()
    assert layer.lora_B["default"].weight.grad is not None
    with torch.no_grad():
        layer.base_layer.weight.add_(1)
    after = adapted_linear(hidden, [layer])
    torch.testing.assert_close(
        (after - before).float(), hidden.float().sum(1, True).expand(3, 48), atol=0.2, rtol=0.1
    )


def test_what_is_merged_is_whole_and_standard() -> None:
    model, handle = adapted()
    layer = model.model.layers[1].self_attn.q_proj
    wanted = layer.base_layer.weight + 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    use_pair_forward(model, log_prob_batch)
    with inference(model, "bf16"):
        adapted_linear(torch.randn(3, 32).to(torch.bfloat16), [layer])
    merge_lora(handle)
    merged = model.model.layers[1].self_attn.q_proj
    assert type(merged) is torch.nn.Linear
    torch.testing.assert_close(merged.weight, wanted)
    assert not any("frozen" in name for module in model.modules() for name in vars(module))


def test_adapters_come_from_their_seed_and_leave_all_generators_alone(monkeypatch) -> None:
    state = torch.get_rng_state()
    weights = []
    for seed in (0, 0, 1):
        model = tiny("llama")
        torch.set_rng_state(state)
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("seeded the GPUs"))
            add_lora(model, 4, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(torch.cat([w.flatten() for name, w in model.named_parameters() if "lora_A" in name]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
