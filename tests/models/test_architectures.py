"""Families of models, tiny and random: equal to plain transformers on shared-prompt batches, or refused."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_hw.models import attention, long_rows
from rlhf_hw.models.attention import refuse_beyond_window
from rlhf_hw.models.batches import build_batch, group_tokens
from rlhf_hw.models.forward import backbone, log_prob_batch, score_batch, use_pair_forward
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.estimate import estimate
from rlhf_hw.training.lora import add_lora, merge_lora
from rlhf_hw.training.trainers import random_rates, without_dropout

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "vocab_size": 50}
SHAPE |= {"initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL_SHAPE = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 128}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}
NARROW_VALUES = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
NARROW_VALUES |= {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8}
NARROW_VALUES |= {"v_head_dim": 6, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "head_dim": 4}
NARROW_VALUES |= {"num_key_value_heads": 4}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
CAPPED = {"attn_logit_softcapping": 1.0, "final_logit_softcapping": None}
FAMILIES = {
    **dict.fromkeys(["qwen2", "qwen3", "llama", "mistral", "phi3", "gemma", "gemma3_text", "smollm3"], {}),
    **dict.fromkeys(["olmo2", "gpt_neox"], {}),
    **dict.fromkeys(["gpt2", "gpt_bigcode"], SMALL_SHAPE),
    "gptj": SMALL_SHAPE | {"rotary_dim": 4},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "falcon": {"alibi": False},
    "gemma2": CAPPED,
    "gemma3": {"text_config": SHAPE, "vision_config": VISION},
    "deepseek_v3": NARROW_VALUES,
    "mixtral": EXPERTS,
    "gpt_oss": EXPERTS,
}
NO_EXTRA = SHAPE | {"vocab_size_per_layer_input": 50, "hidden_size_per_layer_input": 0}
BY_A_MASK = "does not attend by a mask in all of its layers.*choose a model such as"
REFUSED = {
    "mamba": (
        {"state_size": 4},
        BY_A_MASK,
        "no model of type 'mamba' for AutoModelForSequenceClassification",
    ),
    "rwkv": (
        {"context_length": 32},
        BY_A_MASK,
        "no model of type 'rwkv' for AutoModelForSequenceClassification",
    ),
    "bloom": ({}, BY_A_MASK, BY_A_MASK),
    "falcon": ({"alibi": True}, BY_A_MASK, BY_A_MASK),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, BY_A_MASK, "no model of type 'lfm2'"),
    "gemma2": ({"final_logit_softcapping": 30.0}, "changed by final_logit_softcapping.*choose a model", None),
    "gemma3": (
        {"text_config": SHAPE | {"final_logit_softcapping": 30.0}, "vision_config": VISION},
        "changed by final_logit_softcapping after the head",
        None,
    ),
    "gemma4": (
        {"text_config": NO_EXTRA | {"final_logit_softcapping": 30.0}, "vision_config": VISION},
        "changed by final_logit_softcapping after the head",
        "no model of type 'gemma4' for AutoModelForSequenceClassification",
    ),
    "cohere": ({}, "changed by logit_scale after the head", "no model of type 'cohere'"),
    "granite": ({"logits_scaling": 8.0}, "changed by logits_scaling after the head", "no model of type"),
    "qwen3_5": (
        {"text_config": SHAPE | {"layer_types": ["linear_attention", "full_attention"]}},
        BY_A_MASK,
        "no model of type|does not attend",
    ),
}


def shape_of(family: str, settings: dict):
    """The configuration of a tiny model of this family."""
    shape = {} if "text_config" in settings else dict(SHAPE)
    if family == "falcon":
        del shape["head_dim"]  # computed there
    return AutoConfig.for_model(family, **shape | settings)


def tiny(family: str, settings: dict, folder) -> str:
    """A checkpoint of a random language model of this family."""
    AutoModelForCausalLM.from_config(shape_of(family, settings)).save_pretrained(folder)
    return str(folder)


def texts() -> list[tuple[list[int], list[list[int]]]]:
    """Prompts with two replies each, as ids."""
    generator = torch.Generator().manual_seed(0)
    lengths = [(7, (5, 9)), (12, (11, 3))]
    ids = lambda n: torch.randint(3, 50, (n,), generator=generator).tolist()  # noqa: E731
    return [(ids(prompt), [ids(n) for n in replies]) for prompt, replies in lengths]


def groups():
    prompts, replies = zip(*texts(), strict=True)
    return group_tokens(prompts, replies)


def plain(model, of_a_row) -> torch.Tensor:
    """What transformers' own forward gives, a sequence at a time."""
    logits = lambda p, r: model(input_ids=torch.tensor([p + r])).logits[0]  # noqa: E731
    return torch.stack([torch.stack([of_a_row(logits(p, r), p, r) for r in rs]) for p, rs in texts()])


def log_prob(logits, prompt, reply) -> torch.Tensor:
    each = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return each.gather(1, torch.tensor(reply)[:, None]).sum()


def plain_scores(folder) -> torch.Tensor:
    own = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return plain(own.eval(), lambda logits, prompt, reply: logits[0])


