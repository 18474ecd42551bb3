import json

import numpy as np
import pytest
import torch

from rlhf_hw.experiments.score_texts import score_texts
from rlhf_hw.models import forward
from rlhf_hw.models.batches import group_tokens
from rlhf_hw.models.forward import end_states, inference
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import exact_kl, log_probs_groups
from rlhf_hw.models.scoring import RewardModel, score_groups


@pytest.fixture(scope="module")
def reward_model(reward_folder) -> RewardModel:
    return RewardModel(reward_folder, dtype="fp32")


@pytest.fixture(scope="module")
def policy(policy_folder):
    return load_policy(policy_folder)


@pytest.fixture(scope="module")
def reference(other_folder):
    return load_policy(other_folder)


def test_batch_size_and_order_change_nothing(groups, reward_model, policy, renderer, monkeypatch) -> None:
    order = np.random.default_rng(1).permutation(len(groups))
    rewards = score_groups(reward_model.model, groups, renderer.pad_id, "fp32")
    log_probs = log_probs_groups(policy, groups, renderer.pad_id, "fp32")
    assert rewards.shape == log_probs.shape == (24, 2)
    for size in (1, 200, 400):
        monkeypatch.setattr(forward, "TOKENS_PER_BATCH", size)
        part = groups.select(order)
        ours = score_groups(reward_model.model, part, renderer.pad_id, "fp32")
        np.testing.assert_allclose(ours, rewards[order], atol=1e-5)
        ours = log_probs_groups(policy, part, renderer.pad_id, "fp32")
        np.testing.assert_allclose(ours, log_probs[order], atol=1e-5, rtol=1e-5)


def test_text_ids_and_preferences_give_the_same_scores(reward_model, preferences, groups, renderer) -> None:
    expected = score_groups(reward_model.model, groups, renderer.pad_id, "fp32")
    texts = reward_model.score([p.prompt for p in preferences], [[p.chosen, p.rejected] for p in preferences])
    np.testing.assert_allclose(texts, expected, atol=1e-5)
    ids = reward_model.score_ids(
        renderer.prompt_ids([p.prompt for p in preferences]),
        renderer.reply_ids([p.rejected for p in preferences]),
    )
    np.testing.assert_allclose(ids, expected[:, 1], atol=1e-5)
    records = reward_model.score_preferences(preferences)
    assert [r["chosen_score"] for r in records] == pytest.approx(expected[:, 0], abs=1e-5)
    assert [r["id"] for r in records] == [p.row for p in preferences]
    lengths = [[r["chosen_tokens"], r["rejected_tokens"]] for r in records]
    assert lengths == groups.reply_lengths.tolist()
    with pytest.raises(ValueError, match="same number of replies"):
        reward_model.score([preferences[0].prompt] * 3, [["a", "b"], ["c"], ["d", "e", "f"]])


def test_pairs_made_equal_by_truncation_get_no_score(reward_folder, preferences) -> None:
    short = RewardModel(reward_folder, dtype="fp32", max_reply_tokens=2)
    records = short.score_preferences(preferences)
    assert 0 < len(records) < len(preferences)
    assert [preferences[r["id"]].chosen for r in records] == [r["chosen"] for r in records]


def test_score_file_of_pairs(reward_folder, reward_model, preferences, rows, pairs_file, tmp_path) -> None:
    output = tmp_path / "deep" / "scores.jsonl"
    assert (
        score_texts([pairs_file], str(reward_folder), output, template="HOMEWORK", limit=20, dtype="fp32")
        == 20
    )
    records = [json.loads(line) for line in output.read_text().splitlines()]
    first = records[1]  # no earlier turns in the file's row, nor in this preference
    assert (first["prompt"], first["chosen"]) == (rows[1]["question"], preferences[1].chosen)
    p = preferences[1]
    expected = reward_model.score([p.prompt], [[p.chosen, p.rejected]])[0]
    assert [first["chosen_score"], first["rejected_score"]] == pytest.approx(expected, abs=1e-5)


