"""Policies answer the same prompts; the answers are scored beside references and written as score files."""

import pandas as pd
import pytest

from rlhf_hw.experiments.answers import answer, gold_of, movement, sample_prompts
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel


@pytest.fixture(scope="module")
def policies(policy_folder, other_folder):
    return {"base": load_policy(policy_folder), "dpo": load_policy(other_folder)}


def test_answers_are_scored_beside_the_reference_and_written(
    policies, policy_folder, reward_folder, preferences, tmp_path
):
    asked, renderer = sample_prompts(preferences, 6, seed=1), Renderer.load(policy_folder)
    reward_model = RewardModel(reward_folder)
    found = answer(
        asked,
        policies,
        renderer,
        reward_model,
        tmp_path / "scores",
        "held_out",
        lambda prompt, reply: float(len(reply)),
        max_new_tokens=6,
    )
    names = [path.name for path in sorted((tmp_path / "scores").iterdir())]
    assert names == [f"generated_held_out_{policy}.jsonl" for policy in ("base", "dpo", "reference")]
    reference = found.tables["reference"]
    assert reference["response"].tolist() == [p.chosen for p in asked]
    assert gold_of(reference).tolist() == [float(len(p.chosen)) for p in asked]
    alone = reward_model.score([p.prompt for p in asked], [[p.chosen] for p in asked])[:, 0]
    assert reference["score"].tolist() == pytest.approx(alone.tolist(), abs=1e-4)
    assert [meta["row"] for meta in found.tables["dpo"]["meta"]] == [p.row for p in asked]
    moved = movement(found, policies, renderer, 0.1)
    assert (moved["kl"] > 0).all() and moved["implicit"].abs().min() > 0
    assert moved["score"].tolist() == (found.tables["dpo"]["score"] - found.tables["base"]["score"]).tolist()
    still = movement(found, dict.fromkeys(policies, policies["base"]), renderer, 0.1)
    assert still[["kl", "implicit"]].abs().to_numpy().max() < 1e-4


def test_gold_is_known_where_every_reply_has_it():
    table = pd.DataFrame({"meta": [{"gold": 1.0}, {}]})
    assert gold_of(table) is None and gold_of(table.iloc[:1]).tolist() == [1.0]
    assert gold_of(pd.DataFrame({"score": [1.0]})) is None
