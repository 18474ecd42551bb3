"""Models whose long rows are attended by parts against the same models with a mask of L x L."""

import math

import pytest
import torch
from ragged_rows import ROWS, batch_of, groups_of
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_hw.models import long_rows as module
from rlhf_hw.models.batches import build_batch
from rlhf_hw.models.forward import compile_layers, log_prob_batch, score_batch, use_pair_forward
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.models.log_probs import exact_kl, log_probs_groups
from rlhf_hw.training import losses

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
MODELS = {"qwen2": {}, "qwen3": {}, "llama": {}, "mistral": {"sliding_window": 64}, "gpt2": None}


def tiny(family: str, folder) -> str:
    """A checkpoint of a random model of two layers, 4 query heads for 2 key heads."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8} | (MODELS[family] or {})
    if MODELS[family] is None:
        shape = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "vocab_size": 50}
        shape |= {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, initializer_range=0.2, pad_token_id=0, **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def step(model, run, rows, bf16: bool = False, **settings) -> tuple[torch.Tensor, dict]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = run(model, **batch_of(rows, **settings))
    found.mean().div(10).backward()
    return found.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(ours, theirs, tolerance=CLOSE) -> None:
    torch.testing.assert_close(ours[0], theirs[0], **tolerance)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture
def counted(monkeypatch) -> list:
    """Rows that were attended by parts, one entry a layer."""
    seen, pieces = [], module._pieces
    monkeypatch.setattr(module, "_pieces", lambda ends: seen.append(ends) or pieces(ends))
    return seen


@pytest.mark.parametrize("limit", [1, 40], ids=["all long", "some long"])
@pytest.mark.parametrize("family", MODELS)
def test_models_and_their_gradients_are_those_with_a_mask(
    family, limit, tmp_path, monkeypatch, counted
) -> None:
    policy = load_policy(tiny(family, tmp_path)).eval()
    reward = load_reward_model(tmp_path).eval()
    for model, run, rows, settings in (
        (policy, log_prob_batch, "pairs", {"targets": "replies"}),
        (policy, log_prob_batch, "single", {"targets": "all"}),
        (reward, score_batch, "pairs", {}),
        (reward, score_batch, "four", {}),
    ):
        monkeypatch.setattr(module, "LONG_ROW", 10**6)
        wanted = step(model, run, ROWS[rows], **settings)
        assert not counted
        monkeypatch.setattr(module, "LONG_ROW", limit)
        same(step(model, run, ROWS[rows], **settings), wanted)
        long = sum(sum(row) >= limit for row in ROWS[rows])
        assert len(counted) == 2 * 2 * long and 0 < long, "two layers, forward and backward"
        counted.clear()


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral"])
def test_the_faster_layers_attend_by_parts_too(family, tmp_path, monkeypatch, counted) -> None:
    model = use_pair_forward(load_policy(tiny(family, tmp_path)).train(), log_prob_batch)
    run = lambda model, **batch: model(**batch)  # noqa: E731
    found = []
    for bf16, limit in ((False, 10**6), (True, 10**6), (True, 1)):
        monkeypatch.setattr(module, "LONG_ROW", limit)
        values, gradients = step(model, run, ROWS["pairs"], bf16, targets="replies")
        found.append(torch.cat([values.flatten(), *(g.flatten() for g in gradients.values())]))
    exact, masked, parts = found
    assert counted and (parts - exact).norm() < 1.5 * (masked - exact).norm()


def test_recomputed_and_compiled_layers_attend_by_parts(tmp_path, monkeypatch, counted) -> None:
    monkeypatch.setattr(module, "LONG_ROW", 1)
    folder = tiny("qwen2", tmp_path)
    plain, recomputed, compiled = (load_reward_model(folder).train() for _ in range(3))
    recomputed.gradient_checkpointing_enable({"use_reentrant": False})
    compile_layers(compiled, backend="eager")
    torch._dynamo.utils.counters.clear()
    for number in range(2, 12):  # other lengths each time, the same compiled code
        rows = [(number + 20, 9, 3 * number), (8, number, 10)]
        wanted = step(plain, score_batch, rows)
        same(step(recomputed, score_batch, rows), wanted)
        same(step(compiled, score_batch, rows), wanted)
        if number == 4:
            graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def test_nothing_of_the_size_of_scores_is_kept(tmp_path, monkeypatch) -> None:
    model, rows = load_reward_model(tiny("qwen2", tmp_path)).train(), [(300, 100, 112), (200, 90, 200)]
    for limit, square in ((1, False), (10**6, True)):
        monkeypatch.setattr(module, "LONG_ROW", limit)
        sizes = []
        keep = lambda x, sizes=sizes: sizes.append(x.untyped_storage().nbytes()) or x  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            score_batch(model, **batch_of(rows)).sum().backward()
        assert (max(sizes) >= 4 * 512**2) == square


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_policy_agrees_with_its_reference_around_the_limit(tmp_path, monkeypatch, counted, dtype) -> None:
    """The reference meets the pairs in batches by length, the policy in others."""
    monkeypatch.setattr(module, "LONG_ROW", 128)
    rows = [(40 + 3 * n, 20 + n, 30 + n) for n in range(20)]  # 90 to 185 tokens
    groups, model = groups_of(rows), load_policy(tiny("qwen2", tmp_path))
    reference = torch.from_numpy(log_probs_groups(model, groups, 0, dtype))
    assert len(counted) == 2 * sum(sum(row) >= 128 for row in rows), "a layer each"
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        for some in ([0, 19, 5, 11], [7, 8, 9], [18]):
            policy = log_prob_batch(model, **build_batch(groups, some, 0, targets="replies"))
            loss = losses.dpo(policy, reference[some], beta=0.1).mean().item()
            assert loss == pytest.approx(math.log(2), abs=1e-5 if dtype == "fp32" else 2e-3)
    assert abs(exact_kl(model, model, groups, 0, dtype)).max() < 1e-5