def test_score_file_of_replies(reward_folder, reward_model, preferences, tmp_path) -> None:
    rows = [
        {"id": f"r{i}", "prompt": [m._asdict() for m in p.prompt], "response": p.chosen, "finished": True}
        for i, p in enumerate(preferences)
    ]
    source, output = tmp_path / "replies.jsonl", tmp_path / "scores.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert score_texts([source], str(reward_folder), output, dtype="fp32") == 24
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [r["id"] for r in records] == [f"r{i}" for i in range(24)] and records[0]["finished"] is True
    expected = reward_model.score([p.prompt for p in preferences], [[p.chosen] for p in preferences])[:, 0]
    assert [r["score"] for r in records] == pytest.approx(expected, abs=1e-5)
    source.write_text('{"prompt": "a", "reply": "b"}\n')
    with pytest.raises(KeyError, match="line 1: key 'response' is missing; give --template"):
        score_texts([source], str(reward_folder), output)


def test_kl_of_a_model_from_itself_is_zero(groups, policy, renderer) -> None:
    np.testing.assert_allclose(exact_kl(policy, policy, groups, renderer.pad_id, "fp32"), 0, atol=1e-5)


@pytest.mark.parametrize("limit", [2**25, 1000])
def test_kl_equals_brute_force(groups, policy, reference, renderer, monkeypatch, limit) -> None:
    monkeypatch.setattr(forward, "MAX_LOGITS", limit)
    found = exact_kl(policy, reference, groups, renderer.pad_id, "fp32")
    assert found.min() > 0.1
    for index in (0, 7, 13):
        start, *ends = groups.offsets[index].tolist()
        prompt = groups.ids[start : ends[0]].tolist()
        for column, (a, b) in enumerate(zip(ends, ends[1:], strict=False)):
            ids = torch.tensor([prompt + groups.ids[a:b].tolist()])
            with torch.no_grad():
                p, q = (
                    m(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                    for m in (policy, reference)
                )
            expected = sum(math_kl(p[t].tolist(), q[t].tolist()) for t in range(len(p)))
            assert found[index, column] == pytest.approx(expected, rel=1e-4)


def math_kl(p: list[float], q: list[float]) -> float:
    """KL divergence from log-probabilities, token by token."""
    return sum(np.exp(a) * (a - b) for a, b in zip(p, q, strict=True))


def test_end_states_times_head_are_the_rewards(groups, reward_model, renderer) -> None:
    states = end_states(reward_model.model, groups, renderer.pad_id, "fp32")
    assert states.shape == (24, 2, 32)
    head = reward_model.model.score.weight.detach().cpu().numpy()[0]
    rewards = score_groups(reward_model.model, groups, renderer.pad_id, "fp32")
    np.testing.assert_allclose(states @ head, rewards, atol=1e-4)


def test_bf16_is_close_and_scores_stay_apart(groups, reward_model, renderer) -> None:
    exact, rough = (score_groups(reward_model.model, groups, renderer.pad_id, d) for d in ("fp32", "bf16"))
    assert rough.dtype == np.float32
    assert np.corrcoef(exact.ravel(), rough.ravel())[0, 1] > 0.999
    assert len(np.unique(rough)) == rough.size  # a head in bf16 would round near-equal scores together


def test_inference_restores_the_mode(policy) -> None:
    policy.train()
    with inference(policy, "fp32"):
        assert not policy.training and not torch.is_grad_enabled()
    assert policy.training
    policy.eval()
    with inference(policy, "bf16"):
        assert torch.is_autocast_enabled("cpu")
    assert not policy.training


def test_replies_alone(reward_model) -> None:
    one = group_tokens([[5, 6, 7]], [[[8, 2]]])
    assert score_groups(reward_model.model, one, 0, "fp32").shape == (1, 1)
