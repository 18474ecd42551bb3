"""Sampled replies stand beside those of the data, each scored as it would be alone."""

import pandas as pd
import pytest

from rlhf_hw.experiments.answers import gold_of, sample_prompts
from rlhf_hw.experiments.within_prompts import order_within_prompts, replies_beside_data, score_beside
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel


def test_replies_beside_data_holds_both_and_scores_each_as_alone(
    policy_folder, reward_folder, preferences, tmp_path
):
    chosen = sample_prompts(preferences, 5, seed=0)
    reward_model = RewardModel(reward_folder)
    beside = replies_beside_data(
        chosen,
        load_policy(policy_folder),
        Renderer.load(policy_folder),
        lambda prompt, reply: float(len(reply)),
        written=[[f"Reply {row}."] for row in range(5)],
        samples=2,
        max_new_tokens=6,
    )
    table = score_beside(beside, reward_model, tmp_path / "scores.jsonl")
    assert len(table) == 25 and table["prompt_key"].nunique() == 5
    assert [m["source"] for m in table["meta"]][:5] == ["chosen", "rejected", "written", "sampled", "sampled"]
    assert table["response"].tolist()[5:8] == [chosen[1].chosen, chosen[1].rejected, "Reply 1."]
    assert gold_of(table).tolist() == [float(len(text)) for text in table["response"]]
    alone = reward_model.score([p.prompt for p in chosen], [[text] for text in table["response"][3::5]])
    assert table["score"][3::5].tolist() == pytest.approx(alone[:, 0].tolist(), abs=1e-4)
    assert table["response"][3] != table["response"][4]  # every sample has random numbers of its own


def replies(**scores: tuple[float, ...]) -> pd.DataFrame:
    """The same five replies to each prompt, with these scores."""
    sources = ["chosen", "rejected", "written", "sampled", "sampled"]
    rows = [
        {"prompt_key": prompt, "score": score, "meta": {"source": source, "gold": gold}}
        for prompt, values in scores.items()
        for source, score, gold in zip(sources, values, (3, 1, 2, 0, 1), strict=True)
    ]
    return pd.DataFrame(rows)


def test_order_within_prompts_keeps_sampled_replies_apart():
    found = order_within_prompts([replies(a=(3.0, 1.0, 2.0, 9.0, 8.0), b=(3.0, 1.0, 2.0, 9.0, 8.0))])
    assert (found["gold_spearman_within"], found["gold_spearman_sampled"]) == (1.0, -1.0)
    assert found["gold_spearman_within_prompts"] == found["gold_spearman_sampled_prompts"] == 2
    assert found["gold_spearman_drop"] == 2.0
    assert found["gold_sd_within"] == 1.0 and found["gold_sd_sampled"] == pytest.approx(0.5**0.5)


def test_orders_are_averaged_over_replicates_on_the_same_prompts():
    first = replies(a=(3, 1, 2, 8, 9), b=(3, 1, 2, 8, 9), c=(3, 1, 2, 5, 5))
    second = replies(a=(1, 3, 2, 8, 9), b=(3, 1, 2, 9, 8), c=(3, 1, 2, 8, 9))
    found = order_within_prompts([first, second])
    assert found["gold_spearman_within"] == pytest.approx((1 + 1 + 1 - 1 + 1 + 1) / 6)
    # the first replicate does not order the samples of c: the prompt is left out for both
    assert found["gold_spearman_sampled_prompts"] == found["gold_spearman_drop_prompts"] == 2
    assert found["gold_spearman_sampled"] == pytest.approx((1 + 1 + 1 - 1) / 4)
    assert found["gold_spearman_drop"] == pytest.approx((0 + 0 + -2 + 2) / 4)
    assert found["gold_spearman_sampled_trainings_low"] < 0.5 < found["gold_spearman_sampled_trainings_high"]