@pytest.fixture(params=["with a mask", "by parts"])
def attended(request, monkeypatch) -> None:
    """Both ways that rows are attended, whatever their length."""
    monkeypatch.setattr(long_rows, "LONG_ROW", 1 if request.param == "by parts" else 10**6)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_shared_prompts_give_what_plain_transformers_gives(family, attended, tmp_path) -> None:
    folder = tiny(family, FAMILIES[family], tmp_path / "policy")
    policy = load_policy(folder).eval()
    found = log_prob_batch(policy, **build_batch(groups(), [0, 1], 0, targets="replies"))
    own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    expected = plain(own.eval(), log_prob)
    assert expected.std() > 5
    torch.testing.assert_close(found, expected, **CLOSE)
    load_reward_model(folder).save_pretrained(tmp_path / "reward")
    reward = load_reward_model(tmp_path / "reward").eval()
    scores, expected = (
        score_batch(reward, **build_batch(groups(), [0, 1], 0)),
        plain_scores(tmp_path / "reward"),
    )
    assert expected.std() > 0.1
    torch.testing.assert_close(scores, expected, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bf16_a_training_step_is_near_the_one_in_fp32(family, attended, tmp_path) -> None:
    folder, found = tiny(family, FAMILIES[family], tmp_path), []
    for enabled in (False, True):
        model = load_reward_model(folder).eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            scores = score_batch(model, **build_batch(groups(), [0, 1], 0))
        scores.square().sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((scores.detach(), gradient))
    (exact, direction), (rounded, other) = found
    assert (rounded - exact).norm() < 0.05 * exact.norm()
    assert torch.cosine_similarity(direction, other, dim=0) > 0.99


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_by_parts_are_those_with_a_mask(family, tmp_path, monkeypatch) -> None:
    model, found = load_policy(tiny(family, FAMILIES[family], tmp_path)).eval(), []
    own_code = model.config.get_text_config()._attn_implementation == "eager"
    stand_ins = []
    stand_in = attention.in_place_of_mask
    monkeypatch.setattr(attention, "in_place_of_mask", lambda *x: stand_ins.append(x) or stand_in(*x))
    for limit in (10**6, 1):
        monkeypatch.setattr(long_rows, "LONG_ROW", limit)
        model.zero_grad()
        log_prob_batch(model, **build_batch(groups(), [0, 1], 0, targets="replies")).mean().div(10).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert len(stand_ins) == (0 if own_code else 1), "by parts unless the model's own code is kept"
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, found[0][name], **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_no_family_draws_at_random_once_dropout_is_off(family) -> None:
    config = shape_of(family, FAMILIES[family])
    for part in (config, config.get_text_config()):
        rates = {name for name, value in vars(part).items() if isinstance(value, float)}
        for name in [name for name in rates if "drop" in name or "jitter" in name]:
            setattr(part, name, 0.5)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()
    ids = torch.arange(3, 15)[None]

    def one_result() -> bool:  # of several: OPT drops whole layers, and may happen to drop the same
        passes = [backbone(model)(input_ids=ids, use_cache=False).last_hidden_state for _ in range(8)]
        return all(torch.equal(passes[0], other) for other in passes)

    assert not one_result()
    without_dropout(model)
    assert one_result()
    assert random_rates(model.config.get_text_config()), "what is saved keeps its rates"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_will_need_is_known_for_each_family(family, settings, tmp_path) -> None:
    folder = tiny(family, FAMILIES[family], tmp_path / "model")
    needs = estimate(settings(RewardTraining, model=folder, lora_rank=2), groups())
    assert needs.activations > 0 and 0 < needs.trained < needs.parameters
    assert needs.parameters == sum(p.numel() for p in load_policy(folder).parameters())


@pytest.mark.parametrize("family", REFUSED)
def test_what_would_be_computed_wrongly_is_refused(family, tmp_path) -> None:
    settings, policy, reward = REFUSED[family]
    folder = tiny(family, settings, tmp_path)
    with pytest.raises(ValueError, match=f"^{folder}: .*{policy}"):
        load_policy(folder)
    if reward is not None:
        with pytest.raises(ValueError, match=f"^{folder}: .*({reward})"):
            load_reward_model(folder)


def test_a_window_in_a_nested_configuration_counts(tmp_path) -> None:
    text = SHAPE | {"sliding_window": 20}
    folder = tiny("gemma3", {"text_config": text, "vision_config": VISION}, tmp_path)
    for model in (load_policy(folder), load_reward_model(folder)):
        refuse_beyond_window(model, 20)
        with pytest.raises(ValueError, match="21 tokens.*to the last 20 only"):
            refuse_beyond_window(model, 21)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_bigcode", "gemma3"])
def test_a_step_changes_what_plain_transformers_reads(family, rank, tmp_path) -> None:
    folder = tiny(family, FAMILIES[family], tmp_path / "policy")
    model, batch = load_reward_model(folder).eval(), build_batch(groups(), [0, 1], 0)
    use_pair_forward(model, score_batch)
    adapters = add_lora(model, rank, 0, model.score) if rank else None
    trained = [p for p in model.parameters() if p.requires_grad]
    before = model(**batch)
    optimizer = torch.optim.SGD(trained, lr=0.01)
    for _ in range(2):  # the first moves adapters' B only, which begins at 0
        optimizer.zero_grad()
        model(**batch).sum().backward()
        optimizer.step()
    if adapters is not None:
        inner = sum(p.numel() for p in trained) - model.score.weight.numel()
        assert 0 < inner < sum(p.numel() for p in model.parameters()) / 3
        merge_lora(adapters)
    model.save_pretrained(tmp_path / "after")
    with torch.no_grad():
        after, expected = model(**batch), plain_scores(tmp_path / "after")
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(after, expected, **CLOSE)
