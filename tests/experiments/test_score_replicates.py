"""Several reward models score the same sets, as each would alone."""

import pytest

from rlhf_hw.experiments.score_replicates import ScoringJob, score_jobs
from rlhf_hw.experiments.within_prompts import replies_beside_data
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel


def gold(prompt: str, reply: str) -> float:
    return float(len(reply))


def test_each_reward_model_scores_its_sets_and_writes_them(
    policy_folder, reward_folder, preferences, tmp_path
):
    beside = replies_beside_data(
        preferences[:2],
        load_policy(policy_folder),
        Renderer.load(policy_folder),
        gold,
        written=[["Tea."], ["Rain."]],
        samples=1,
        max_new_tokens=4,
    )
    second_model = RewardModel(policy_folder, seed=5, untrained=True)  # another head
    second_model.model.save_pretrained(tmp_path / "model")
    second_model.renderer.save(tmp_path / "model")
    first, second, third = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "third"))
    jobs = [
        ScoringJob(str(reward_folder), {first: preferences[:8], second: preferences[8:12]}),
        ScoringJob(str(tmp_path / "model"), {third: preferences[:8]}, (beside, tmp_path / "beside.jsonl")),
    ]
    trained, other = score_jobs(jobs, "fp32", max_prompt_tokens=64)
    assert [len(trained.pairs[path]) for path in (first, second)] == [8, 4] and trained.beside is None
    expected = RewardModel(reward_folder, dtype="fp32", max_prompt_tokens=64).score_preferences(
        preferences[:8]
    )
    assert trained.pairs[first]["chosen_score"].tolist() == pytest.approx(
        [row["chosen_score"] for row in expected], abs=1e-4
    )
    assert other.pairs[third]["margin"].tolist() != trained.pairs[first]["margin"].tolist()
    assert len(other.beside) == 8 and all(path.exists() for path in (first, second, third))
