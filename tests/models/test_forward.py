import gc
import json
import math
import shutil
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_hw.models import forward
from rlhf_hw.models.attention import ATTENTION
from rlhf_hw.models.batches import build_batch, group_tokens
from rlhf_hw.models.forward import compile_layers, log_prob_batch, score_batch, use_pair_forward
from rlhf_hw.models.loading import load_policy, load_reward_model, pick_dtype
from rlhf_hw.training import losses

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def sequences(groups, index: int) -> tuple[list[int], list[list[int]]]:
    """One prompt and its replies as plain lists."""
    start, *ends = groups.offsets[index].tolist()
    parts = [groups.ids[a:b].tolist() for a, b in zip([start, *ends[:-1]], ends, strict=True)]
    return parts[0], parts[1:]


def plain_scores(model, groups, indices) -> torch.Tensor:
    """Rewards by transformers' own forward, one unpadded sequence at a time."""
    rows = []
    for index in indices:
        prompt, replies = sequences(groups, index)
        rows.append(torch.cat([model(input_ids=torch.tensor([prompt + r])).logits[0] for r in replies]))
    return torch.stack(rows)


def plain_log_probs(model, groups, indices) -> torch.Tensor:
    """Reply log-probabilities from transformers' own logits, one unpadded sequence at a time."""
    rows = []
    for index in indices:
        prompt, replies = sequences(groups, index)
        row = []
        for reply in replies:
            logits = model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
            row.append(logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same_gradients(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].abs().max() > 0, name
        torch.testing.assert_close(ours[name], theirs[name], **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


INDICES = [4, 0, 11, 7, 3]


def test_rewards_and_their_gradients_equal_separate_forwards(groups, reward_folder, renderer) -> None:
    ours = load_reward_model(reward_folder)
    plain = AutoModelForSequenceClassification.from_pretrained(reward_folder, dtype=torch.float32)
    rewards = score_batch(ours, **build_batch(groups, INDICES, renderer.pad_id))
    expected = plain_scores(plain, groups, INDICES)
    assert expected.std() > 0.1
    torch.testing.assert_close(rewards, expected, **CLOSE)
    pair = [(losses.bradley_terry(r) + 0.01 * losses.mean_square(r)).mean() for r in (rewards, expected)]
    assert_same_gradients(gradients(ours, pair[0]), gradients(plain, pair[1]))


def test_log_probs_and_their_gradients_equal_separate_forwards(
    groups, policy_folder, other_folder, renderer
) -> None:
    ours = load_policy(policy_folder)
    plain = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float32)
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="replies")
    log_probs = log_prob_batch(ours, **batch)
    expected = plain_log_probs(plain, groups, INDICES)
    torch.testing.assert_close(log_probs, expected, **CLOSE)
    with torch.no_grad():
        reference = log_prob_batch(load_policy(other_folder), **batch)
    pair = [losses.dpo(lp, reference, beta=0.1).mean() for lp in (log_probs, expected)]
    assert_same_gradients(gradients(ours, pair[0]), gradients(plain, pair[1]))


def test_the_last_mlp_works_where_it_is_read(groups, reward_folder, policy_folder, renderer) -> None:
    for load, run, targets in (
        (load_reward_model, score_batch, "none"),
        (load_policy, log_prob_batch, "replies"),
    ):
        model = load(str(reward_folder if targets == "none" else policy_folder)).train()
        batch = build_batch(groups, INDICES, renderer.pad_id, targets=targets)
        seen = []
        model.model.layers[-1].mlp.down_proj.register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(inputs[0].shape[:-1].numel())
        )
        some = run(model, **batch)
        model.activation_checkpointing_enable()
        every = run(model, **batch)
        read = batch["ends"].numel() if targets == "none" else len(batch["used"])
        assert seen == [read, batch["input_ids"].numel()] and read < seen[1]
        torch.testing.assert_close(some, every, **CLOSE)
        assert_same_gradients(gradients(model, some.sum()), gradients(model, every.sum()))


