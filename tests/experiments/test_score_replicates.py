"""Several reward models score the same sets, as each would alone, or each the pairs of its part."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_hw.experiments.score_replicates import (
    ScoringJob,
    describe_learned,
    learned_pairs,
    score_jobs,
    some_of_each,
)
from rlhf_hw.experiments.within_prompts import replies_beside_data
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference

NAMES = "helpful, harmless"


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


def mixed(pairs: list[Preference]) -> list[Preference]:
    """Every third pair is of the part harmless."""
    sources = ["harmless-base" if n % 3 == 1 else "helpful-base" for n in range(len(pairs))]
    return [replace(p, meta={**p.meta, "source": s}) for p, s in zip(pairs, sources, strict=True)]


@pytest.fixture
def other_model(policy_folder, tmp_path) -> Path:
    """A reward model with another head."""
    made = RewardModel(policy_folder, seed=5, untrained=True)
    made.model.save_pretrained(tmp_path / "other")
    made.renderer.save(tmp_path / "other")
    return tmp_path / "other"


def test_each_pair_is_scored_by_the_model_of_its_part_and_by_no_other(
    reward_folder, other_model, preferences, tmp_path
):
    pairs, both, swapped = mixed(preferences[:11]), tmp_path / "both.jsonl", tmp_path / "swapped.jsonl"
    models = {"helpful": str(reward_folder), "harmless": str(other_model)}
    turned = dict(zip(models, reversed(models.values()), strict=True))
    jobs = [ScoringJob(models["helpful"], {both: pairs}, of_parts=models)]
    jobs += [ScoringJob(turned["helpful"], {swapped: pairs}, of_parts=turned)]
    (right,), (wrong,) = (done.pairs.values() for done in score_jobs(jobs, "fp32"))
    alone = {part: RewardModel(path, "fp32").score_preferences(pairs) for part, path in models.items()}
    own = [alone[p.meta["source"].partition("-")[0]][n]["chosen_score"] for n, p in enumerate(pairs)]
    assert right["chosen_score"].tolist() == pytest.approx(own, abs=1e-4)
    assert [list(right[side]) for side in ("chosen", "rejected")] == [
        [p.chosen for p in pairs],
        [p.rejected for p in pairs],
    ], "another order"
    assert list(right["id"]) == [p.row for p in pairs]
    assert all(abs(a - b) > 1e-3 for a, b in zip(wrong["chosen_score"], own, strict=True)), "the same model"


def test_a_pair_that_truncation_makes_equal_is_left_out_and_moves_no_other(
    reward_folder, other_model, preferences, tmp_path
):
    pairs = mixed(preferences[:8])
    first = " ".join(["Tea"] * 30)
    pairs[4] = replace(pairs[4], chosen=f"{first} good", rejected=f"{first} bad")  # harmless
    path, models = tmp_path / "pairs.jsonl", {"helpful": str(reward_folder), "harmless": str(other_model)}
    job = ScoringJob(models["helpful"], {path: pairs}, of_parts=models)
    ((table,),) = (done.pairs.values() for done in score_jobs([job], "fp32", max_reply_tokens=8))
    assert list(table["id"]) == [p.row for n, p in enumerate(pairs) if n != 4]


def test_a_pair_of_no_part_is_refused(reward_folder, preferences, tmp_path):
    models = {"helpful": str(reward_folder), "harmless": str(reward_folder)}
    job = ScoringJob(str(reward_folder), {tmp_path / "a.jsonl": preferences[:2]}, of_parts=models)
    with pytest.raises(ValueError, match="pair 1 belongs to no part"):
        score_jobs([job], "fp32")


@pytest.fixture
def sources(rows, tmp_path) -> str:
    """Three sources of two parts: 4 and 6 pairs of one, 8 of the other."""
    for name, some in (("helpful-a", rows[:4]), ("helpful-b", rows[4:10]), ("harmless-a", rows[10:18])):
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / name / "train.jsonl").write_text(text, encoding="utf-8")
    return ", ".join(str(tmp_path / name) for name in ("helpful-a", "harmless-a", "helpful-b"))


def test_models_of_parts_learn_from_the_first_pairs_of_each_part(sources):
    pairs = learned_pairs(sources, "HOMEWORK", "train", 5, 4, NAMES)
    named = [p.meta["source"] for p in pairs]
    assert named[5:] == ["harmless-a"] * 5, "a part of one source names it, too"
    assert set(named[:5]) == {"helpful-a", "helpful-b"}
    (alone,) = {p.prompt for p in learned_pairs(sources, "HOMEWORK", "train", 1, 0, "helpful, harmless")[:1]}
    assert alone not in {p.prompt for p in pairs[:5]}, "none was skipped"
    mixture = learned_pairs(sources, "HOMEWORK", "train", 5)
    assert len(mixture) == 5 and {p.meta["source"] for p in mixture} > {"harmless-a"}
    assert [p.meta["source"][:4] for p in some_of_each(pairs, 4, NAMES)] == ["help", "help", "harm", "harm"]
    assert some_of_each(pairs, 4) == pairs[:4]


def test_what_replicates_share_is_said_of_each_part(sources):
    train = [learned_pairs(sources, "HOMEWORK", "train", 5, skip, NAMES) for skip in (0, 5)]
    found = describe_learned(train, NAMES)
    assert found.metrics["parts.helpful.learned"] == found.metrics["parts.harmless.learned"] == 5
    assert found.metrics["parts.helpful.shared"] == 0
    assert found.metrics["parts.harmless.shared"] == pytest.approx(2 / 5)  # 8 pairs: the set begins anew
    assert (
        found.claims["own_models"] and describe_learned(train[:1], NAMES).metrics["parts.helpful.shared"] == 0
    )
    assert describe_learned(train, "").metrics == {} and not describe_learned(train, "").claims["own_models"]
    assert describe_learned([], NAMES).metrics == {}
