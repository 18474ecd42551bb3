"""One call takes the gaps of two policies apart and holds what the notebook shows and the report says."""

import pytest

from rlhf_hw.experiments.score_gap.decompose import ORDER, decompose
from rlhf_hw.experiments.score_gap.edits import FACTORS
from rlhf_hw.experiments.score_gap.faults import make_faults, make_items
from rlhf_hw.experiments.score_gap.planted_trials import planted_metrics, run_trials, share_table
from rlhf_hw.experiments.score_gap.take_apart import statements, take_apart
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.world.gold import gold


@pytest.fixture(scope="module")
def gaps(measure, replies, equal_replies):
    return {"base": measure(equal_replies, gold), "dpo": measure(replies, gold)}


@pytest.fixture(scope="module")
def trials(reward_model, few_preferences, ends):
    items = make_items(reward_model.renderer, few_preferences)
    faults = make_faults(reward_model.renderer, items, ends)
    return run_trials(items, faults, reward_model.score_ids, ends, trials=1, prompts=12)


def test_the_result_holds_gaps_gain_trials_and_claims(gaps, trials):
    found = take_apart(gaps, trials, price=0.5)
    assert list(found.parts) == ["base", "dpo", "gain"]
    for parts in found.parts.values():
        assert list(parts) == ["gap", *FACTORS, "quality", "ood", "rest"]
        total = sum(part.value for name, part in parts.items() if name != "gap")
        assert total == pytest.approx(parts["gap"].value)
    assert found.parts["dpo"]["gap"].value == pytest.approx(gaps["dpo"].cells[frozenset()].mean())
    keys = [f"{part}{end}" for part in found.parts["dpo"] for end in ("", "_low", "_high")]
    expected = {f"score_gap.{of}{key}" for of in ("", "base.", "gain.") for key in keys}
    expected |= {f"score_gap.{key}" for key in planted_metrics(trials)} | {"score_gap.gold_price"}
    assert set(found.metrics) == expected | {f"score_gap.distance{end}" for end in ("", "_low", "_high")}
    assert found.claims == statements(found.parts, found.distance) and found.tables == {}
    assert found.unfamiliar.columns.tolist() == ["base", "DPO"]
    assert found.texts("gain").columns.tolist() == ["DPO - base"]
    assert found.texts("base", "dpo").loc["length", "DPO"] == f"{found.parts['dpo']['length']:+.2f}"
    if found.planted["planted.trials"]:
        assert found.shares[1:] == share_table(trials)[1:]


def test_without_gold_there_is_no_quality_and_no_price(measure, replies, equal_replies, trials):
    found = take_apart({"base": measure(equal_replies), "dpo": measure(replies)}, trials)
    assert "quality" not in found.parts["dpo"] and "score_gap.gold_price" not in found.metrics


def test_the_gain_is_taken_apart_as_the_gaps_are(gaps, trials):
    gain = gaps["dpo"].minus(gaps["base"])
    found = take_apart(gaps, trials, price=0.5, seed=3)
    options = {"stages": ORDER, "gold_gap": gain.gold, "gold_price": 0.5, "ood": gain.unfamiliar, "seed": 3}
    assert found.parts["gain"] == decompose(gain.cells, FACTORS, gain.prompts, **options)


def test_statements_are_those_that_the_intervals_bear_out():
    above, around, below = Estimate(1, 0.5, 2), Estimate(0, -1, 1), Estimate(-1, -2, -0.5)
    parts = {"dpo": {"gap": below, "ood": above}, "gain": {"gap": above, "length": above, "rest": below}}
    said = statements(parts, around)
    assert {name for name, holds in said.items() if holds} == {
        "gain_from_length",
        "loss_from_rest",
        "score_gap_ood_in_gap",
        "score_gap_negative",
    }
    assert statements(parts, above)["score_gap_less_familiar"]
