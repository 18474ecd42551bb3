"""One call takes the gaps of all replicates apart and holds what the notebook shows and the report says."""

from types import SimpleNamespace

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap.decompose import PARTS
from rlhf_hw.experiments.score_gap.faults import make_faults, make_items
from rlhf_hw.experiments.score_gap.planted_trials import run_trials
from rlhf_hw.experiments.score_gap.replicate_gaps import ReplicateGaps
from rlhf_hw.experiments.score_gap.take_apart import shared_rows, statements, take_apart
from rlhf_hw.experiments.score_gap.trial_counts import count_trials, share_table
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import Replicated, replicated_mean


@pytest.fixture(scope="module")
def trials(reward_model, few_preferences, instruments, ends):
    items = make_items(reward_model.renderer, few_preferences)
    faults = make_faults(reward_model.renderer, items, ends)
    return run_trials(items, faults, instruments, trials=1, prompts=12)


@pytest.fixture(scope="module")
def replicates(measure, replies, equal_replies, few_preferences, trials):
    """Two replicates; in the second the policies differ, and one reply of SFT is empty."""
    swapped = replies.assign(response=[p.rejected for p in few_preferences], finished=True)
    first = {"base": measure(replies), "sft": measure(equal_replies), "dpo": measure(swapped)}
    holes = measure(equal_replies.assign(response=["", *equal_replies["response"][1:]]))
    second = {"base": measure(swapped), "sft": holes, "dpo": measure(replies)}
    names = {"generated": ["<|im_end|>"], "reference": ["<|im_end|>"]}
    return [ReplicateGaps(first, 0.5, trials, names), ReplicateGaps(second, 0.7, trials, names)]


def test_the_result_holds_gaps_steps_trials_and_claims(replicates, trials):
    found = take_apart(replicates)
    assert list(found.parts) == ["base", "sft", "dpo", "gain_sft", "gain_dpo"]
    for parts in found.parts.values():
        assert list(parts) == ["gap", *PARTS]
        total = sum(part.value for name, part in parts.items() if name != "gap")
        assert total == pytest.approx(parts["gap"].value)
    ends = ("", "_low", "_high", "_trainings_low", "_trainings_high")
    keys = [f"{part}{end}" for part in found.parts["dpo"] for end in ends]
    places = ("", "base.", "sft.", "gain_sft.", "gain_dpo.")
    expected = {f"score_gap.{of}{key}" for of in places for key in keys}
    expected |= {f"score_gap.{key}" for key in count_trials([trials, trials]).metrics}
    expected |= {f"score_gap.distance{end}" for end in ends}
    expected |= {f"score_gap.gold_price{end}" for end in ("", "_trainings_low", "_trainings_high")}
    assert set(found.metrics) == expected and found.tables == {}
    assert found.metrics["score_gap.gold_price"] == pytest.approx(0.6) and found.prices == [0.5, 0.7]
    assert found.unfamiliar.columns.tolist() == ["base", "sft", "dpo"]
    assert found.texts("gain_dpo").loc["gap", "gain_dpo"].count("[") == 2  # both intervals
    if found.counted.metrics["planted.switches.heard"]:
        assert found.shares[1:] == share_table(trials)[1:]


def test_parts_are_means_over_replicates_on_the_rows_that_all_have(replicates):
    found = take_apart(replicates, seed=3)
    rows = shared_rows([gap for one in replicates for gap in one.gaps.values()])
    assert rows == replicates[0].gaps["base"].rows[1:]  # the empty reply has left one out everywhere
    gaps = [{policy: gap.at(rows) for policy, gap in one.gaps.items()} for one in replicates]
    prompts = gaps[0]["base"].prompts
    steps = [one["dpo"].minus(one["sft"]).parts(price) for one, price in zip(gaps, (0.5, 0.7), strict=True)]
    for name, part in found.parts["gain_dpo"].items():
        assert part == replicated_mean([step[name] for step in steps], prompts, seed=3)
    gain, after, before = (found.parts[name] for name in ("gain_dpo", "dpo", "sft"))
    for name in ("gap", "length", "truncation"):
        assert gain[name].value == pytest.approx(after[name].value - before[name].value)
    assert found.compared == pytest.approx(1 - 1 / 24)


def test_without_an_sft_model_dpo_gains_over_its_base(replicates):
    two = [ReplicateGaps({p: o.gaps[p] for p in ("base", "dpo")}, o.price, o.trials, {}) for o in replicates]
    found = take_apart(two)
    assert list(found.parts) == ["base", "dpo", "gain_dpo"]
    difference = found.parts["dpo"]["gap"].value - found.parts["base"]["gap"].value
    assert found.parts["gain_dpo"]["gap"].value == pytest.approx(difference)


def test_without_gold_there_is_no_quality_and_no_price_and_one_training_has_one_interval(replicates):
    found = take_apart([ReplicateGaps(replicates[0].gaps, None, replicates[0].trials, {})])
    assert "quality" not in found.parts["dpo"] and found.prices == []
    assert not any("gold_price" in key or "trainings" in key for key in found.metrics)


def borne(*parts):
    known = dict.fromkeys(PARTS, False) | dict.fromkeys(parts, True)
    return SimpleNamespace(borne=known, heard=known)


def number(value, prompts=0.5, trainings=0.5):
    return Replicated(
        value,
        Estimate(value, value - prompts, value + prompts),
        Estimate(value, value - trainings, value + trainings),
    )


def test_statements_hold_beyond_both_intervals_and_on_parts_that_trials_bear_out():
    above, below = number(1), number(-1)
    lucky_prompts, lucky_trainings = number(1, prompts=2), number(1, trainings=2)
    parts = {
        "dpo": {"gap": below, "quality": above, "ood": above},
        "gain_sft": {"gap": above, "length": lucky_trainings, "quality": above, "rest": above},
        "gain_dpo": {"gap": above, "length": lucky_prompts, "template": below, "rest": below},
    }
    said = statements(parts, lucky_trainings, borne("length", "template", "quality"))
    held = {name for name, holds in said.items() if holds}
    assert {name for name in held if "bears" not in name and "tests" not in name} == {
        "sft_gain_from_quality",
        "dpo_loss_from_template",
        "score_gap_sft_parts_shown",
        "score_gap_dpo_parts_shown",
        "score_gap_quality_in_gap",
        "score_gap_negative",
    }
    nothing = statements(parts | {"gain_sft": {"gap": above, "ood": above}}, above, borne("length"))
    assert not nothing["score_gap_sft_parts_shown"] and not nothing["sft_gain_from_ood"]
    assert {"score_gap_bears_length", "score_gap_tests_quality"} <= held
    assert "score_gap_bears_ood" not in held
    everything = statements(parts, above, borne(*PARTS))
    assert everything["score_gap_less_familiar"] and everything["score_gap_ood_in_gap"]
    assert everything["sft_gain_from_rest"] and everything["dpo_loss_from_rest"]


def test_parts_that_trials_do_not_bear_out_are_doubtful(replicates):
    found = take_apart(replicates)
    expected = {name for name in PARTS if name in ("quality", "ood", "rest")}
    assert expected <= found.doubtful <= set(PARTS)
    assert np.isfinite([part.value for part in found.parts["dpo"].values()]).all()
