"""Replies that are sampled and scored once: equal texts score alike, shares of the work change nothing."""

import json

import numpy as np
import pytest

from rlhf_hw.experiments.replicate_work import AnswerSettings
from rlhf_hw.experiments.selection import many_replies
from rlhf_hw.experiments.selection.many_replies import Sources, load_many, make_many, sample_many
from rlhf_hw.models.scoring import RewardModel

SETTINGS = AnswerSettings(dtype="fp32", sampling={"max_new_tokens": 6, "seed": 3})


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("RLHF_HW_WORKERS", "1")


def test_all_is_written_and_read_back(preferences, policy_folder, reward_folder, tmp_path):
    sources = Sources(policy_folder, [reward_folder, reward_folder], policy_folder)

    def gold(question: str, reply: str) -> float:
        return float(len(reply))

    made = make_many(preferences[:3], (preferences, preferences[:5]), sources, 6, SETTINGS, gold, tmp_path)
    read = load_many(tmp_path)
    assert {name: array.shape for name, array in read.items()} == {
        "gold": (3, 6),
        "words": (3, 6),
        "scores": (2, 3, 6),
        "averaged": (3, 6),
        "states": (3, 6, 32),
        "train": (24, 2, 32),
        "held_out": (5, 2, 32),
    }
    assert all((read[name] == made[name]).all() for name in read)
    rows = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines()]
    texts = [row["response"] for row in rows]
    assert made["gold"].ravel().tolist() == [len(text) for text in texts]
    # two reward models that are one: their mean is that one
    assert np.allclose(made["averaged"], made["scores"][0], atol=1e-5)
    alone = RewardModel(reward_folder, dtype="fp32").score([preferences[1].prompt], [texts[6:12]])
    assert np.allclose(alone[0], made["scores"][0, 1], atol=1e-4)
    assert np.allclose(made["train"][:5], made["held_out"], atol=1e-4)
    assert made["train"].reshape(-1, 32).std(axis=0) == pytest.approx(1, abs=1e-3)


def test_equal_texts_have_equal_scores(preferences, reward_folder):
    prompts, words = [p.prompt for p in preferences[:2]], ["Rain.", "Tea.", "Warm tea.", "A cup."]
    texts = [[words[(3 * k + row) % 4] for k in range(10)] for row in range(2)]
    found = many_replies._scores([reward_folder], prompts, texts, SETTINGS)
    for row, scores in zip(texts, found, strict=True):
        assert len(set(zip(row, scores.tolist(), strict=True))) == len(set(row)) == len(set(scores))


def test_shares_of_prompts_have_random_numbers_of_their_own(preferences, policy_folder, monkeypatch):
    prompts = [preferences[1].prompt] * 4
    monkeypatch.setattr(many_replies, "SHARE", 2)
    found = sample_many(policy_folder, prompts, 3, SETTINGS)
    assert [len(row) for row in found] == [3] * 4
    assert len({tuple(row) for row in found}) == 4  # the same prompt four times, other replies each time
    assert found == sample_many(policy_folder, prompts, 3, SETTINGS)
