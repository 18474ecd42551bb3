"""Policies of several replicates answer the same prompts; own reward model and judge score the answers."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments.answers import answer, gold_of, meta_column, sample_prompts
from rlhf_hw.experiments.replicate_work import AnswerSettings
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.pipeline.graph import replica

SETTING = AnswerSettings(sampling={"max_new_tokens": 6}, best_of=3, best_of_prompts=4)


@pytest.fixture(scope="module")
def asked(preferences):
    return {
        "validation": sample_prompts(preferences, 6, seed=1),
        "train": sample_prompts(preferences, 3, seed=2),
    }


@pytest.fixture(scope="module")
def second_reward_folder(other_folder, tmp_path_factory):
    """A reward model of its own: another body and another head."""
    model = RewardModel(other_folder, seed=3, untrained=True)
    folder = tmp_path_factory.mktemp("rewards") / "second"
    model.model.save_pretrained(folder)
    model.renderer.save(folder)
    return folder


@pytest.fixture(scope="module")
def answers(asked, policy_folder, other_folder, reward_folder, second_reward_folder, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("RLHF_HW_WORKERS", "1")
    replicates = [
        {"sft": other_folder, "dpo": policy_folder, "reward_model": reward_folder},
        {"sft": policy_folder, "dpo": other_folder, "reward_model": second_reward_folder},
    ]
    folder = tmp_path_factory.mktemp("run") / "scores"
    found = answer(
        asked,
        policy_folder,
        replicates,
        folder,
        SETTING,
        gold=lambda prompt, reply: float(len(reply)),
        named=replica,
    )
    patch.undo()
    return found, folder


def test_every_replicate_has_its_files(answers):
    names = {path.name for path in answers[1].iterdir()}
    sets = [f"{s}_{p}" for s in ("validation", "train") for p in ("base", "sft", "dpo", "reference")]
    expected = {f"generated_{name}{k}.jsonl" for name in [*sets, "samples_sft"] for k in ("", "-1")}
    assert names == expected


def test_own_reward_model_and_judge_score_each_reply(answers, asked, reward_folder, second_reward_folder):
    tables = answers[0].tables["validation"]
    models = [RewardModel(folder) for folder in (reward_folder, second_reward_folder)]
    prompts = [p.prompt for p in asked["validation"]]
    for policy in ("base", "sft", "dpo", "reference"):
        for k, table in enumerate(tables[policy]):
            texts = [[text] for text in table["response"]]
            own, judge = (models[(k + j) % 2].score(prompts, texts)[:, 0] for j in (0, 1))
            assert table["score"].tolist() == pytest.approx(own.tolist(), abs=1e-4)
            assert meta_column(table, "judge_score").tolist() == pytest.approx(judge.tolist(), abs=1e-4)
    assert tables["reference"][1]["response"].tolist() == [p.chosen for p in asked["validation"]]
    assert tables["base"][0]["response"].equals(tables["base"][1]["response"])
    assert gold_of(tables["dpo"][1]).tolist() == [float(len(text)) for text in tables["dpo"][1]["response"]]
    assert [meta["row"] for meta in tables["sft"][1]["meta"]] == [p.row for p in asked["validation"]]


def test_policies_draw_with_the_same_random_numbers(answers):
    tables = answers[0].tables["train"]
    assert tables["dpo"][0]["response"].equals(tables["base"][0]["response"])  # one checkpoint, one reply
    assert not tables["sft"][0]["response"].equals(tables["base"][0]["response"])


def test_divergences_are_those_of_the_steps(answers):
    moved = answers[0].moved
    assert moved["sft_base"].shape == (2, 6) and set(moved) == {"sft_base", "dpo_sft", "dpo_base"}
    assert (moved["sft_base"][0] > 0).all() and np.abs(moved["sft_base"][1]).max() < 1e-4
    assert np.abs(moved["dpo_base"][0]).max() < 1e-4 and (moved["dpo_sft"] > 0).all()
    first = answers[0].implicit[0]
    assert first["implicit"].abs().min() > 0
    tables = answers[0].tables["validation"]
    assert first["score"].tolist() == (tables["dpo"][0]["score"] - tables["sft"][0]["score"]).tolist()


def test_samples_are_of_the_sft_policy_prompt_by_prompt(answers, asked):
    samples = answers[0].samples
    assert [len(table) for table in samples] == [12, 12]
    asked_for = [p.question for p in asked["validation"][:4] for _ in range(3)]
    assert samples[0]["prompt"].tolist() == asked_for
    assert samples[0]["response"].nunique() > 6
    assert samples[1]["response"].iloc[0] == answers[0].tables["validation"]["sft"][1]["response"].iloc[0]


def test_one_replicate_has_no_judge(asked, policy_folder, other_folder, reward_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_HW_WORKERS", "1")
    one = [{"sft": other_folder, "dpo": other_folder, "reward_model": reward_folder}]
    setting = AnswerSettings(sampling={"max_new_tokens": 3}, kl_prompts=1)
    few = {"validation": asked["validation"][:2]}
    found = answer(few, policy_folder, one, tmp_path, setting, named=replica)
    assert meta_column(found.tables["validation"]["dpo"][0], "judge_score") is None
    assert found.moved["sft_base"].shape == (1, 1) and len(found.implicit[0]) == 1
    assert found.samples == [] and gold_of(found.tables["validation"]["dpo"][0]) is None


def test_gold_is_known_where_every_reply_has_it():
    table = pd.DataFrame({"meta": [{"gold": 1.0}, {}]})
    assert gold_of(table) is None and gold_of(table.iloc[:1]).tolist() == [1.0]
    assert gold_of(pd.DataFrame({"score": [1.0]})) is None
