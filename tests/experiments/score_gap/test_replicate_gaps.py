"""One replicate is measured from its files alone, so that it can be done in a process of its own."""

import pytest

from rlhf_hw.experiments.score_gap.replicate_gaps import GapPlan, measure_replicate, own_prompts
from rlhf_hw.experiments.scored_pairs import score_pairs
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.score_files import write_scores

HELD_OUT = ("data/nano", "HOMEWORK", "validation")


@pytest.fixture(scope="module")
def plan(reward_model, reward_model_folder, replies, few_preferences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    rows = replies.assign(prompt=[p.question for p in few_preferences]).to_dict("records")
    score_pairs(reward_model, few_preferences, folder / "validation.jsonl")
    return GapPlan(
        reward_model=reward_model_folder,
        replies={p: write_scores(folder / f"{p}.jsonl", rows) for p in ("base", "dpo")},
        pairs=folder / "validation.jsonl",
        held_out=HELD_OUT,
        familiar=("data/nano", "HOMEWORK", "train", 20, 10),
        world=True,
        limits=(128, 128),
        dtype="fp32",
        trials=1,
        prompts=8,
    )


def test_a_replicate_has_gaps_a_price_and_trials_of_everything(plan, replies):
    found = measure_replicate(plan)
    assert list(found.gaps) == ["base", "dpo"] and found.price is not None
    assert len(found.gaps["dpo"].pairs) == len(replies)
    kinds = {factor for trial in found.trials for factor in trial.factors}
    assert {"length", "quality", "ood", "rest"} <= kinds
    assert found.end_names == {"generated": ["<|im_end|>"], "reference": ["<|im_end|>"]}
    named = {"readout", "template", "truncation", "length", "repetition", "quality", "ood", "rest"}
    assert set(found.trials[0].shares) == named


def test_each_replicate_has_prompts_of_its_own(plan):
    held_out = load_preferences(*HELD_OUT)[0]
    mine, next_one = (own_prompts(held_out, GapPlan(**{**vars(plan), "number": number})) for number in (0, 1))
    assert len(mine) == 8 and not {p.row for p in mine} & {p.row for p in next_one}
    assert len(own_prompts(held_out[:5], plan)) == 5
