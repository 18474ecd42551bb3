"""Sampled replies stand beside those of the data, each scored as it would be alone."""

import pytest

from rlhf_hw import inference
from rlhf_hw.models import load_policy
from rlhf_hw.rendering import Renderer
from rlhf_hw.scoring import RewardModel


def test_replies_beside_data_holds_both_and_scores_each_as_alone(
    policy_folder, reward_folder, preferences, tmp_path
):
    chosen = inference.sample_prompts(preferences, 5, seed=0)
    reward_model = RewardModel(reward_folder)
    table = inference.replies_beside_data(
        chosen,
        load_policy(policy_folder),
        Renderer.load(policy_folder),
        reward_model,
        tmp_path / "scores.jsonl",
        lambda prompt, reply: float(len(reply)),
        samples=3,
        max_new_tokens=6,
    )
    assert len(table) == 25 and table["prompt_key"].nunique() == 5
    assert [m["source"] for m in table["meta"]][:5] == ["chosen", "rejected"] + ["sampled"] * 3
    assert table["response"].tolist()[5:7] == [chosen[1].chosen, chosen[1].rejected]
    assert inference.gold_of(table).tolist() == [float(len(text)) for text in table["response"]]
    alone = reward_model.score([p.prompt for p in chosen], [[text] for text in table["response"][3::5]])
    assert table["score"][3::5].tolist() == pytest.approx(alone[:, 0].tolist(), abs=1e-4)
    assert table["response"][2] != table["response"][3]  # every sample has random numbers of its own