def test_compiled_layers_compute_the_same(groups, reward_folder, renderer) -> None:
    plain, compiled = (load_reward_model(reward_folder).train() for _ in range(2))
    compile_layers(compiled, backend="eager")  # what is traced, without the minute of a C++ compiler
    calls = [layer._compiled_call_impl is not None for layer in compiled.model.layers]
    assert calls == [True] * (len(calls) - 1) + [False]
    for indices in (INDICES, INDICES[:2]):  # rows of other lengths, the same code
        batch = build_batch(groups, indices, renderer.pad_id)
        ours, theirs = (score_batch(model, **batch) for model in (compiled, plain))
        torch.testing.assert_close(ours, theirs, **CLOSE)
        assert_same_gradients(gradients(compiled, ours.sum()), gradients(plain, theirs.sum()))
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_more_than_two_replies(groups, reward_folder, renderer) -> None:
    prompts, replies = zip(*(sequences(groups, i) for i in range(4)), strict=True)
    three = group_tokens(prompts, [[*r, r[0][: len(r[0]) // 2 + 1]] for r in replies])
    with torch.no_grad():
        ours = score_batch(load_reward_model(reward_folder), **build_batch(three, range(4), renderer.pad_id))
        plain = AutoModelForSequenceClassification.from_pretrained(reward_folder, dtype=torch.float32)
        torch.testing.assert_close(ours, plain_scores(plain, three, range(4)), **CLOSE)


def test_a_batch_has_one_mask_for_all_layers(groups, reward_folder, renderer) -> None:
    model, batch = load_reward_model(reward_folder).train(), build_batch(groups, INDICES, renderer.pad_id)
    rows, length = batch["input_ids"].shape
    for autocast in (False, True):
        kept = {}

        def keep(x, kept=kept):
            kept[x.untyped_storage().data_ptr()] = x
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                rewards = score_batch(model, **batch)
        square = [x for x in kept.values() if x.shape[-2:] == (length, length)]
        assert [x.untyped_storage().nbytes() for x in square] == [rows * length**2 * (2 if autocast else 4)]
        rewards.sum().backward()


def test_log_probs_are_the_same_with_and_without_gradients(policy_folder) -> None:
    generator = np.random.default_rng(0)
    texts = [[generator.integers(5, 200, n).tolist() for n in (170, 160, 150)] for _ in range(20)]
    groups = group_tokens([t[0] for t in texts], [t[1:] for t in texts])
    model, batch = load_policy(policy_folder), build_batch(groups, range(20), 0, targets="replies")
    with torch.autocast("cpu", torch.bfloat16):
        trained = log_prob_batch(model, **batch)
        with torch.no_grad():
            reference = log_prob_batch(model, **batch)
    assert torch.equal(trained, reference)
    assert losses.dpo(trained, reference, beta=0.1).mean().item() == pytest.approx(math.log(2), abs=1e-3)


def test_nothing_outlives_its_use(groups, reward_folder, renderer) -> None:
    model = use_pair_forward(load_reward_model(reward_folder), score_batch)
    model(**build_batch(groups, INDICES, renderer.pad_id)).sum().backward()
    parts = [weakref.ref(module) for module in model.modules()]
    gc.collect()
    gc.disable()
    try:
        del model
        assert not [type(part()).__name__ for part in parts if part() is not None]
    finally:
        gc.enable()


def test_sum_of_log_probs_is_minus_the_models_own_loss(groups, policy_folder, renderer) -> None:
    model = load_policy(policy_folder)
    with torch.no_grad():
        ours = log_prob_batch(model, **build_batch(groups, INDICES, renderer.pad_id, targets="replies"))
        for row, index in enumerate(INDICES):
            prompt, replies = sequences(groups, index)
            for column, reply in enumerate(replies):
                labels = torch.tensor([[-100] * len(prompt) + reply])
                mean = model(input_ids=torch.tensor([prompt + reply]), labels=labels).loss
                assert ours[row, column].item() == pytest.approx(
                    -mean.item() * len(reply), abs=1e-4, rel=1e-5
                )


def test_chunks_of_the_head_change_nothing(groups, policy_folder, renderer, monkeypatch) -> None:
    model = load_policy(policy_folder)
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="replies")
    found = []
    for limit in (2**25, 7 * model.config.vocab_size, 1):
        monkeypatch.setattr(forward, "MAX_LOGITS", limit)
        log_probs = log_prob_batch(model, **batch)
        found.append((log_probs.detach(), gradients(model, log_probs.mean() / 10)))
    for log_probs, grads in found[1:]:
        torch.testing.assert_close(log_probs, found[0][0], **CLOSE)
        assert_same_gradients(grads, found[0][1])


def test_a_new_head_depends_on_its_seed_only(policy_folder, groups, renderer) -> None:
    torch.manual_seed(123)
    first, second = load_reward_model(policy_folder, seed=0), load_reward_model(policy_folder, seed=0)
    other = load_reward_model(policy_folder, seed=1)
    assert torch.equal(first.score.weight, second.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    with torch.no_grad():
        rewards = score_batch(first, **build_batch(groups, range(len(groups)), renderer.pad_id))
    assert 0.2 < rewards.std() < 3


def test_a_head_named_as_in_align_anything_is_read(reward_folder, groups, renderer, tmp_path) -> None:
    folder = shutil.copytree(reward_folder, tmp_path / "theirs")
    weights = load_file(folder / "model.safetensors")
    weights["score_head.weight"] = weights.pop("score.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["TheirQwen2RewardModel"]}))
    batch = build_batch(groups, INDICES, renderer.pad_id)
    with torch.no_grad():
        theirs, ours = (score_batch(load_reward_model(f), **batch) for f in (folder, reward_folder))
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize(
    ("source", "lost", "load"),
    [
        ("reward_folder", "score.weight", load_reward_model),
        ("reward_folder", "model.layers.1.mlp.up_proj.weight", load_reward_model),
        ("policy_folder", "model.layers.0.self_attn.q_proj.bias", load_policy),
    ],
)
def test_missing_weights_are_refused(request, tmp_path, source, lost, load) -> None:
    folder = shutil.copytree(request.getfixturevalue(source), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks weights, for example {lost}"):
        load(folder)


def test_logits_changed_after_the_head_are_refused(policy_folder, tmp_path) -> None:
    folder = shutil.copytree(policy_folder, tmp_path / "scaled")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"final_logit_softcapping": 30.0}))
    with pytest.raises(ValueError, match="final_logit_softcapping after the head are not supported"):
        load_policy(folder)


def test_a_classifier_with_several_labels_is_refused(reward_folder, tmp_path) -> None:
    folder = shutil.copytree(reward_folder, tmp_path / "classes")
    config = json.loads((folder / "config.json").read_text())
    labels = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    (folder / "config.json").write_text(json.dumps(config | labels))
    with pytest.raises(ValueError, match="this checkpoint has 3"):
        load_reward_model(folder)


def test_weights_are_fp32(policy_folder, reward_folder) -> None:
    for model in (load_policy(policy_folder), load_reward_model(reward_folder)):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert model.config._attn_implementation == ATTENTION


def test_pick_dtype(monkeypatch) -> None:
    assert pick_dtype("fp32") == torch.float32 and pick_dtype("bf16") == torch.bfloat16
    with pytest.raises(ValueError, match="auto, bf16 or fp32, found 'fp16'"):
        pick_dtype("fp16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})  # bf16 by emulation only
    assert pick_dtype("auto") == torch.float32
